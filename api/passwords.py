"""Passwords: Argon2id with RFC 9106's parameters for little memory (3 passes, 64 MiB, 4 lanes), away from the event loop."""

import asyncio
import base64
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Self, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from api.problems import Problem, invalid

T = TypeVar("T")

AT_ONCE: Final = 2
"""Hashes under way at a time, 64 MiB each."""

WAITING: Final = 512
"""Calls that may wait for a hash; more are refused, because they would wait for minutes."""


class Passwords:
    """Hashes and checks. `async with` owns the threads."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
        self._nobodys = _hash_of_nobody()
        self._threads: ThreadPoolExecutor | None = None
        self._asked = 0

    async def __aenter__(self) -> Self:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="argon2")
        return self

    async def __aexit__(self, *failure: object) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    async def hash(self, password: str) -> str:
        """The hash to keep, with its parameters and salt. Raises `Problem` overloaded."""
        return await self._away(lambda: self._hasher.hash(password))

    async def matches(self, known: str | None, password: str) -> bool:
        """Whether the password is the one behind this hash. None (no such account) costs the same and never matches."""
        return await self._away(lambda: self._verified(known or self._nobodys, password)) and known is not None

    def outdated(self, known: str) -> bool:
        """Whether a hash has other parameters than those of today."""
        return self._hasher.check_needs_rehash(known)

    def _verified(self, known: str, password: str) -> bool:
        try:
            return self._hasher.verify(known, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _away(self, work: Callable[[], T]) -> T:
        if self._threads is None or self._asked >= WAITING:
            raise Problem("overloaded", "Too many passwords wait to be checked. Try again after the time in Retry-After.")
        self._asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._asked -= 1


def check_password(password: str) -> None:
    """8 to 1024 bytes, none of them NUL. Raises `Problem`."""
    if not 8 <= len(password.encode()) <= 1024:
        raise invalid("password", "must have 8 to 1024 bytes in UTF-8")
    if "\0" in password:
        raise invalid("password", "must not contain U+0000")


def _hash_of_nobody() -> str:
    """A hash with the same parameters that no password has."""
    salt, digest = (base64.b64encode(os.urandom(size)).decode().rstrip("=") for size in (16, 32))
    p = RFC_9106_LOW_MEMORY
    return f"$argon2id$v=19$m={p.memory_cost},t={p.time_cost},p={p.parallelism}${salt}${digest}"
