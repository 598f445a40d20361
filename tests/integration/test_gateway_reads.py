"""What a gateway asks PostgreSQL: devices that miss something, and pages that nobody counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from projections.apply import apply
from projections.database import Database
from projections.reads import START, Reads
from schemas.events import Fact
from tests.builders import ALICE, BOB, LAPTOP, PHONE, T0_MS, an_id, delivered, entry, log_of, registered, stored

LATER = T0_MS + 1_000_000
"""After everything: records are a second apart."""


def on(url: str, scenario: Callable[[Reads], Coroutine[Any, Any, None]]) -> None:
    """Bob's phone (0) and laptop (1); messages 1 to 3 for him at 2 to 4, one for Alice at 5; the laptop has acknowledged
    the first."""
    facts: list[Fact] = [
        registered(PHONE),
        registered(LAPTOP, event_id=an_id("ev", 8001)),
        stored(1),
        stored(2),
        stored(3),
        stored(4, recipient=ALICE, sender=BOB),
        delivered(entry(1, 2), device=LAPTOP),
    ]

    async def main() -> None:
        async with Database(url) as database:
            async with database.transaction() as transaction:
                await apply(transaction, log_of(*facts))
            await scenario(Reads(database))

    asyncio.run(main())


def test_a_device_misses_what_is_old_and_above_its_position(database_url: str) -> None:
    async def scenario(reads: Reads) -> None:
        async def missing(after: int, before_ms: int = LATER) -> list[object]:
            return await reads.stragglers([BOB], [PHONE], [after], stored_before_ms=before_ms)  # type: ignore[return-value]

        assert await missing(3) == [PHONE]
        assert await missing(4) == []
        assert await missing(3, T0_MS + 4_000) == []
        assert await missing(3, T0_MS + 4_001) == [PHONE]

    on(database_url, scenario)


def test_what_another_device_has_acknowledged_is_missed_by_this_one_only(database_url: str) -> None:
    async def scenario(reads: Reads) -> None:
        before_ms = T0_MS + 2_001  # only the first message is that old
        found = await reads.stragglers([BOB, BOB], [PHONE, LAPTOP], [START, START], stored_before_ms=before_ms)
        assert found == [PHONE]

    on(database_url, scenario)


def test_each_device_is_asked_with_its_own_user_and_position(database_url: str) -> None:
    async def scenario(reads: Reads) -> None:
        users, devices = [ALICE, BOB, BOB], [an_id("dev", 7), PHONE, LAPTOP]
        found = await reads.stragglers(users, devices, [START, 4, 3], stored_before_ms=LATER)
        assert sorted(found) == sorted([an_id("dev", 7), LAPTOP])
        assert await reads.stragglers([], [], [], stored_before_ms=LATER) == []

    on(database_url, scenario)


def test_a_page_that_nobody_counts_has_the_same_rows(database_url: str) -> None:
    async def scenario(reads: Reads) -> None:
        counted = await reads.page(BOB, PHONE, after=START, limit=2, max_bytes=10_000)
        quick = await reads.page(BOB, PHONE, after=START, limit=2, max_bytes=10_000, counted=False)
        assert [row.position for row in quick.rows] == [2, 3]
        assert (quick.rows, quick.has_more) == (counted.rows, counted.has_more)
        assert counted.pending == 3

    on(database_url, scenario)
