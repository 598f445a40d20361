"""Ended tokens while PostgreSQL is away: what is known holds, and what was missed is learned."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import pytest

from api.accounts import Accounts
from api.revocations import Revocations
from api.tokens import Principal
from projections.database import Database
from tests.builders import ALICE, LAPTOP, PHONE
from tests.eventually import eventually
from tests.integration.gate import gate_to


async def registered(database: Database) -> Accounts:
    accounts = Accounts(database)
    await accounts.create(user_id=ALICE, name="alice", password_hash="", wrapped_key=b"key")
    for device, label in ((PHONE, "phone"), (LAPTOP, "laptop")):
        await accounts.device(ALICE, label, device)
    return accounts


def test_known_ends_hold_and_missed_ones_are_learned(database_url: str) -> None:
    phone, laptop = (Principal(ALICE, device, 0, 0) for device in (PHONE, LAPTOP))

    async def main() -> None:
        async with Database(database_url) as database, gate_to(database_url) as (gate, through):
            accounts = await registered(database)
            async with Revocations(through, ttl=900, clock=time.time) as ended:
                await accounts.revoke(PHONE)
                await eventually(lambda: ended.revoked(phone), within=5)
                await gate.shut()
                await eventually(lambda: not ended._listening.connected)
                assert ended.revoked(phone)
                await accounts.revoke(LAPTOP)
                assert not ended.revoked(laptop)
                await gate.open()
                await eventually(lambda: ended.revoked(laptop), within=5)

    asyncio.run(main())


def test_it_starts_while_nobody_is_there_and_learns_later(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.revocations.PATIENCE_SECONDS", 0.05)
    phone = Principal(ALICE, PHONE, 0, 0)

    async def main() -> None:
        async with Database(database_url) as database, gate_to(database_url) as (gate, through):
            await (await registered(database)).revoke(PHONE)
            await gate.shut()
            async with Revocations(through, ttl=900, clock=time.time) as ended:
                assert not ended.revoked(phone)
                await gate.open()
                await eventually(lambda: ended.revoked(phone), within=5)

    asyncio.run(main())


def test_what_is_older_than_any_token_is_not_even_loaded(database_url: str) -> None:
    async def main() -> None:
        async with Database(database_url) as database:
            await (await registered(database)).revoke(PHONE)
            old = b"UPDATE accounts.devices SET revoked_at = now() - interval '2 hours' WHERE device_id = %(device)s"
            await database.run(old, device=PHONE)
            async with Revocations(database_url, ttl=900, clock=time.time) as ended:
                assert ended._loaded.is_set()
                assert ended._ended == {}

    asyncio.run(main())


def test_a_note_of_an_earlier_time_and_of_no_device_changes_nothing(database_url: str) -> None:
    async def main() -> None:
        async with Database(database_url) as database:
            accounts = await registered(database)
            await accounts.seen({PHONE: 2_000.0, LAPTOP: 3_000.5})
            await accounts.seen({PHONE: 1_000.0, uuid4(): 5_000.0})
            rows = {row.device_id: row.last_seen_at_ms for row in await accounts.devices(ALICE)}
            assert rows == {PHONE: 2_000_000, LAPTOP: 3_000_500}

    asyncio.run(main())
