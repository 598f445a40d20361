"""The pool when PostgreSQL goes away: errors in time, and recovery by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest

from projections import columns
from projections.database import ANSWER_SECONDS, WAIT_SECONDS, Database, load_queries
from projections.errors import DatabaseUnavailable
from projections.progress import Progress
from tests.eventually import eventually
from tests.integration.gate import Gate, gate_to

ONE = b"SELECT 1 AS number"


@dataclass
class Number:
    number: int


def on(scenario: Callable[[Database, Gate], Awaitable[None]], url: str) -> None:
    async def main() -> None:
        async with gate_to(url) as (gate, through), Database(through) as database:
            await scenario(database, gate)

    asyncio.run(main())


async def answers(database: Database) -> bool:
    try:
        return await database.one(Number, ONE) == Number(1)
    except DatabaseUnavailable:
        return False


def test_is_unavailable_while_refused_and_recovers(database_url: str) -> None:
    async def scenario(database: Database, gate: Gate) -> None:
        assert await answers(database)
        await gate.shut()
        with pytest.raises(DatabaseUnavailable):
            await asyncio.wait_for(database.run(ONE), WAIT_SECONDS + 2)
        await gate.open()
        await eventually(lambda: answers(database))

    on(scenario, database_url)


def test_starts_while_nobody_is_there(database_url: str) -> None:
    async def scenario(database: Database, gate: Gate) -> None:
        assert await answers(database)

    async def main() -> None:
        async with gate_to(database_url) as (gate, through):
            await gate.shut()
            async with Database(through) as database:
                assert not await answers(database)
                await gate.open()
                await eventually(lambda: answers(database))

    asyncio.run(main())


def test_a_server_that_takes_no_notice_is_cut(database_url: str) -> None:
    async def scenario(database: Database, gate: Gate) -> None:
        assert await answers(database)
        gate.stick()
        with pytest.raises(DatabaseUnavailable):
            await asyncio.wait_for(database.run(ONE), WAIT_SECONDS + ANSWER_SECONDS + 3)
        await gate.open()
        await eventually(lambda: answers(database))

    on(scenario, database_url)


def test_connections_that_the_server_closed_are_not_handed_out(database_url: str) -> None:
    async def scenario(database: Database, gate: Gate) -> None:
        await asyncio.gather(*[database.run(b"SELECT pg_sleep(0.01)") for _ in range(8)])
        await gate.shut()
        await gate.open()
        assert await asyncio.gather(*[database.one(Number, ONE) for _ in range(8)]) == [Number(1)] * 8

    on(scenario, database_url)


def test_progress_comes_back(database_url: str) -> None:
    async def scenario(database: Database, gate: Gate) -> None:
        async with Progress(database.url) as progress:
            await eventually(lambda: progress.connected)
            await gate.shut()
            await eventually(lambda: not progress.connected)
            await gate.open()
            with progress.arrivals(UUID(int=1)) as arrival:
                assert await arrival.wait(10), "a reconnect wakes everybody: announcements may have been missed"
            await eventually(lambda: progress.connected)

    on(scenario, database_url)


def test_a_transaction_that_raises_leaves_nothing(database_url: str) -> None:
    async def scenario(database: Database, gate: Gate) -> None:
        with pytest.raises(KeyError):
            async with database.transaction() as transaction:
                await transaction.run(b"INSERT INTO offsets (topic, partition, next_offset) VALUES ('t', 0, 1)")
                raise KeyError
        assert await database.tuples(b"SELECT * FROM offsets") == []

    on(scenario, database_url)


def test_a_snapshot_that_is_cancelled_leaves_nothing_to_the_next_on_its_connection(database_url: str) -> None:
    async def sleeping(database: Database) -> None:
        async with database.snapshot() as snapshot:
            await snapshot.tuples(b"SELECT pg_sleep(60)")

    async def main() -> None:
        async with Database(database_url, most=1) as database, Database(database_url) as other:
            asleep = b"SELECT count(*) > 0 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%%pg_sleep(60)'"
            task = asyncio.create_task(sleeping(database))

            async def sleeps() -> bool:
                return await other.tuples(asleep) == [(True,)]

            await eventually(sleeps)
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
            await database.run(b"INSERT INTO offsets (topic, partition, next_offset) VALUES ('t', 0, 1)")
            assert await database.tuples(b"SHOW transaction_isolation") == [("read committed",)]

    asyncio.run(main())


def test_columns_arrive_as_they_were(database_url: str) -> None:
    ids = [uuid4(), None, uuid4()]
    sent = {
        "a": columns.uuids(ids),
        "b": columns.bigints([0, -(2**63), 2**63 - 1]),
        "c": columns.smallints([0, -1, 32767]),
        "d": columns.booleans([True, False, True]),
        "e": columns.texts(["", None, "ї"]),
        "f": columns.byteas([b"", b"\0", b"x" * 70_000]),
    }

    async def scenario(database: Database, gate: Gate) -> None:
        rows = await database.tuples(b"SELECT * FROM unnest(%(a)s, %(b)s, %(c)s, %(d)s, %(e)s, %(f)s)", **sent)
        assert rows == [
            (ids[0], 0, 0, True, "", b""),
            (None, -(2**63), -1, False, None, b"\0"),
            (ids[2], 2**63 - 1, 32767, True, "ї", b"x" * 70_000),
        ]
        assert await database.tuples(b"SELECT * FROM unnest(%(a)s)", a=columns.uuids([])) == []

    on(scenario, database_url)


def test_every_statement_has_a_name_and_a_sentence() -> None:
    for file in ("apply.sql", "reads.sql"):
        for name, statement in load_queries("projections", file).items():
            assert statement.startswith(b"-- "), f"{file}: {name} says not what it is for"


GUARDED = (b"reached(", b"live()")
INSIDE = {
    "evidence.sql": {"positions", "receipts", "account"},
    "reads.sql": {"decisions", "ends", "deliveries", "readings", "erasures", "repeats"},
    "apply.sql": set(load_queries("projections", "apply.sql")) - {"begin_partitions", "starts", "announce", "waiting"},
}
"""Statements that look at accounts alone, or run only in a snapshot, or in a projector's transaction, whose last statement
looks at the pointer."""


@pytest.mark.parametrize("file", ["reads.sql", "presence.sql", "apply.sql", "evidence.sql"])
def test_every_other_statement_checks_that_it_looks_into_the_live_schema(file: str) -> None:
    bare = {name for name, text in load_queries("projections", file).items() if not any(guard in text for guard in GUARDED)}
    assert bare == INSIDE.get(file, set())


def test_a_cancellation_that_meets_the_connection_is_not_lost(database_url: str) -> None:
    """Whichever moment it comes in: a task that was told to end must end, or it had answered before."""

    async def cancelled_after(database: Database, ticks: int) -> None:
        async with database.connection():
            waiting = asyncio.create_task(database.one(Number, ONE))
            await eventually(lambda: database._pool.get_stats()["requests_waiting"])
        for _ in range(ticks):
            await asyncio.sleep(0)
        told = waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled() == told, f"after {ticks} ticks"

    async def main() -> None:
        async with Database(database_url, most=1) as database:
            for ticks in range(12):
                await cancelled_after(database, ticks)

    asyncio.run(main())
