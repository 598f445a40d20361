"""Sessions on real Kafka: pushes, the table that the next process recovers, and records that nobody understands."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from processors.app import FAULT
from schemas.events import DeliveryAttempted, PendingSync
from schemas.push import Push
from schemas.quarantined import Quarantined
from schemas.topics import PUSH, QUARANTINE
from tests.builders import an_id, closed, marked, opened
from tests.eventually import eventually
from tests.integration.processor_rig import TABLE, Rig, recipient_in, rig

pytestmark = pytest.mark.anyio
HERE = recipient_in(0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def pushed(world: Rig) -> list[Push]:
    """What the gateways were told, in order; the sessions of these tests are told on partition 1."""
    return [each.fact for each in await world.records(PUSH) if isinstance(each.fact, Push) and each.place.partition == 1]  # type: ignore[unreachable]


async def orders(world: Rig, *wanted: str) -> list[Push]:
    """Wait for these kinds of pushes, no more and no less."""

    async def there() -> list[Push]:
        found = await pushed(world)
        assert [push.kind for push in found] == list(wanted)
        return found

    return await eventually(there, within=40)


async def decision_about(world: Rig, message: UUID) -> Any:
    facts = [each.fact for each in await world.records()]
    (found,) = (f for f in facts if isinstance(f, DeliveryAttempted | PendingSync) and f.message_id == message)
    return found


async def test_a_session_is_pushed_to_recovered_as_a_hint_and_ends(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    async with rig(kafka, topic_prefix, tmp_path) as world:
        first = world.start()
        await world.append(opened(recipient=HERE, push_partition=1))
        one, two = await world.store(1) + await world.store(1)
        epoch, position = 0, 1
        said = await orders(world, "message", "message")
        assert [(push.epoch, push.predecessor) for push in said] == [(epoch, epoch), (epoch, position)]
        assert [push.message and push.message.message_id for push in said] == [one, two]
        assert (await decision_about(world, one)).sessions[0].live
        await world.all_committed()
        assert await first.stop() == 0

        second = world.start()
        (three,) = await world.store(1)
        said = await orders(world, "message", "message", "remark")
        assert said[-1].epoch == epoch
        assert not (await decision_about(world, three)).sessions[0].live
        await world.append(marked(recipient=HERE, push_partition=1))
        await world.store(1)
        await orders(world, "message", "message", "remark", "message")
        await world.append(replace(closed(), recipient=HERE))
        await orders(world, "message", "message", "remark", "message", "close")
        (last,) = await world.store(1)
        await world.all_decided()
        assert isinstance(await decision_about(world, last), PendingSync)
        assert await world.records(TABLE)
        await world.all_committed()
        assert await second.stop() == 0

        world.start()
        await world.store(1)
        await world.all_decided()
        await orders(world, "message", "message", "remark", "message", "close")


async def test_a_session_moves_with_its_partition_to_another_worker(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    """The new one has it from the table: it asks for a marker in place of a push, once, and pushes after that marker."""
    async with rig(kafka, topic_prefix, tmp_path) as world:
        first = world.start("1")
        await first.reads(0, 1)
        await world.append(opened(recipient=HERE, push_partition=1))
        await world.store(1)
        await orders(world, "message")
        await world.all_committed()
        second = world.start("2")
        await eventually(lambda: second.reading and first.reading | second.reading == {0, 1}, within=40)
        first.process.kill()
        await second.reads(0, 1)
        await world.store(1)
        await world.all_decided()
        await orders(world, "message", "remark")
        await world.append(marked(recipient=HERE, push_partition=1))
        await world.store(2)
        said = await orders(world, "message", "remark", "message", "message")
        assert said[2].epoch == said[2].predecessor > said[0].epoch


async def test_every_worker_counts_the_sessions_of_its_partitions_also_where_nothing_comes_in(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    async with rig(kafka, topic_prefix, tmp_path) as world:
        first = world.start("1")
        await first.reads(0, 1)
        for partition in (0, 1):
            device = an_id("dev", 50 + partition)
            to = recipient_in(partition)
            await world.append(opened(an_id("sess", partition), device, recipient=to), partition=partition)
        await eventually(lambda: first.sessions == 2, within=20)
        await world.all_committed()
        second = world.start("2")
        await eventually(lambda: second.reading and first.reading | second.reading == {0, 1}, within=40)
        await eventually(lambda: (first.sessions, second.sessions) == (1, 1), within=20)
        first.process.kill()
        await second.reads(0, 1)
        await eventually(lambda: second.sessions == 2, within=20)


async def test_with_an_emptied_table_messages_wait_until_the_session_is_marked(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    async with rig(kafka, topic_prefix, tmp_path) as world:
        first = world.start()
        await world.append(opened(recipient=HERE, push_partition=1))
        await world.store(1)
        await orders(world, "message")
        await world.all_committed()
        assert await first.stop() == 0
        for partition in range(world.partitions):
            await world.delete_records(before=-1, topic=TABLE, partition=partition)

        second = world.start()
        (missed,) = await world.store(1)
        await world.all_decided()
        assert isinstance(await decision_about(world, missed), PendingSync)
        await world.append(marked(recipient=HERE, push_partition=1))
        await world.store(1)
        said = await orders(world, "message", "message")
        assert said[1].epoch == said[1].predecessor > said[0].epoch
        await world.all_committed()
        assert await second.stop() == 0


async def test_what_nobody_understands_is_set_aside_and_the_rest_is_decided(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    async with rig(kafka, topic_prefix, tmp_path) as world:
        await world.store(3)
        await world.log.raw(b"\x00no record", 0, [("who", b"a stranger")])
        await world.log.raw(None, 0)
        await world.store(3)
        world.start()
        await world.all_decided()
        await world.all_committed()
        aside = [each.fact for each in await world.records(QUARANTINE)]
        assert [(q.offset, q.value) for q in aside if isinstance(q, Quarantined)] == [(3, b"\x00no record"), (4, None)]  # type: ignore[unreachable]


async def test_too_many_broken_records_stop_the_role_and_nothing_is_committed(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    async with rig(kafka, topic_prefix, tmp_path) as world:
        for _ in range(101):
            await world.log.raw(b"\x00no record", 0)
        await world.store(1)
        worker = world.start()
        assert await worker.ended() == FAULT
        assert "TooManyQuarantined" in worker.output.read_text() + worker.errors.read_text()
        assert await world.committed() == {}
        assert an_id("msg", 0) not in world.decisions
