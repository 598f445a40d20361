"""Receipts on real Kafka: in the sender's partition, and the same ones again where a processor died too soon to commit."""

from dataclasses import replace
from pathlib import Path
from signal import SIGKILL
from uuid import UUID

import pytest

from processors.receipts import receipt_id
from schemas.events import Entry
from schemas.partitions import partition_for
from schemas.receipt import Outcome, Receipt
from schemas.topics import RECEIPTS
from tests.builders import LAPTOP, PHONE, an_id, delivered, read
from tests.eventually import eventually
from tests.integration.processor_rig import Rig, recipient_in, rig

pytestmark = pytest.mark.anyio

HERE = recipient_in(0)
SENDERS = [recipient_in(0, number=1), recipient_in(1, number=1), recipient_in(1, number=2)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def acknowledge(world: Rig, messages: list[UUID], outcome: Outcome, device: UUID = PHONE) -> None:
    """A device says that it has these messages; they come from all senders in turn."""
    entries = [
        Entry(message_id=message, position=at, sender=SENDERS[at % len(SENDERS)]) for at, message in enumerate(messages)
    ]
    fact = (delivered if outcome is Outcome.DELIVERED else read)(*entries, device=device)
    await world.append(replace(fact, recipient=HERE, event_id=an_id("evak", len(world.stored_ids))))


async def receipts(world: Rig, *, within: float = 40, records: int) -> list[Receipt]:
    """Wait until there are so many records; see that each is where its sender reads."""

    async def there() -> list[Receipt]:
        found = await world.records(RECEIPTS)
        kept = [each.fact for each in found if isinstance(each.fact, Receipt)]  # type: ignore[unreachable]
        assert len(kept) >= records
        assert [each.place.partition for each in found] == [partition_for(one.sender, world.partitions) for one in kept]
        return kept

    return await eventually(there, within=within)


async def test_each_sender_has_one_receipt_a_message_and_outcome(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    async with rig(kafka, topic_prefix, tmp_path) as world:
        messages = await world.store(30)
        worker = world.start()
        await acknowledge(world, messages, Outcome.DELIVERED)
        await acknowledge(world, messages, Outcome.DELIVERED, LAPTOP)
        await acknowledge(world, messages[:10], Outcome.READ)
        await world.all_decided()
        await world.all_committed()
        found = await receipts(world, records=40)
        wanted = {(message, Outcome.DELIVERED) for message in messages} | {
            (message, Outcome.READ) for message in messages[:10]
        }
        assert sorted((one.message_id, one.outcome) for one in found) == sorted(wanted)
        assert {one.event_id for one in found} == {receipt_id(*each) for each in wanted}
        assert await worker.stop() == 0


async def test_killed_between_append_and_commit_it_says_the_same_again(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    async with rig(kafka, topic_prefix, tmp_path) as world:
        messages = await world.store(30)
        await acknowledge(world, messages, Outcome.DELIVERED)
        assert await world.start(fail="kill-after-receipts").ended() == -SIGKILL
        before = await receipts(world, records=30)
        assert await world.committed() == {}
        world.start()
        await world.all_decided()
        await world.all_committed()
        found = await receipts(world, records=60)
        assert len(before) == 30
        assert {one.event_id for one in found} == {one.event_id for one in before}
        assert len({one.event_id for one in found}) == 30
