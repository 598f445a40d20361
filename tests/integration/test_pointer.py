"""Two places of the projection and one pointer: whatever a connection did before, it answers from the live one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import pytest

from projections import columns
from projections.apply import QUERIES, apply
from projections.database import Connection, Database
from projections.errors import NotMigrated, ProjectionMoved
from projections.pointer import PLACES
from projections.progress import CHANNEL, Progress
from projections.reads import START, Reads
from tests.builders import BOB, PHONE, an_id, log_of, registered, stored
from tests.eventually import eventually
from tests.integration.places import point_to, second_place
from tests.integration.projector_rig import Rig, running
from tests.integration.tables import everything

FIRST, SECOND = PLACES


def on(scenario: Callable[[Database], Awaitable[None]], url: str) -> None:
    async def main() -> None:
        await second_place(url)
        async with Database(url, most=3) as database:
            await scenario(database)

    asyncio.run(main())


async def fill(database: Database, messages: int) -> None:
    """So many messages, in the place that the pointer names."""
    async with database.snapshot():
        pass
    async with database.transaction() as transaction:
        await apply(transaction, log_of(registered(), *(stored(number) for number in range(1, messages + 1))))
        await transaction.run(b"INSERT INTO offsets (topic, partition, next_offset) VALUES ('restante.lifecycle', 0, 10)")


async def positions(database: Database) -> list[int]:
    page = await Reads(database).page(BOB, PHONE, after=0, limit=10, max_bytes=9999, floors={0: 10})
    assert page.pending == len(page.rows)
    return [row.position for row in page.rows]


def test_every_read_answers_from_the_live_place_also_by_prepared_statements(database_url: str) -> None:
    async def scenario(database: Database) -> None:
        await fill(database, 2)
        assert [await positions(database) for _ in range(3)] == [[1, 2]] * 3
        await point_to(database_url, SECOND)
        await fill(database, 3)
        for _ in range(3):
            held = [database.connection() for _ in range(3)]
            for one in held:
                await one.__aenter__()
            for one in held:
                await one.__aexit__(None, None, None)
            assert await asyncio.gather(*(positions(database) for _ in range(6))) == [[1, 2, 3]] * 6
        reads = Reads(database)
        assert (await reads.pending(BOB, PHONE), await reads.offsets()) == (3, {0: 10})
        assert len(await reads.messages(BOB, [an_id("msg", number) for number in (1, 2, 3)])) == 3
        await point_to(database_url, FIRST)
        assert await positions(database) == [1, 2]
        assert len(await reads.messages(BOB, [an_id("msg", number) for number in (1, 2, 3)])) == 2

    on(scenario, database_url)


def test_a_place_that_was_dropped_and_made_again_is_a_new_one(database_url: str) -> None:
    """The same name, other tables: what was prepared for the old ones is prepared again."""

    async def scenario(database: Database) -> None:
        await fill(database, 1)
        assert [await positions(database) for _ in range(3)] == [[1]] * 3
        await point_to(database_url, SECOND)
        await fill(database, 2)
        await database.run(b"DROP SCHEMA projection CASCADE")
        assert await positions(database) == [1, 2]
        await second_place(database_url, FIRST)
        await point_to(database_url, FIRST)
        await fill(database, 3)
        assert [await positions(database) for _ in range(3)] == [[1, 2, 3]] * 3

    on(scenario, database_url)


def test_the_dropped_place_sends_an_idle_connection_to_the_live_one(database_url: str) -> None:
    async def scenario(database: Database) -> None:
        await fill(database, 1)
        assert await positions(database) == [1]
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
            await other.execute("CREATE TABLE projection_2.offsets_of_another (LIKE projection.offsets)")
            await other.execute("DROP TABLE projection_2.offsets_of_another")
            await other.execute("INSERT INTO projection_2.offsets SELECT * FROM projection.offsets")
            await other.execute("UPDATE pointer.projection SET live = 'projection_2'")
            await other.execute("DROP SCHEMA projection CASCADE")
        assert await positions(database) == []
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
            await other.execute("DROP SCHEMA projection_2 CASCADE")
        with pytest.raises(NotMigrated):
            await positions(database)

    on(scenario, database_url)


def test_a_snapshot_stays_where_it_began(database_url: str) -> None:
    async def scenario(database: Database) -> None:
        await fill(database, 2)
        async with database.snapshot() as snapshot:
            await point_to(database_url, SECOND)
            assert await snapshot.tuples(b"SELECT count(*), live() FROM messages") == [(2, True)]
        await database.tuples(b"SELECT live()")
        assert await database.tuples(b"SELECT count(*) FROM messages") == [(0,)]

    on(scenario, database_url)


def test_a_projector_that_meant_the_old_place_writes_nothing_there(database_url: str) -> None:
    """It had begun before the pointer moved: it holds the offsets, and its last statement looks again."""

    async def scenario(database: Database) -> None:
        await fill(database, 1)

        async def fold(connection: Connection) -> None:
            await connection.run(b"UPDATE offsets SET next_offset = 11")
            await apply(connection, log_of(registered(), stored(1), stored(2)))

        with pytest.raises(ProjectionMoved):
            async with database.transaction() as transaction:
                await fold(transaction)
                await point_to(database_url, SECOND)
                await transaction.tuples(QUERIES["announce"], channel=CHANNEL, payloads=columns.texts(["x"]))
        assert await database.tuples(b"SELECT next_offset FROM projection.offsets") == [(10,)]
        assert await database.tuples(b"SELECT count(*) FROM projection.messages") == [(1,)]

    on(scenario, database_url)


def test_projectors_and_those_who_wait_go_on_in_the_new_place(database_url: str) -> None:
    async def scenario(database: Database) -> None:
        rig = Rig(database)
        rig.append(registered(), stored(1))
        async with running(rig.projector(), rig.projector()), Progress(database_url) as progress:
            await progress.reached(0, 2, timeout=5)
            await point_to(database_url, SECOND)
            rig.append(stored(2))
            await progress.reached(0, 3, timeout=5)
            await eventually(lambda: progress.applied(0) == 3)
            page = await Reads(database).page(BOB, PHONE, after=START, limit=10, max_bytes=9999, floors={0: 3})
            assert [row.position for row in page.rows] == [1, 2]
        assert (await everything(database))["messages"]
        assert await database.tuples(b"SELECT max(position) FROM projection.messages") == [(1,)]

    on(scenario, database_url)
