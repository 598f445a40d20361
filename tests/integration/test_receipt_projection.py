"""Receipts in the tables: one, or Delivered and then Read, a message; whoever reads, however often, in whatever batches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projections.database import Database
from projections.errors import ForeignLogError, ProjectionBehind
from projections.folds import FACTS, TOLD
from projections.progress import Progress
from projections.reads import START, Reads
from projections.receipts import Told, apply
from projections.runner import Projector
from projections.source import MemorySource, Raw
from schemas.codec import encode
from schemas.events import Place
from schemas.partitions import partition_for
from schemas.quarantined import Quarantined
from schemas.receipt import Outcome, Receipt
from schemas.topics import LIFECYCLE, RECEIPTS
from tests.builders import ALICE, BOB, T0_MS, an_id, receipt, registered, stored
from tests.eventually import eventually
from tests.integration.projector_rig import running
from tests.integration.tables import everything

DELIVERED, READ, ERASED = Outcome.DELIVERED, Outcome.READ, Outcome.ERASED
PARTITIONS = 2
HERE = partition_for(ALICE, PARTITIONS)


def raw_of(record: Any, offset: int) -> Raw:
    encoded = encode(record)
    return Raw(offset, T0_MS + 1000 * offset, encoded.key, encoded.value, list(encoded.headers))


@dataclass
class Rig:
    """Both topics in memory, one database, and what was set aside."""

    database: Database
    logs: dict[str, dict[int, list[Raw]]] = field(
        default_factory=lambda: {topic: {at: [] for at in range(PARTITIONS)} for topic in (LIFECYCLE, RECEIPTS)}
    )
    set_aside: list[Quarantined] = field(default_factory=list)

    @property
    def here(self) -> list[Raw]:
        return self.logs[RECEIPTS][HERE]

    def append(self, *records: Receipt, partition: int = HERE) -> None:
        held = self.logs[RECEIPTS][partition]
        for record in records:
            held.append(raw_of(record, len(held)))

    def projector(self, fold: Any = TOLD) -> Projector:
        held = self.logs[fold.topic]
        return Projector(MemorySource(lambda partition: held[partition], held), self.database, self.quarantine, fold=fold)

    async def quarantine(self, record: Quarantined) -> None:
        self.set_aside.append(record)

    async def offsets(self, topic: str) -> dict[int, int]:
        rows = await self.database.tuples(b"SELECT partition, next_offset FROM offsets WHERE topic = %(topic)s", topic=topic)
        return dict(rows)

    async def caught_up(self) -> None:
        async def condition() -> bool:
            ends = {partition: len(held) for partition, held in self.logs[RECEIPTS].items()}
            return await self.offsets(RECEIPTS) == ends

        await eventually(condition, what="the receipts are folded")

    async def told(self, user: UUID = ALICE, after: int = START) -> list[tuple[int, str]]:
        return [(row.position, row.outcome) for row in await Reads(self.database).receipts(user, after=after, limit=100)]


def on(scenario: Callable[[Rig], Awaitable[None]], url: str) -> None:
    async def main() -> None:
        async with Database(url) as database:
            await scenario(Rig(database))

    asyncio.run(main())


def test_the_first_of_a_kind_counts_and_delivered_after_read_does_not(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(
            receipt(1),
            receipt(1),
            receipt(1, outcome=READ),
            receipt(1),
            receipt(1, outcome=READ),
            receipt(2, outcome=READ),
            receipt(2),
            receipt(3, outcome=ERASED),
            receipt(3),
            receipt(4),
        )
        async with running(rig.projector()):
            await rig.caught_up()
            assert await rig.told() == [(0, DELIVERED), (2, READ), (5, READ), (7, ERASED), (9, DELIVERED)]
            rig.append(receipt(4), receipt(4, outcome=READ), receipt(4, outcome=ERASED))
            await rig.caught_up()
        assert await rig.told(after=9) == [(11, READ)]

    on(scenario, database_url)


def test_each_sender_is_told_his_own(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(receipt(1))
        rig.append(receipt(2, sender=BOB, recipient=ALICE), partition=partition_for(BOB, PARTITIONS))
        async with running(rig.projector()):
            await rig.caught_up()
        (to_alice,) = await Reads(rig.database).receipts(ALICE, after=START, limit=10)
        (to_bob,) = await Reads(rig.database).receipts(BOB, after=START, limit=10)
        assert (to_alice.message_id, to_bob.message_id) == (an_id("msg", 1), an_id("msg", 2))
        assert (to_alice.at_ms, to_alice.recipient_name) == (T0_MS, None)

    on(scenario, database_url)


def test_projectors_that_hold_the_same_partitions_fold_each_receipt_once(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        async with running(rig.projector(), rig.projector(), rig.projector()):
            for number in range(1, 40):
                rig.append(receipt(number), receipt(number, outcome=READ))
                await asyncio.sleep(0)
                if number % 10 == 0:
                    await rig.caught_up()
            await rig.caught_up()
        assert [position for position, _ in await rig.told()] == list(range(78))

    on(scenario, database_url)


def test_goes_on_after_a_restart_and_makes_the_table_anew_after_a_loss(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(receipt(1), receipt(2))
        async with running(rig.projector()):
            await rig.caught_up()
        rig.append(receipt(2, outcome=READ), receipt(1))
        async with running(rig.projector()):
            await rig.caught_up()
        before = await everything(rig.database)
        assert len(before["receipts"]) == 3
        await rig.database.run(b"TRUNCATE offsets, receipts")
        async with running(rig.projector()):
            await rig.caught_up()
        assert await everything(rig.database) == before

    on(scenario, database_url)


def test_the_topics_move_on_apart(database_url: str) -> None:
    """Two folds beside each other: neither touches the offsets, the tables or the waiting reads of the other."""

    async def scenario(rig: Rig) -> None:
        for offset, fact in enumerate((registered(), stored(1))):
            rig.logs[LIFECYCLE][partition_for(BOB, PARTITIONS)].append(raw_of(fact, offset))
        rig.append(receipt(7))
        async with Progress(database_url) as progress:
            await eventually(lambda: progress.connected)
            with progress.arrivals(ALICE) as mail, progress.receipt_arrivals(ALICE) as told:
                async with running(rig.projector(TOLD)):
                    await progress.reached(HERE, 1, 5, RECEIPTS)
                    assert await told.wait(5)
                assert (progress.applied(HERE), await rig.offsets(LIFECYCLE)) == (0, {})
                async with running(rig.projector(FACTS)):
                    await progress.reached(partition_for(BOB, PARTITIONS), 2, 5)
                assert progress.applied(HERE, RECEIPTS) == 1
                assert not await mail.wait(0) and not await told.wait(0)
        counts = await rig.database.tuples(b"SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM receipts)")
        assert counts == [(1, 1)]

    on(scenario, database_url)


def test_who_watches_is_called_for_his_own_receipts(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        calls: list[str] = []
        async with Progress(database_url) as progress, running(rig.projector()):
            await eventually(lambda: progress.connected)
            with (
                progress.watch_receipts(ALICE, lambda: calls.append("alice")),
                progress.watch_receipts(ALICE, lambda: calls.append("again")),
                progress.watch_receipts(BOB, lambda: calls.append("bob")),
            ):
                rig.append(receipt(1))
                await progress.reached(HERE, 1, 5, RECEIPTS)
                assert sorted(calls) == ["again", "alice"]
            rig.append(receipt(2))
            await progress.reached(HERE, 2, 5, RECEIPTS)
        assert sorted(calls) == ["again", "alice"]

    on(scenario, database_url)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(lambda raw: replace(raw, value=b"junk"), "single-object", id="bytes"),
        pytest.param(lambda raw: replace(raw, value=encode(stored()).value), "does not belong into", id="a fact"),
        pytest.param(lambda raw: replace(raw, key=str(BOB).encode()), "the key or the partition", id="key"),
    ],
)
def test_sets_aside_what_it_cannot_read_and_goes_on(database_url: str, spoil: Callable[[Raw], Raw], says: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(receipt(1), receipt(2), receipt(3))
        rig.here[1] = spoil(rig.here[1])
        async with running(rig.projector()):
            await rig.caught_up()
        assert await rig.told() == [(0, DELIVERED), (2, DELIVERED)]
        (record,) = rig.set_aside
        assert (record.topic, record.partition, record.offset) == (RECEIPTS, HERE, 1) and says in record.reason

    on(scenario, database_url)


def test_refuses_another_topic_than_it_knew(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(receipt(1), receipt(2))
        async with running(rig.projector()):
            await rig.caught_up()
        rig.here.pop()
        with pytest.raises(ForeignLogError, match=r"restante\.receipts was folded up to offset 2, but the log ends at 1"):
            await asyncio.wait_for(rig.projector().run(), 10)

    on(scenario, database_url)


def test_a_read_with_floors_is_never_short(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(receipt(1))
        async with running(rig.projector()):
            await rig.caught_up()
        reads = Reads(rig.database)
        assert len(await reads.receipts(ALICE, after=START, limit=10, floors={HERE: 1})) == 1
        for user in (ALICE, BOB):
            with pytest.raises(ProjectionBehind):
                await reads.receipts(user, after=START, limit=10, floors={HERE: 2})

    on(scenario, database_url)


SENDERS = (ALICE, BOB)
RECEIPTS_OF_ANY_KIND = st.lists(
    st.builds(
        lambda number, outcome: receipt(number, sender=SENDERS[number % 2], outcome=outcome),
        st.integers(1, 4),
        st.sampled_from([DELIVERED, DELIVERED, READ, READ, ERASED]),
    ),
    max_size=30,
)


def expected(log: Sequence[Receipt]) -> list[tuple[UUID, int, UUID, str]]:
    """What the rows must be, said in another way: the highest so far, message by message."""
    last: dict[UUID, str] = {}
    rows = []
    for position, one in enumerate(log):
        before = last.get(one.message_id)
        if before is None or (before, one.outcome) == ("Delivered", "Read"):
            last[one.message_id] = one.outcome.value
            rows.append((one.sender, position, one.message_id, one.outcome.value))
    return sorted(rows, key=repr)


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.mark.timeout(600)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(log=RECEIPTS_OF_ANY_KIND, cuts=st.sets(st.integers(0, 30)), again=st.integers(0, 30))
def test_any_receipts_in_any_batches_read_again_from_anywhere_are_the_same_rows(
    database_url: str, loop: asyncio.Runner, log: list[Receipt], cuts: set[int], again: int
) -> None:
    async def rows(database: Database) -> list[tuple[Any, ...]]:
        found = await database.tuples(b"SELECT account, position, message_id, outcome FROM receipts")
        return sorted(found, key=repr)

    async def scenario() -> None:
        told = [Told(one, Place(RECEIPTS, 0, offset), T0_MS) for offset, one in enumerate(log)]
        edges = sorted({0, len(log), *(cut for cut in cuts if cut < len(log))})
        async with Database(database_url) as database:
            await database.run(b"TRUNCATE receipts")
            for start, end in pairwise(edges):
                async with database.transaction() as transaction:
                    await apply(transaction, told[start:end])
            assert await rows(database) == expected(log)
            async with database.transaction() as transaction:
                await apply(transaction, told[again:])
            assert await rows(database) == expected(log)

    loop.run(scenario())
