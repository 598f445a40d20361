"""Passwords: hashed as RFC 9106 says, away from the loop, and never an endless queue of them."""

from __future__ import annotations

import asyncio
import threading

import pytest
from argon2 import extract_parameters
from argon2.profiles import CHEAPEST, RFC_9106_LOW_MEMORY

from api.passwords import Passwords
from api.problems import Problem

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_password_matches_its_hash_and_no_other() -> None:
    async with Passwords() as passwords:
        known = await passwords.hash("correct horse")
        assert extract_parameters(known) == RFC_9106_LOW_MEMORY
        assert await passwords.matches(known, "correct horse")
        assert not await passwords.matches(known, "correct horsf")
        assert extract_parameters(passwords._nobodys) == RFC_9106_LOW_MEMORY


async def test_nobody_matches_nothing_and_a_broken_hash_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.passwords.RFC_9106_LOW_MEMORY", CHEAPEST)
    async with Passwords() as passwords:
        assert not await passwords.matches(None, "correct horse")
        assert not await passwords.matches("not a hash", "correct horse")


async def test_the_loop_goes_on_meanwhile_and_a_flood_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.passwords.WAITING", 3)
    release = threading.Event()

    class Slow:
        def hash(self, password: str) -> str:
            release.wait(20)
            return password

    async with Passwords() as passwords:
        monkeypatch.setattr(passwords, "_hasher", Slow())
        waiting = [asyncio.create_task(passwords.hash(f"{n}")) for n in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Problem, match="overloaded"):
            await passwords.hash("one too many")
        release.set()
        assert await asyncio.gather(*waiting) == ["0", "1", "2"]
        assert await passwords.hash("again") == "again"
