"""One partition made anew: its rows are right again, those of the others are as they were, and projectors go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from projections.compare import compare
from projections.database import Database
from projections.folds import FACTS, TOLD
from projections.rebuild import RebuildRefused, rebuild
from projections.refold import Log
from projections.replace import Replaced, replace_partition
from projections.runner import Projector
from projections.source import MemorySource, Raw
from schemas.events import Fact
from schemas.partitions import partition_for
from schemas.receipt import Receipt
from tests.builders import (
    BOB,
    LAPTOP,
    OTHER_SESSION,
    PHONE,
    SESSION,
    an_id,
    attempted,
    closed,
    delivered,
    entry,
    erased,
    opened,
    pending,
    read,
    receipt,
    registered,
    seen,
    stored,
)
from tests.eventually import eventually
from tests.integration.histories import log_in_memory
from tests.integration.projector_rig import raw_of, running
from tests.integration.tables import TABLES, everything
from tests.integration.test_receipt_projection import raw_of as raw_receipt

HERE = partition_for(BOB, 2)
THERE = 1 - HERE
CAROL = next(an_id("acct", number) for number in range(50, 99) if partition_for(an_id("acct", number), 2) == THERE)
DAVE = next(an_id("acct", number) for number in range(3, 49) if partition_for(an_id("acct", number), 2) == HERE)


@dataclass
class Rig:
    """Two partitions of both topics, in memory."""

    url: str
    database: Database
    facts: dict[int, list[Raw]] = field(default_factory=lambda: {0: [], 1: []})
    receipts: dict[int, list[Raw]] = field(default_factory=lambda: {0: [], 1: []})

    def append(self, *records: Fact | Receipt) -> None:
        for record in records:
            told = isinstance(record, Receipt)
            held = (self.receipts if told else self.facts)[partition_for(record.sender if told else record.recipient, 2)]
            held.append(raw_receipt(record, len(held)) if told else raw_of(record, len(held)))

    @property
    def log(self) -> Log:
        return log_in_memory(self.facts, self.receipts, some=100)

    def projectors(self) -> list[Projector]:
        async def nowhere(record: Any) -> None: ...

        return [
            Projector(MemorySource(lambda at, held=held: held[at], held), self.database, nowhere, fold=meaning)  # type: ignore[misc]
            for held, meaning in ((self.facts, FACTS), (self.receipts, TOLD))
        ]

    async def caught_up(self) -> bool:
        folded = await self.database.tuples(b"SELECT sum(next_offset)::bigint FROM offsets WHERE live()")
        return folded == [(sum(map(len, (*self.facts.values(), *self.receipts.values()))),)]

    async def live(self) -> None:
        async with running(*self.projectors()):
            await eventually(self.caught_up)

    async def replace(self, partition: int = HERE) -> Replaced:
        return await replace_partition(self.url, self.log, partition)

    async def clean(self) -> bool:
        return (await compare(self.url, self.log, lambda difference: None)).clean


def on(scenario: Callable[[Rig], Awaitable[None]], url: str) -> None:
    async def main() -> None:
        async with Database(url) as database:
            rig = Rig(url, database)
            for account, session, device, first in ((BOB, SESSION, PHONE, 1), (CAROL, OTHER_SESSION, LAPTOP, 101)):
                tablet = an_id("dev", 10 + first)
                rig.append(
                    registered(device, recipient=account),
                    registered(tablet, recipient=account),
                    opened(session, device, recipient=account),
                    stored(first, recipient=account),
                    attempted(first, 3, sessions=(seen(session, device),), recipient=account),
                    delivered(entry(first, 3), device=device, recipient=account),
                    read(entry(first, 3), device=device, recipient=account),
                    stored(first + 1, recipient=account),
                    stored(first + 1, recipient=account),
                    pending(first + 1, 7, recipient=account),
                    receipt(first, sender=account),
                )
            rig.append(registered(an_id("dev", 7), recipient=DAVE), stored(200, recipient=DAVE), erased(recipient=DAVE))
            rig.append(closed())
            await rig.live()
            await scenario(rig)

    asyncio.run(main())


def test_every_table_of_one_partition_and_of_no_other(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        good = await everything(rig.database)
        assert all(good.values()), "a table without rows shows nothing"
        await rig.database.run(f"TRUNCATE {', '.join(TABLES)}".encode())
        done = await rig.replace()
        halves = await everything(rig.database)
        assert (done.deleted, done.written) == (0, sum(map(len, halves.values())))
        assert all(halves[table] and all(row in good[table] for row in halves[table]) for table in TABLES)
        assert not any(str(CAROL) in str(rows) for rows in halves.values())
        await rig.replace(THERE)
        assert await everything(rig.database) == good
        again = await rig.replace()
        assert again.deleted == again.written == done.written
        assert await everything(rig.database) == good and await rig.clean()

    on(scenario, database_url)


def test_rows_that_no_record_made_go_and_the_other_partitions_stay(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        good = await everything(rig.database)
        for account in (DAVE, CAROL):
            await rig.database.run(b"INSERT INTO contacts VALUES (%(a)s, %(b)s)", a=account, b=PHONE)
        await rig.database.run(b"UPDATE messages SET sender = recipient")
        await rig.replace()
        found = await everything(rig.database)
        assert [row for row in found["contacts"] if row not in good["contacts"]] == [(CAROL, PHONE)]
        assert {row[1] for row in found["messages"] if row[1] == row[2]} == {CAROL}
        await rig.replace(THERE)
        assert await everything(rig.database) == good

    on(scenario, database_url)


def test_while_traffic_goes_on_the_projectors_go_on(database_url: str) -> None:
    """Also where the chain that they remember was not the one of the log."""

    async def scenario(rig: Rig) -> None:
        async with running(*rig.projectors()):
            rig.append(stored(300))
            await eventually(rig.caught_up)
            await rig.database.run(b"DELETE FROM mailbox")
            await rig.database.run(b"UPDATE offsets SET chain = 'x'")
            for number in range(301, 340):
                rig.append(stored(number), stored(100 + number, recipient=CAROL))
                await asyncio.sleep(0)
                if number % 13 == 0:
                    await rig.replace()
            await rig.replace(THERE)
            rig.append(stored(340), stored(500, recipient=CAROL))
            await eventually(rig.caught_up)
        assert await rig.clean()

    on(scenario, database_url)


def test_a_partition_that_is_not_there_is_refused(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        with pytest.raises(RebuildRefused, match="0 to 1, and no 2"):
            await rig.replace(2)

    on(scenario, database_url)


def test_what_another_partition_holds_in_its_way_is_named(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.database.run(b"UPDATE sessions SET account = %(carol)s", carol=CAROL)
        before = await everything(rig.database)
        with pytest.raises(RebuildRefused, match="without --partition"):
            await rig.replace()
        assert await everything(rig.database) == before
        await rebuild(rig.url, rig.log)
        assert await rig.clean()

    on(scenario, database_url)


def test_it_waits_for_who_holds_the_offsets(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        async with await psycopg.AsyncConnection.connect(rig.url) as other:
            await other.execute("SELECT FROM projection.offsets WHERE partition = %s FOR UPDATE", [HERE])
            going = asyncio.create_task(rig.replace())
            waits = b"SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"

            async def waiting() -> bool:
                return await rig.database.tuples(waits) == [(True,)]

            await eventually(waiting)
            await other.rollback()
        assert (await going).written

    on(scenario, database_url)
