"""The projector: exactly once whoever reads, refusal of a foreign log, and going on after trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import psycopg
import pytest

from projections.errors import ForeignLogError, ProjectionBehind, SourceUnavailable
from projections.migrate import migrate, migrations, pending_migrations
from projections.progress import Progress
from projections.reads import START, Reads
from projections.source import MemorySource, Raw
from schemas.chain import Chain
from tests.builders import BOB, LAPTOP, PHONE, delivered, entry, pending, registered, stored
from tests.eventually import eventually
from tests.integration.projector_rig import STORY, Rig, on, raw_of, running
from tests.integration.tables import everything


def test_folds_what_is_there_and_what_comes(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(*STORY)
        async with running(rig.projector()):
            await rig.caught_up()
            page = await Reads(rig.database).page(BOB, PHONE, after=START, limit=10, max_bytes=1000)
            assert [row.position for row in page.rows] == [3]
            rig.append(stored(3))
            await rig.caught_up()
            page = await Reads(rig.database).page(BOB, LAPTOP, after=START, limit=10, max_bytes=1000)
            assert [row.position for row in page.rows] == [3, 7]

    on(scenario, database_url)


def test_a_dropped_projection_is_made_again_and_accounts_are_not_touched(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(*STORY)
        account = "INSERT INTO accounts.accounts (user_id, name, password_hash) VALUES (%(id)s, 'bob', 'x')"
        await rig.database.run(account.encode(), id=BOB)
        async with running(rig.projector()):
            await rig.caught_up()
        before = await everything(rig.database)
        await rig.database.run(b"DROP SCHEMA projection CASCADE")
        assert await pending_migrations(database_url) == [one.name for one in migrations() if one.schema == "projection"]
        await migrate(database_url)
        async with running(rig.projector()):
            await rig.caught_up()
        assert await everything(rig.database) == before
        assert await rig.database.tuples(b"SELECT name FROM accounts.accounts") == [("bob",)]

    on(scenario, database_url)


def test_two_that_hold_the_same_partitions_fold_each_record_once(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(registered())
        async with running(rig.projector(), rig.projector(), rig.projector()):
            for number in range(1, 60):
                rig.append(stored(number), pending(number))
                await asyncio.sleep(0)
                if number % 10 == 0:
                    await rig.caught_up()
            await rig.caught_up()
        counts = await rig.database.tuples(b"SELECT (SELECT count(*) FROM mailbox), (SELECT count(*) FROM repeats)")
        assert counts == [(59, 0)]

    on(scenario, database_url)


def test_a_paused_projector_that_was_replaced_writes_nothing(database_url: str) -> None:
    """The zombie took its records, slept, and wakes with them when another has folded them and more."""

    async def scenario(rig: Rig) -> None:
        rig.append(registered(), stored(1))
        asleep, awake, taken = asyncio.Event(), asyncio.Event(), asyncio.Event()

        class Sleepy(MemorySource):
            async def take(self, most: int, seconds: float) -> Mapping[int, Sequence[Raw]]:
                found = await super().take(most, seconds)
                if found and not awake.is_set():
                    asleep.set()
                    await awake.wait()
                taken.set()
                return found

        zombie = rig.projector(Sleepy(lambda partition: rig.log[partition], rig.log))
        async with running(zombie):
            await asleep.wait()
            async with running(rig.projector()):
                await rig.caught_up()
                rig.append(delivered(entry(1, 1)))
                await rig.caught_up()
            before = await everything(rig.database)
            awake.set()
            await taken.wait()
            rig.append(stored(2))
            await rig.caught_up()
        after = await everything(rig.database)
        assert before["mailbox"] == [] and [row[1] for row in after["mailbox"]] == [3]
        assert after["deliveries"] == before["deliveries"]

    on(scenario, database_url)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(lambda log: log.pop(), "the log ends at 6", id="shorter"),
        pytest.param(lambda log: log.__setitem__(-1, raw_of(stored(9), 6)), "is not the one that was folded", id="event"),
        pytest.param(
            lambda log: log.__setitem__(-1, replace(log[-1], at_ms=1)), "is not the one that was folded", id="time"
        ),
    ],
)
def test_refuses_another_log_than_it_knew(database_url: str, spoil: Callable[[list[Raw]], Any], says: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(*STORY)
        async with running(rig.projector()):
            await rig.caught_up()
        before = await everything(rig.database)
        spoil(rig.log[0])
        with pytest.raises(ForeignLogError, match=says) as refused:
            await asyncio.wait_for(rig.projector().run(), 10)
        assert "restante migrate" in str(refused.value)
        assert await everything(rig.database) == before

    on(scenario, database_url)


def test_refuses_a_log_that_lost_its_beginning(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        class Cut(MemorySource):
            async def bounds(self, partitions: Iterable[int]) -> Mapping[int, tuple[int, int]]:
                return dict.fromkeys(partitions, (3, 9))

        with pytest.raises(ForeignLogError, match="begins at offset 3"):
            await asyncio.wait_for(rig.projector(Cut(lambda partition: (), rig.log)).run(), 10)

    on(scenario, database_url)


def test_refuses_a_gap(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(*STORY)
        del rig.log[0][2]
        with pytest.raises(ForeignLogError, match="records are missing from offset 0 on"):
            await asyncio.wait_for(rig.projector().run(), 10)

    on(scenario, database_url)


def test_a_source_that_falls_silent_is_entered_anew(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(*STORY)
        entered = []

        class Silent(MemorySource):
            async def __aenter__(self) -> Silent:
                entered.append(self)
                return await super().__aenter__()  # type: ignore[return-value]

            async def take(self, most: int, seconds: float) -> Mapping[int, Sequence[Raw]]:
                if len(entered) < 2:
                    await asyncio.sleep(0)
                    return {}
                return await super().take(most, seconds)

        source = Silent(lambda partition: rig.log[partition], rig.log)
        async with running(rig.projector(source, silent_seconds=0.0)):
            await rig.caught_up()
        assert len(entered) == 2

    on(scenario, database_url)


def test_a_source_that_breaks_is_entered_anew(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(*STORY)
        broken = []

        class Broken(MemorySource):
            async def take(self, most: int, seconds: float) -> Mapping[int, Sequence[Raw]]:
                if not broken:
                    broken.append(self)
                    raise SourceUnavailable("away")
                return await super().take(most, seconds)

        async with running(rig.projector(Broken(lambda partition: rig.log[partition], rig.log))):
            await rig.caught_up()
        assert broken

    on(scenario, database_url)


def test_goes_on_after_its_connections_were_cut(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(registered())
        async with running(rig.projector()), Progress(database_url) as progress:
            await rig.caught_up()
            for number in range(1, 4):
                await cut(database_url)
                rig.append(stored(number))
                await eventually(lambda: progress.applied(0) == len(rig.log[0]))
        page = await Reads(rig.database).page(BOB, PHONE, after=START, limit=10, max_bytes=1000)
        assert [row.position for row in page.rows] == [1, 2, 3]

    on(scenario, database_url)


async def cut(url: str) -> None:
    """What a restart of the server does to everybody who is connected."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_a_read_waits_until_its_record_is_folded(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        async with running(rig.projector()), Progress(database_url) as progress:
            rig.append(registered(), stored(1))
            await progress.reached(0, 2, timeout=5)
            page = await Reads(rig.database).page(BOB, PHONE, after=START, limit=10, max_bytes=1000, floors={0: 2})
            assert len(page.rows) == 1
            with pytest.raises(ProjectionBehind, match="not to 3"):
                await progress.reached(0, 3, timeout=0.05)

    on(scenario, database_url)


def test_a_read_never_answers_from_a_projection_that_went_back(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(registered(), stored(1))
        async with Progress(database_url) as progress:
            async with running(rig.projector()):
                await progress.reached(0, 2, timeout=5)
            await rig.database.run(b"DROP SCHEMA projection CASCADE")
            await migrate(database_url)
            with pytest.raises(ProjectionBehind):
                await Reads(rig.database).page(BOB, PHONE, after=START, limit=10, max_bytes=1000, floors={0: 2})
            await eventually(lambda: progress.applied(0) == 0)

    on(scenario, database_url)


def test_who_waits_for_mail_is_woken_by_it_and_by_nobody_elses(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        async with running(rig.projector()), Progress(database_url) as progress:
            await eventually(lambda: progress.connected)
            with progress.arrivals(BOB) as for_bob, progress.arrivals(PHONE) as for_another:
                rig.append(registered(), stored(1))
                assert await for_bob.wait(5)
                await progress.reached(0, 2, timeout=5)
                assert not await for_another.wait(0)

    on(scenario, database_url)


def test_the_chain_moves_on_with_the_offset_through_restarts_and_what_is_set_aside(database_url: str) -> None:
    topic_id = UUID(int=7)

    def expected(records: Sequence[Raw]) -> bytes:
        chain = Chain(topic_id, 0)
        for raw in records:
            chain.add(raw.at_ms, raw.key, raw.value, raw.headers)
        return chain.h

    async def scenario(rig: Rig) -> None:
        rows = b"SELECT chain FROM offsets WHERE topic = 'restante.lifecycle' AND partition = 0"
        for part in (STORY[:3], STORY[3:]):
            rig.append(*part)
            rig.log[0].append(Raw(len(rig.log[0]), 5, None, b"no fact", [("header", None)]))
            async with running(rig.projector(topic_id=topic_id)):
                await rig.caught_up()
            assert await rig.database.tuples(rows) == [(expected(rig.log[0]),)]

    on(scenario, database_url)


def test_tables_older_than_the_chain_go_on_without_one(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(*STORY[:3])
        async with running(rig.projector()):
            await rig.caught_up()
        await rig.database.run(b"UPDATE offsets SET chain = NULL")
        rig.append(*STORY[3:])
        async with running(rig.projector()):
            await rig.caught_up()
        assert await rig.database.tuples(b"SELECT chain FROM offsets WHERE partition = 0") == [(None,)]

    on(scenario, database_url)
