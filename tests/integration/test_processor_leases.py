"""Gateways that die, end, or only seem dead, on real Kafka: who loses sessions, once, and who keeps them."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from uuid import UUID

import pytest

from schemas.events import EndReason, PendingSync, SessionClosed
from schemas.push import Push, PushKind
from schemas.topics import PUSH
from tests.brokers import OwnBroker, own_broker
from tests.builders import LAPTOP, OTHER_SESSION, PHONE, SESSION, lease, opened
from tests.eventually import eventually
from tests.integration.processor_rig import Rig, Worker, recipient_in, rig

pytestmark = pytest.mark.anyio

HERE, THERE = recipient_in(0), recipient_in(1)
LEASE = 3.0
LEASE_MS = int(1000 * LEASE)
DEAD, ALIVE = "gateway/dead", "gateway/alive"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def renewing(world: Rig, gateway: str = ALIVE, *, lease_ms: int = LEASE_MS) -> AsyncIterator[list[float]]:
    """A gateway that lives while this lasts; the times of its renewals."""
    over, renewals = asyncio.Event(), list[float]()

    async def renew() -> None:
        while not over.is_set():
            await world.append(lease(gateway=gateway, lease_ms=lease_ms))
            renewals.append(time.monotonic())
            await asyncio.wait({waiting}, timeout=LEASE / 6)

    waiting = asyncio.create_task(over.wait())
    renews = asyncio.create_task(renew())
    try:
        yield renewals
    finally:
        over.set()
        await renews


async def sessions_open(world: Rig) -> None:
    """One session on a gateway that lives, one on a gateway that says nothing any more, of the same recipient."""
    await world.append(
        opened(recipient=HERE, push_partition=1, gateway=ALIVE),
        opened(OTHER_SESSION, LAPTOP, recipient=HERE, push_partition=1, gateway=DEAD),
    )


async def closings(world: Rig) -> list[SessionClosed]:
    return [each.fact for each in await world.records() if isinstance(each.fact, SessionClosed)]


async def ended(world: Rig, *sessions: UUID) -> None:
    """Wait until these sessions are ended, each once, and no other."""

    async def so() -> bool:
        found = await closings(world)
        assert {fact.session_id for fact in found} == set(sessions)
        assert len({fact.event_id for fact in found}) == len(sessions)
        assert {fact.reason for fact in found} == {EndReason.GATEWAY_LOST}
        return True

    await eventually(so, within=60)


async def has_sessions(worker: Worker, world: Rig, *partitions: int) -> None:
    """Wait until it has read what is in the log."""
    await worker.reads(*(partitions or (0, 1)))
    await world.all_committed()


async def test_a_gateway_that_falls_silent_loses_its_sessions_and_one_that_renews_keeps_them(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    async with rig(kafka, topic_prefix, tmp_path) as world, renewing(world):
        world.start()
        await world.append(lease(gateway=DEAD, lease_ms=LEASE_MS))
        await sessions_open(world)
        await world.store(1)
        await ended(world, OTHER_SESSION)
        await world.all_decided()

        async def told() -> list[Push]:
            pushes = [each.fact for each in await world.records(PUSH)]
            return [push for push in pushes if isinstance(push, Push) and push.kind is PushKind.CLOSE]  # type: ignore[unreachable]

        [close] = await eventually(told)
        assert (close.session_id, close.gateway, close.reason) == (OTHER_SESSION, DEAD, EndReason.GATEWAY_LOST)
        [message] = await world.store(1)
        await world.all_decided()
        [attempt] = [each.fact for each in await world.records() if getattr(each.fact, "message_id", None) == message][1:]
        assert [seen.device_id for seen in getattr(attempt, "sessions", ())] == [PHONE]


async def test_a_gateway_that_ends_loses_what_it_left_at_once(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    async with rig(kafka, topic_prefix, tmp_path) as world, renewing(world, lease_ms=600_000):
        worker = world.start(lease=600)
        await world.append(lease(gateway=DEAD, lease_ms=600_000))
        await sessions_open(world)
        await has_sessions(worker, world)
        await world.append(lease(gateway=DEAD, lease_ms=600_000, ended=True))
        await ended(world, OTHER_SESSION)


async def test_one_that_was_lost_while_no_processor_ran_is_found_in_the_table(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    """Nothing comes in any more: the sessions are known from the recovered table alone."""
    async with rig(kafka, topic_prefix, tmp_path) as world, renewing(world) as renewals:
        first = world.start(lease=600)
        await sessions_open(world)
        await has_sessions(first, world)
        assert await first.stop() == 0
        assert await closings(world) == []
        second = world.start(lease=LEASE)
        await ended(world, OTHER_SESSION)
        await second.reads(0, 1)
        await second.stop()
        assert renewals
        [message] = await world.store(1)
        world.start(lease=LEASE)
        await world.all_decided()
        facts = [each.fact for each in await world.records()]
        assert not [fact for fact in facts if isinstance(fact, PendingSync) and fact.message_id == message]


async def test_two_workers_end_each_the_sessions_of_its_partitions(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    async with rig(kafka, topic_prefix, tmp_path) as world:
        one, two = world.start("1", lease=600), world.start("2", lease=600)
        await eventually(lambda: one.reading and two.reading and one.reading | two.reading == {0, 1}, within=40)
        await world.append(opened(recipient=HERE, push_partition=1, gateway=DEAD))
        await world.append(opened(OTHER_SESSION, LAPTOP, recipient=THERE, push_partition=1, gateway=DEAD), partition=1)
        await world.all_committed()
        await world.append(lease(gateway=DEAD, lease_ms=LEASE_MS))
        await ended(world, SESSION, OTHER_SESSION)
        assert {fact.producer for fact in await closings(world)} == {"processor/1", "processor/2"}


async def test_a_worker_that_takes_over_knows_the_sessions_and_the_leases(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    """The first one is killed; the second takes its partition, and ends what it finds there. Who renews keeps his."""
    async with rig(kafka, topic_prefix, tmp_path) as world, renewing(world):
        first = world.start("1", lease=600)
        await sessions_open(world)
        await has_sessions(first, world)
        second = world.start("2", lease=LEASE)
        await eventually(lambda: second.reading and first.reading | second.reading == {0, 1}, within=40)
        first.process.kill()
        await second.reads(0, 1)
        await ended(world, OTHER_SESSION)


async def test_a_processor_that_was_paused_judges_nobody_for_what_it_slept_through(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    async with rig(kafka, topic_prefix, tmp_path) as world, renewing(world) as renewals:
        worker = world.start(lease=LEASE)
        await world.append(lease(gateway=DEAD, lease_ms=600_000))
        await sessions_open(world)
        await has_sessions(worker, world)
        worker.process.send_signal(SIGSTOP)
        asleep = time.monotonic()
        await eventually(lambda: renewals[-1] > asleep + 2 * LEASE)
        worker.process.send_signal(SIGCONT)
        await world.append(lease(gateway=DEAD, lease_ms=600_000, ended=True))
        await ended(world, OTHER_SESSION)


@pytest.fixture(scope="module")
def broker() -> Iterator[OwnBroker]:
    with own_broker() as broker:
        yield broker


async def test_while_the_log_is_away_nobody_is_judged(broker: OwnBroker, topic_prefix: str, tmp_path: Path) -> None:
    async with rig(broker.address, topic_prefix, tmp_path) as world, renewing(world):
        worker = world.start(lease=LEASE)
        await world.append(lease(gateway=DEAD, lease_ms=600_000))
        await sessions_open(world)
        await has_sessions(worker, world)
        away = time.monotonic()
        broker.pause()
        try:
            await eventually(lambda: time.monotonic() > away + 2 * LEASE)
        finally:
            broker.resume()
        await world.append(lease(gateway=DEAD, lease_ms=600_000, ended=True))
        await ended(world, OTHER_SESSION)
