"""What one fetch of a processor brings, on real Kafka."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from faust.types import TP

from processors.transport import OnDemand

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def a_processor_thread(kafka: str, topics: list[str]) -> AsyncIterator[tuple[OnDemand, AIOKafkaConsumer, Any]]:
    """The part of a processor's second thread that fetches, its consumer of two partitions of each topic, and a producer."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, num_partitions=2, replication_factor=1) for topic in topics])
    await admin.close()
    thread: Any = object.__new__(OnDemand)
    thread.consumer = SimpleNamespace(flow_active=True)
    async with (
        AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest") as consumer,
        AIOKafkaProducer(bootstrap_servers=kafka) as producer,
    ):
        consumer.assign([TopicPartition(topic, partition) for topic in topics for partition in (0, 1)])
        yield thread, consumer, producer


async def test_a_fetch_brings_all_that_is_there(kafka: str, topic_prefix: str) -> None:
    """And not only what came first after the fetch before it."""
    topic, changelog = f"{topic_prefix}facts", f"{topic_prefix}changelog"
    async with a_processor_thread(kafka, [topic, changelog]) as (thread, consumer, producer):
        wanted = {TP(topic, 0), TP(topic, 1)}
        for numbers in (range(1), range(1, 6), range(6, 12)):
            for number in numbers:
                await producer.send_and_wait(topic, str(number).encode(), partition=number % 2)
            fetched = await thread._fetch_records(consumer, wanted, timeout=10.0, max_records=500)
            found = sorted(int(record.value) for records in fetched.values() for record in records)
            assert found == list(numbers)
            assert consumer.paused() == {TP(each, partition) for each in (topic, changelog) for partition in (0, 1)}


async def test_what_is_not_wanted_is_not_asked_for(kafka: str, topic_prefix: str) -> None:
    """A request for it alone would hold up all others until it is answered."""
    topic, changelog = f"{topic_prefix}facts", f"{topic_prefix}changelog"
    async with a_processor_thread(kafka, [topic, changelog]) as (thread, consumer, producer):
        await producer.send_and_wait(changelog, b"row", partition=0)
        assert await thread._fetch_records(consumer, {TP(topic, 0)}, timeout=0.2, max_records=500) == {}
        assert consumer.paused() == {TP(topic, 1), TP(changelog, 0), TP(changelog, 1)}
        fetched = await thread._fetch_records(consumer, {TP(changelog, 0)}, timeout=10.0, max_records=500)
        assert [record.value for records in fetched.values() for record in records] == [b"row"]
