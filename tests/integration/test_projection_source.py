"""The projector on real Kafka: sharing partitions, taking over, two that believe in the same one, a broker that dies."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import AIOKafkaConnection

from projections.database import Database
from projections.errors import ForeignLogError
from projections.reads import Reads
from projections.runner import Projector
from projections.source import KafkaSource, Raw
from schemas.codec import encode
from schemas.events import Fact
from schemas.quarantined import Quarantined
from tests.brokers import OwnBroker, own_broker
from tests.builders import an_id, stored
from tests.eventually import eventually

PARTITIONS = 4


@dataclass
class Topic:
    """A topic of a test's own, what was appended to it, and the database it is folded into."""

    bootstrap: str
    name: str
    producer: AIOKafkaProducer
    database: Database
    appended: int = 0

    async def append(self, *facts: Fact) -> None:
        for fact in facts:
            encoded = encode(fact)
            await self.producer.send(self.name, key=encoded.key, value=encoded.value, headers=encoded.headers)
        self.appended += len(facts)
        await self.producer.flush()

    async def messages(self, first: int, count: int) -> None:
        """Messages first to first + count - 1, to recipients in all partitions."""
        numbers = range(first, first + count)
        await self.append(*[stored(number, recipient=an_id("acct", number % 16)) for number in numbers])

    def source(self, group: str) -> KafkaSource:
        options = {"bootstrap_servers": self.bootstrap, "metadata_max_age_ms": 1000}
        return KafkaSource(options, group=self.name + group, topic=self.name)

    def projector(self, source: KafkaSource, **options: Any) -> Projector:
        return Projector(source, self.database, nowhere, **options)

    async def caught_up(self, within: float = 30) -> None:
        async def condition() -> bool:
            return sum((await Reads(self.database).offsets()).values()) == self.appended

        await eventually(condition, within=within, what=f"{self.appended} records folded")

    async def counts(self) -> tuple[int, ...]:
        rows = await self.database.tuples(
            b"SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM mailbox), (SELECT count(*) FROM repeats)"
        )
        return rows[0]


async def nowhere(record: Quarantined) -> None:
    raise AssertionError(f"nothing here is to be set aside: {record.reason}")


def on(scenario: Callable[[Topic], Awaitable[None]], kafka: str, name: str, url: str) -> None:
    async def main() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, PARTITIONS, 1)])
        finally:
            await admin.close()
        async with Database(url) as database, AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer:
            await scenario(Topic(kafka, name, producer, database))

    asyncio.run(main())


@asynccontextmanager
async def running(*projectors: Projector) -> AsyncIterator[list[asyncio.Task[None]]]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(projector.run()) for projector in projectors]
        yield tasks
        for task in tasks:
            task.cancel()


def test_a_take_brings_all_that_came_since_the_last_one(kafka: str, topic_prefix: str, database_url: str) -> None:
    async def scenario(topic: Topic) -> None:
        async with topic.source("a") as source:
            await eventually(lambda: len(source.unplaced()) == PARTITIONS, within=30)
            for partition in range(PARTITIONS):
                source.place(partition, 0)
            await topic.messages(1, 1)
            assert count(await source.take(100, 30)) == 1
            for number in range(2, 10):
                await topic.messages(number, 1)  # each flushed alone, to recipients in all partitions
            assert count(await source.take(100, 30)) == 8

    on(scenario, kafka, topic_prefix, database_url)


def count(taken: Mapping[int, Sequence[Raw]]) -> int:
    return sum(map(len, taken.values()))


def test_partitions_are_shared_and_taken_over(kafka: str, topic_prefix: str, database_url: str) -> None:
    async def scenario(topic: Topic) -> None:
        await topic.messages(1, 200)
        one, two = topic.source("a"), topic.source("a")
        async with running(topic.projector(one)) as first:
            async with running(topic.projector(two)):
                await eventually(lambda: placed(one) == placed(two) == PARTITIONS / 2, within=30)
                await topic.messages(201, 200)
                await topic.caught_up()
            await eventually(lambda: placed(one) == PARTITIONS, within=30)
            await topic.messages(401, 200)
            await topic.caught_up()
            assert not first[0].done()
        assert await topic.counts() == (600, 600, 0)

    on(scenario, kafka, topic_prefix + "log", database_url)


def placed(source: KafkaSource) -> int:
    """How many partitions it reads. None while it is not open."""
    consumer = source._consumer
    return 0 if consumer is None else len(source.assigned() - source.unplaced())


def test_two_that_believe_in_the_same_partitions_fold_each_record_once(
    kafka: str, topic_prefix: str, database_url: str
) -> None:
    """Two groups: to each other they are what a paused and replaced projector is to its successor."""

    async def scenario(topic: Topic) -> None:
        async with running(topic.projector(topic.source("a")), topic.projector(topic.source("b"))):
            for first in range(1, 1001, 100):
                await topic.messages(first, 100)
            await topic.caught_up()
        assert await topic.counts() == (1000, 1000, 0)

    on(scenario, kafka, topic_prefix + "log", database_url)


def test_nothing_is_committed_to_kafka(kafka: str, topic_prefix: str, database_url: str) -> None:
    async def scenario(topic: Topic) -> None:
        source = topic.source("a")
        await topic.messages(1, 20)
        async with running(topic.projector(source)):
            await topic.caught_up()
            consumer = source._consumer
            assert consumer is not None
            assert [await consumer.committed(TopicPartition(topic.name, n)) for n in range(PARTITIONS)] == [
                None
            ] * PARTITIONS

    on(scenario, kafka, topic_prefix + "log", database_url)


def test_refuses_a_topic_that_was_made_anew(kafka: str, topic_prefix: str, database_url: str) -> None:
    async def scenario(topic: Topic) -> None:
        await topic.messages(1, 20)
        async with running(topic.projector(topic.source("a"))):
            await topic.caught_up()
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(topic.name + "-2", PARTITIONS, 1)])
        finally:
            await admin.close()
        other = Topic(topic.bootstrap, topic.name + "-2", topic.producer, topic.database)
        with pytest.raises(ForeignLogError, match="the log ends at 0"):
            await asyncio.wait_for(other.projector(other.source("a")).run(), 20)
        await other.messages(101, 24)
        with pytest.raises(ForeignLogError, match="is not the one that was folded"):
            await asyncio.wait_for(other.projector(other.source("a")).run(), 20)

    on(scenario, kafka, topic_prefix + "log", database_url)


@pytest.fixture(scope="module")
def broker() -> Any:
    with own_broker() as own:
        yield own


def test_goes_on_after_the_broker_died(broker: OwnBroker, topic_prefix: str, database_url: str) -> None:
    async def scenario(topic: Topic) -> None:
        await topic.messages(1, 20)
        async with running(topic.projector(topic.source("a"), silent_seconds=5)):
            await topic.caught_up()
            await asyncio.to_thread(broker.kill)
            await broker.start()
            await topic.messages(21, 20)
            await topic.caught_up(within=90)
        assert await topic.counts() == (40, 40, 0)

    on(scenario, broker.address, topic_prefix + "log", database_url)
    gc.collect()
    alive = [made for made in gc.get_objects() if isinstance(made, AIOKafkaConnection) and made.connected()]
    assert not alive, "a consumer was left with its connections open"
