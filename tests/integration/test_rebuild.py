"""The projection made anew: the same as the live one and as the model, wherever it was killed; readers notice nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projections.database import Database
from projections.errors import ForeignLogError, NotMigrated
from projections.folds import FACTS, TOLD
from projections.pointer import PLACES
from projections.progress import Progress
from projections.reads import START, Reads
from projections.rebuild import ALONE, RebuildRefused, Rebuilt, drop_other, rebuild
from projections.refold import Log, Tally
from projections.runner import Projector
from projections.source import MemorySource, Raw
from schemas.events import Fact
from schemas.lifecycle import fold
from schemas.receipt import Outcome, Receipt
from tests.builders import BOB, PHONE, T0_MS, delivered, entry, log_of, pending, receipt, registered, stored
from tests.eventually import eventually
from tests.integration.histories import log_in_memory
from tests.integration.projector_rig import STORY, raw_of, running
from tests.integration.tables import empty, everything
from tests.integration.test_projection_property import HISTORIES, check
from tests.integration.test_receipt_projection import raw_of as raw_receipt

FIRST, SECOND = PLACES
OFFSETS = b"SELECT * FROM offsets WHERE live() ORDER BY topic, partition"


class Killed(BaseException):
    """What kill -9 is to a test: nothing of the process is left but what PostgreSQL has."""


@dataclass
class Rig:
    """Both topics in memory, one partition each, and the database."""

    url: str
    database: Database
    facts: dict[int, list[Raw]] = field(default_factory=lambda: {0: []})
    receipts: dict[int, list[Raw]] = field(default_factory=lambda: {0: []})
    some: int = 3

    def append(self, *records: Fact | Receipt) -> None:
        for record in records:
            if isinstance(record, Receipt):
                self.receipts[0].append(raw_receipt(record, len(self.receipts[0])))
            else:
                self.facts[0].append(raw_of(record, len(self.facts[0])))

    @property
    def log(self) -> Log:
        return log_in_memory(self.facts, self.receipts, some=self.some)

    def projectors(self) -> tuple[Projector, Projector]:
        async def nowhere(record: Any) -> None: ...

        def one(held: dict[int, list[Raw]], meaning: Any) -> Projector:
            return Projector(MemorySource(lambda partition: held[partition], held), self.database, nowhere, fold=meaning)

        return one(self.facts, FACTS), one(self.receipts, TOLD)

    async def live(self) -> None:
        """Fold everything, as projectors do."""
        async with running(*self.projectors()):
            await eventually(self.caught_up)

    async def caught_up(self) -> bool:
        rows = await self.database.tuples(OFFSETS)
        return sorted(row[2] for row in rows) == sorted([len(self.facts[0]), len(self.receipts[0])])

    async def rebuild(self, told: Callable[[Tally], None] = lambda tally: None, **options: Any) -> Rebuilt:
        return await rebuild(self.url, self.log, told, **options)

    async def state(self) -> tuple[dict[str, list[tuple[Any, ...]]], list[tuple[Any, ...]]]:
        return await everything(self.database), await self.database.tuples(OFFSETS)


def on(scenario: Callable[[Rig], Awaitable[None]], url: str) -> None:
    async def main() -> None:
        async with Database(url) as database:
            await scenario(Rig(url, database))

    asyncio.run(main())


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


RECEIPTS_TOLD = st.lists(st.builds(receipt, st.integers(1, 3), outcome=st.sampled_from(list(Outcome))), max_size=6)


@pytest.mark.timeout(600)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=HISTORIES, told=RECEIPTS_TOLD, kills=st.integers(0, 12))
def test_any_history_killed_at_every_batch_is_rebuilt_as_it_was(
    database_url: str, loop: asyncio.Runner, history: list[Fact], told: list[Receipt], kills: int
) -> None:
    """Rebuild == live == model, rows and offsets and chain."""

    async def scenario() -> None:
        async with Database(database_url) as database:
            rig, left = Rig(database_url, database), kills
            await database.tuples(b"SELECT live()")
            await empty(database)
            rig.append(*history, *told)
            await rig.live()
            before = await rig.state()

            def kill(tally: Tally) -> None:
                nonlocal left
                left -= 1
                if left >= 0:
                    raise Killed

            while True:
                try:
                    await rig.rebuild(kill)
                    break
                except Killed:
                    continue
            assert await rig.state() == before
            await check(database, fold(log_of(*history)))
            assert await drop_other(database_url) in PLACES

    loop.run(scenario())


def test_what_was_wrong_is_right_again_and_the_old_place_is_kept(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(*STORY, receipt(1))
        account = b"INSERT INTO accounts.accounts (user_id, name, password_hash) VALUES (%(id)s, 'bob', 'x')"
        await rig.database.run(account, id=BOB)
        await rig.live()
        good = await rig.state()
        await rig.database.run(b"DELETE FROM mailbox")
        await rig.database.run(b"UPDATE messages SET sender = recipient")
        done = await rig.rebuild()
        assert (done.live, done.kept, done.resumed, done.tally.records) == (SECOND, FIRST, False, len(STORY) + 1)
        assert await rig.state() == good
        assert await rig.database.tuples(b"SELECT count(*) FROM projection.mailbox") == [(0,)]
        with pytest.raises(RebuildRefused, match="--drop-old"):
            await rig.rebuild()
        assert await drop_other(rig.url) == FIRST
        assert await drop_other(rig.url) is None
        assert (await rig.rebuild()).live == FIRST
        assert await rig.state() == good
        assert await rig.database.tuples(b"SELECT name FROM accounts.accounts") == [("bob",)]

    on(scenario, database_url)


def test_one_that_was_killed_goes_on_where_it_was(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(*STORY)
        seen: list[int] = []

        def kill(tally: Tally) -> None:
            raise Killed

        with pytest.raises(Killed):
            await rig.rebuild(kill, most=2)
        await rig.live()
        done = await rig.rebuild(lambda tally: seen.append(tally.records))
        assert done.resumed and done.tally.records == len(STORY) - 2

    on(scenario, database_url)


def test_one_that_is_given_up_leaves_nothing(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(*STORY)
        await rig.live()
        before = await rig.state()

        def kill(tally: Tally) -> None:
            raise Killed

        with pytest.raises(Killed):
            await rig.rebuild(kill, most=2)
        assert await drop_other(rig.url) == SECOND
        assert await rig.database.tuples(b"SELECT live, building FROM pointer.projection") == [(FIRST, False)]
        assert await rig.state() == before
        assert not (await rig.rebuild()).resumed

    on(scenario, database_url)


def test_two_at_once_are_one(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(*STORY)
        found = await asyncio.gather(rig.rebuild(), rig.rebuild(), return_exceptions=True)
        assert sorted(type(one).__name__ for one in found) == ["RebuildRefused", "Rebuilt"]

    on(scenario, database_url)


def test_one_that_was_killed_is_waited_for_until_postgresql_has_noticed(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(*STORY)
        async with await psycopg.AsyncConnection.connect(rig.url, autocommit=True) as other:
            await other.execute("SELECT pg_advisory_lock(%s)", [ALONE])
            going = asyncio.create_task(rig.rebuild())
            asks = (
                b"SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%%pg_try_advisory_lock($1)' AND state = 'idle'"
            )

            async def asked() -> bool:
                return await rig.database.tuples(asks) == [(True,)]

            await eventually(asked)
            assert not going.done()
        assert (await going).live == SECOND

    on(scenario, database_url)


def test_another_log_is_refused(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(*STORY)
        await rig.live()

        def kill(tally: Tally) -> None:
            raise Killed

        with pytest.raises(Killed):
            await rig.rebuild(kill, most=2)
        whole = list(rig.facts[0])
        rig.facts[0].pop()
        with pytest.raises(ForeignLogError, match="but the log ends at 6"):
            await rig.rebuild()
        rig.facts[0][:] = [replace(whole[0]), replace(whole[1], at_ms=T0_MS - 1), *whole[2:]]
        with pytest.raises(ForeignLogError, match="is not the one that was folded"):
            await rig.rebuild()
        rig.facts[0][:] = whole
        assert (await rig.rebuild()).resumed

    on(scenario, database_url)


def test_what_could_not_be_understood_is_left_out_and_counted(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(registered(), stored(1))
        rig.facts[0].append(Raw(2, T0_MS, b"no key", b"no fact", []))
        rig.append(stored(2))
        await rig.live()
        before = await rig.state()
        assert (await rig.rebuild()).tally == Tally(records=4, due=4, refused=1)
        assert await rig.state() == before

    on(scenario, database_url)


def test_a_database_that_was_never_migrated_says_so(empty_database_url: str) -> None:
    async def main() -> None:
        with pytest.raises(NotMigrated, match="restante migrate"):
            await rebuild(empty_database_url, log_in_memory({0: []}, {0: []}))

    asyncio.run(main())


def test_while_somebody_holds_an_offset_the_swap_waits_and_then_comes(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(*STORY)
        await rig.live()
        filled = asyncio.Event()
        async with await psycopg.AsyncConnection.connect(rig.url) as other:
            await other.execute("SELECT * FROM projection.offsets FOR UPDATE")
            going = asyncio.create_task(rig.rebuild(lambda tally: filled.set()))
            await filled.wait()
            waits = (
                b"SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ExclusiveLock' AND relation = %(of)s::regclass"
            )

            async def swapping() -> bool:
                return await rig.database.tuples(waits, of="projection.offsets") == [(1,)]

            await eventually(swapping)
            page = await Reads(rig.database).page(BOB, PHONE, after=START, limit=10, max_bytes=999, floors={0: len(STORY)})
            assert len(page.rows) == 1, "who reads does not wait"
            assert not going.done()
            await other.rollback()
        assert (await going).live == SECOND

    on(scenario, database_url)


def test_under_traffic_no_read_fails_or_goes_back(database_url: str) -> None:
    """Somebody appends, projectors fold, devices read what the log had when they asked; the pointer moves three times."""

    async def scenario(rig: Rig) -> None:
        rig.append(registered())
        rig.some = 500
        moving, at, acknowledged = True, [0], set[int]()

        async def write() -> None:
            while moving:
                number = len(at)
                at.append(len(rig.facts[0]))
                rig.append(stored(number), pending(number, at[number]))
                if number % 3 == 0:
                    acknowledged.add(at[number - 1])
                    rig.append(delivered(entry(number - 1)), receipt(number))
                await asyncio.sleep(0.005)

        async def read(progress: Progress) -> int:
            reads, rounds = Reads(rig.database), 0
            while moving:
                end, after = len(rig.facts[0]), at[-50:][0]
                await progress.reached(0, end, timeout=5)
                page = await reads.page(BOB, PHONE, after=after, limit=500, max_bytes=1 << 20, floors={0: end})
                due = {position for position in at[-200:] if after < position < end} - acknowledged
                found = [row.position for row in page.rows]
                assert due <= set(found) and found == sorted(found)
                rounds += 1
                await asyncio.sleep(0.005)
            return rounds

        async with running(*rig.projectors()), Progress(rig.url) as progress, asyncio.TaskGroup() as group:
            await eventually(lambda: progress.connected)
            group.create_task(write())
            readers = [group.create_task(read(progress)) for _ in range(3)]
            for _ in range(3):
                await rig.rebuild()
                await drop_other(rig.url)
            moving = False
            rounds = [await reader for reader in readers]
        assert min(rounds) > 10
        await rig.live()
        assert await rig.database.tuples(b"SELECT count(*) FROM messages WHERE live()") == [(len(at) - 1,)]
        assert await rig.database.tuples(b"SELECT live FROM pointer.projection") == [(SECOND,)]

    on(scenario, database_url)
