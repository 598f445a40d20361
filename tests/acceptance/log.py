"""The log itself, read from the broker past the service: what its answers are held against."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from schemas.codec import Record, decode
from schemas.events import MessageStored, PendingSync
from schemas.topics import LIFECYCLE
from tests.acceptance.load import Load
from tests.acceptance.service import Service
from tests.eventually import soon

BROKER_APPEND_TIME = 1
_READ_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Written:
    """One record: what it says, and as the broker keeps it."""

    said: Record
    raw: ConsumerRecord[bytes, bytes]


def record_at(service: Service, place: Mapping[str, object]) -> Written:
    """The record at a place as the service writes it: topic, partition, offset."""
    assert place.keys() == {"topic", "partition", "offset"}, place
    partition, offset = place["partition"], place["offset"]
    assert isinstance(partition, int)
    assert isinstance(offset, int)
    (found,) = asyncio.run(_read(service.kafka, str(place["topic"]), {partition: offset}, 1))
    return found


def lifecycle(service: Service) -> list[Written]:
    """The whole lifecycle log, each partition in its order."""
    return asyncio.run(_read(service.kafka, LIFECYCLE, None, None))


async def _read(kafka: str, topic: str, starts: Mapping[int, int] | None, count: int | None) -> list[Written]:
    """From these offsets by partition (None: all partitions from the start) to the end as it is now, or `count` records."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka, enable_auto_commit=False, auto_offset_reset="earliest")
    async with asyncio.timeout(_READ_SECONDS), consumer:
        places = consumer.assignment()
        if starts is not None:
            places = {place for place in places if place.partition in starts}
            consumer.pause(*(consumer.assignment() - places))
            for place in places:
                consumer.seek(place, starts[place.partition])
        assert places, f"{topic} has no partitions"
        ends = await consumer.end_offsets(list(places))
        found: list[Written] = []
        while (count is None or len(found) < count) and await _left(consumer, ends):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [Written(decode(record.value), record) for record in records]
        return found[:count]


async def _left(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    return any([await consumer.position(partition) < end for partition, end in ends.items()])


def assert_decided_once(service: Service, load: Load) -> None:
    """Every message of a load is in the log once, and there is one PendingSync for it in effect (one event id)."""
    wanted = {UUID(message_id) for message_id in load.accepted.values()}
    log = soon(lambda: _decided(service, wanted), 60.0, "every accepted message is decided")
    kinds: dict[UUID, set[UUID]] = defaultdict(set)
    stored: dict[UUID, list[MessageStored]] = defaultdict(list)
    for record in log:
        match record.said:
            case MessageStored(message_id=message_id) as fact:
                stored[message_id].append(fact)
            case PendingSync(message_id=message_id, event_id=event_id):
                kinds[message_id].add(event_id)
            case _:
                pass
    for message_id in wanted:
        assert len(kinds[message_id]) == 1, (message_id, kinds[message_id])
        assert len(stored[message_id]) == 1 or all(fact.keyed for fact in stored[message_id]), stored[message_id]


def _decided(service: Service, wanted: set[UUID]) -> list[Written]:
    log = lifecycle(service)
    decided = {record.said.message_id for record in log if isinstance(record.said, PendingSync)}
    return log if wanted <= decided else []
