"""The watch over gateways, on a log in memory and a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from processors.desk import Desk
from processors.gateways import GatewayWatch
from processors.ledger import Ledger
from producers.memory import MemoryLog
from producers.memory_tail import MemoryTail
from schemas.events import EndReason, SessionClosed
from schemas.presence import PresenceRow
from schemas.topics import GATEWAYS, LIFECYCLE
from tests.builders import BOB, LAPTOP, OTHER_SESSION, PHONE, SESSION, lease, marked, opened, presence_row
from tests.eventually import eventually
from tests.unit.test_desk import Fetched

pytestmark = pytest.mark.anyio

DEAD, ALIVE = "gateway/dead", "gateway/alive"
LEASE = 15.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Processor:
    """What the watch needs of one: it reads partition 0 when the test says so. `rows` is its table."""

    log: MemoryLog
    ledger: Ledger = field(default_factory=Ledger)
    desk: Desk = field(init=False)
    rows: list[PresenceRow] = field(default_factory=list)
    reading: bool = True
    refused: bool = False

    def __post_init__(self) -> None:
        self.desk = Desk("processor/1", lambda _: self.rows, partitions=1)
        self.ledger.restart(0, 0)

    def recall(self) -> None:
        for partition, first in self.ledger.untouched().items():
            if not self.desk.knows(partition, first):
                self.desk.recall(partition, first, self.rows)

    def reads(self) -> None:
        """All that is in the log."""
        held = self.log.held(LIFECYCLE, 0)
        first = self.ledger.wanted(0) or 0
        records = [
            Fetched(one.encoded.value, one.appended.offset, headers=one.encoded.headers, key=one.encoded.key)
            for one in held[first:]
        ]
        run: Any = self.ledger.offer(0, records)
        self.ledger.begin(run)
        self.desk.read(0, run.first, run.records, run.next)
        self.ledger.finish(run)

    def waits(self, refused: bool) -> None:
        self.refused = refused


@dataclass
class World:
    log: MemoryLog
    processor: Processor
    watch: GatewayWatch
    now: list[float]

    async def append(self, *records: Any) -> None:
        for record in records:
            await self.log.append(record, partition=0)

    async def renews(self, gateway: str, *, heard: bool = True, **changes: Any) -> None:
        await self.append(lease(gateway=gateway, **changes))
        if heard:
            await self.watch.hear()

    async def after(self, seconds: int, *renewing: str) -> None:
        """One look a second."""
        for _ in range(seconds):
            self.now[0] += 1
            for gateway in renewing:
                await self.renews(gateway)
            await self.watch.look()

    def closed(self) -> list[SessionClosed]:
        return [each.fact for each in self.log.records(0) if isinstance(each.fact, SessionClosed)]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Two sessions, each on a gateway of its own, both heard and read."""
    now = [1000.0]
    async with MemoryLog(1) as log, MemoryTail(log, GATEWAYS, start="beginning") as tail:
        processor = Processor(log)
        watch = GatewayWatch(
            processor,  # type: ignore[arg-type]
            log,
            tail,
            producer="processor/1",
            lease_seconds=LEASE,
            clock=lambda: now[0],
        )
        world = World(log, processor, watch, now)
        await world.append(opened(gateway=ALIVE), opened(OTHER_SESSION, LAPTOP, gateway=DEAD))
        processor.reads()
        for gateway in (ALIVE, DEAD):
            await world.renews(gateway)
        await watch.look()
        yield world


async def test_who_falls_silent_loses_his_sessions_once(world: World) -> None:
    await world.after(14, ALIVE)
    assert world.closed() == []
    await world.after(10, ALIVE)  # not read back all the time
    [fact] = world.closed()
    assert (fact.session_id, fact.device_id, fact.recipient) == (OTHER_SESSION, LAPTOP, BOB)
    assert (fact.reason, fact.producer) == (EndReason.GATEWAY_LOST, "processor/1")
    world.processor.reads()
    await world.after(20, ALIVE)
    assert len(world.closed()) == 1
    assert world.processor.desk.sessions == 1


async def test_every_processor_gives_the_end_the_same_id(world: World) -> None:
    await world.after(15, ALIVE)
    first = world.closed()[0]
    again = GatewayWatch(
        world.processor,  # type: ignore[arg-type]
        world.log,
        MemoryTail(world.log, GATEWAYS, start="beginning"),
        producer="processor/2",
        lease_seconds=LEASE,
    )
    assert again._closing(presence_row(session_id=OTHER_SESSION, epoch=99)).event_id == first.event_id
    assert again._closing(presence_row(session_id=SESSION)).event_id != first.event_id


async def test_a_session_that_came_back_and_is_lost_again_ends_again(world: World) -> None:
    await world.after(15, ALIVE)
    await world.append(marked(OTHER_SESSION, LAPTOP, gateway=DEAD))
    world.processor.reads()
    await world.after(1, ALIVE)
    assert [fact.session_id for fact in world.closed()] == [OTHER_SESSION, OTHER_SESSION]


async def test_a_renewal_that_nobody_has_read_yet_counts(world: World) -> None:
    await world.after(10)
    await world.renews(ALIVE, heard=False)
    await world.renews(DEAD, heard=False)
    await world.after(20)
    assert world.closed() == []
    await world.watch.hear()
    await world.after(14)
    assert world.closed() == []
    await world.after(1)
    assert len(world.closed()) == 2


async def test_the_end_of_a_session_that_nobody_has_read_yet_counts(world: World) -> None:
    """The gateway went in order, and its last words wait: there is nothing to add."""
    over = SessionClosed(
        event_id=opened().event_id,
        producer=DEAD,
        recipient=BOB,
        session_id=OTHER_SESSION,
        device_id=LAPTOP,
        reason=EndReason.GATEWAY_RESTART,
    )
    await world.append(over)
    await world.renews(DEAD, ended=True)
    await world.after(3, ALIVE)
    world.processor.reads()
    await world.after(20, ALIVE)
    assert world.closed() == [over]


async def test_while_the_log_is_away_nobody_is_lost(world: World) -> None:
    await world.after(14)
    world.log.away = True
    await world.after(60)
    world.log.away = False
    await world.after(14)
    assert world.closed() == []
    await world.after(1)
    assert {fact.device_id for fact in world.closed()} == {PHONE, LAPTOP}


async def test_without_partitions_or_while_they_move_nobody_looks(world: World) -> None:
    world.processor.reading = False
    await world.after(30)
    assert world.closed() == []
    world.processor.reading = True
    await world.after(14)
    assert world.closed() == []


async def test_sessions_in_the_table_are_known_before_a_record_comes(world: World) -> None:
    """After a start: the row's gateway was never heard of, and has a whole lease."""
    processor = world.processor
    processor.ledger.restart(0, 40)
    world.processor.desk.keep(frozenset())
    processor.rows.append(presence_row(gateway="gateway/old", session_id=SESSION, epoch=5))
    await world.after(15)
    assert world.closed() == []
    await world.after(1)
    assert [fact.session_id for fact in world.closed()] == [SESSION]


async def test_an_end_that_the_log_refuses_is_written_later(world: World) -> None:
    await world.renews(DEAD, ended=True)
    ends = world.log.ends_of

    def go_away(topic: str) -> Any:
        found = ends(topic)
        world.log.away = topic == GATEWAYS or world.log.away
        return found

    world.log.ends_of = go_away  # type: ignore[method-assign]
    looking = asyncio.create_task(world.watch.look())
    await eventually(lambda: world.processor.refused)
    world.log.ends_of = ends  # type: ignore[method-assign]
    world.log.away = False
    await looking
    assert not world.processor.refused
    assert [fact.session_id for fact in world.closed()] == [OTHER_SESSION]
