"""The ways in which a processor could skip a message or decide it twice, each on real Kafka with real processes.

After each, every stored message has exactly one decision in effect. docs/decisions/0004 tells what stock Faust does here.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGKILL

import pytest

from processors.app import FAULT
from tests.eventually import eventually
from tests.integration.processor_rig import Rig, rig

RUN = 10
BACKLOG = 100
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def traffic(world: Rig) -> AsyncIterator[None]:
    """Messages arrive in both partitions for as long as this lasts, and never more than the processors can follow."""
    over = asyncio.Event()

    async def flow() -> None:
        while not over.is_set():
            await world.store(5, partition=0)
            await world.store(5, partition=1)
            await eventually(lambda: over.is_set() or len(world.stored_ids) - len(world.decisions) < BACKLOG, within=60)

    flowing = asyncio.create_task(flow())
    try:
        yield
    finally:
        over.set()
        await flowing


async def moved_on(world: Rig) -> None:
    """Wait until some more messages have been decided."""
    before = len(world.decisions)
    await eventually(lambda: len(world.decisions) >= before + BACKLOG + RUN, within=30)


async def test_every_message_is_decided_and_everything_is_committed(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    async with rig(kafka, topic_prefix, tmp_path) as world:
        await world.store(35, partition=0)
        await world.store(5, partition=1)
        worker = world.start(run=RUN)
        await world.all_decided()
        await world.all_committed()
        assert await worker.stop() == 0


@pytest.mark.parametrize("processed", [0, 25], ids=["fresh partition", "after commits"])
async def test_an_error_in_the_agent_skips_nothing(kafka: str, topic_prefix: str, tmp_path: Path, processed: int) -> None:
    """Stock Faust acknowledges the event that failed, and on a fresh partition also the ones before it."""
    async with rig(kafka, topic_prefix, tmp_path) as world:
        if processed:
            await world.store(processed)
            first = world.start(run=RUN)
            await world.all_committed()
            await first.stop()
        before = await world.committed()
        await world.store(35)
        assert await world.start(fail="run-error", run=RUN).ended() == FAULT
        assert await world.committed() == before
        world.start(run=RUN)
        await world.all_decided()


async def test_killed_between_append_and_commit_it_decides_the_same_again(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    async with rig(kafka, topic_prefix, tmp_path) as world:
        await world.store(35)
        assert await world.start(fail="kill-after-append", run=RUN).ended() == -SIGKILL
        await eventually(lambda: world.decisions)
        assert await world.committed() == {}
        world.start(run=RUN)
        await world.all_decided()


@pytest.mark.parametrize("processed", [0, 25], ids=["fresh partition", "right at the committed offset"])
async def test_a_single_held_run_holds_the_commit(kafka: str, topic_prefix: str, tmp_path: Path, processed: int) -> None:
    """Stock Faust misses a single held event right at the committed offset, and any on a partition without a commit."""
    async with rig(kafka, topic_prefix, tmp_path) as world:
        if processed:
            await world.store(processed, partition=0)
            first = world.start(run=RUN)
            await world.all_committed()
            await first.stop()
        before = await world.committed()
        held = (await world.store(35, partition=0))[:RUN]
        worker = world.start(fail="hold-first-append", run=RUN)
        await later_ones_are_committed(world, set(held))
        assert (await world.committed()).get(0) == before.get(0)
        worker.process.kill()
        world.start(run=RUN)
        await world.all_decided()


async def later_ones_are_committed(world: Rig, held: set[object]) -> None:
    """Wait until all but the held messages are decided, and then until a commit has covered whatever it would cover."""

    async def other_partition_is_committed() -> bool:
        return (await world.committed()).get(1) == (await world.log.ends())[1]

    await eventually(lambda: world.decisions.keys() == set(world.stored_ids) - held, within=40)
    await world.store(3, partition=1)
    await eventually(other_partition_is_committed, within=40)


async def test_a_rebalance_under_traffic_skips_nothing(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    """While messages flow a second worker joins, the first one leaves, the second is killed and a third takes over."""
    async with rig(kafka, topic_prefix, tmp_path) as world:
        async with traffic(world):
            first = world.start("1", run=RUN)
            await first.reads(0, 1)
            await moved_on(world)
            second = world.start("2", run=RUN)
            await eventually(lambda: first.reading | second.reading == {0, 1} and second.reading, within=40)
            await moved_on(world)
            assert await first.stop() == 0
            await second.reads(0, 1)
            await moved_on(world)
            second.process.kill()
            third = world.start("3", run=RUN)
            await third.reads(0, 1)
            await moved_on(world)
        await world.all_decided()
        await world.all_committed()


async def test_a_worker_that_keeps_its_name_takes_its_partitions_up_again(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    async with rig(kafka, topic_prefix, tmp_path) as world:
        async with traffic(world):
            worker = world.start(run=RUN, instance="worker-1")
            await worker.reads(0, 1)
            await moved_on(world)
            worker.process.kill()
            again = world.start(run=RUN, instance="worker-1")
            await again.reads(0, 1)
            await moved_on(world)
        await world.all_decided()


async def test_a_hole_in_the_log_stops_the_role_and_is_not_jumped_over(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    """Records between the commit and the rest are gone: Kafka's clients go on behind the hole without a word."""
    async with rig(kafka, topic_prefix, tmp_path) as world:
        await world.store(10)
        first = world.start(run=RUN)
        await world.all_committed()
        await first.stop()
        before = await world.committed()
        await world.store(10)
        await world.delete_records(before=before[0] + 5)
        worker = world.start(run=RUN)
        assert await worker.ended() == FAULT
        assert "LogHasHole" in worker.output.read_text() + worker.errors.read_text()
        assert await world.committed() == before
