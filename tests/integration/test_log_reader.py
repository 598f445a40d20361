"""Reading back what the log holds, on real Kafka: any range, retention, a topic made anew, a broker that is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from producers.connection import KafkaConnection
from producers.log import LogUnavailable
from producers.recorded import LogCut, LogDamaged, LogReader, LogReplaced
from schemas.raw import RawRecord
from tests.brokers import OwnBroker, own_broker
from tests.eventually import eventually

Scenario = Callable[[KafkaConnection, AIOKafkaAdminClient, AIOKafkaProducer], Awaitable[None]]


def on(bootstrap: str, scenario: Scenario) -> None:
    async def main() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5) as producer:
                await scenario(KafkaConnection(bootstrap=bootstrap), admin, producer)
        finally:
            await admin.close()

    asyncio.run(main())


async def read(reader: LogReader, partition: int, start: int, end: int) -> list[RawRecord]:
    return [record async for records in reader.batches(partition, start, end) for record in records]


async def fill(producer: AIOKafkaProducer, topic: str, partition: int, values: list[bytes]) -> None:
    for number, value in enumerate(values):
        await producer.send(topic, value, key=b"key", partition=partition, headers=[("n", str(number).encode())])
    await producer.flush()


def test_any_range_comes_whole_and_in_order(kafka: str, topic_prefix: str) -> None:
    async def scenario(connection: KafkaConnection, admin: AIOKafkaAdminClient, producer: AIOKafkaProducer) -> None:
        topic = topic_prefix + "read"
        await admin.create_topics([NewTopic(topic, 3, 1, topic_configs={"message.timestamp.type": "LogAppendTime"})])
        values = [f"{number}".encode() + b"x" * 4000 for number in range(3000)]  # 12 MB: several fetches
        await fill(producer, topic, 0, values)
        await fill(producer, topic, 2, values[:5])
        async with LogReader(connection, topic) as reader:
            assert await reader.bounds() == {0: (0, 3000), 1: (0, 0), 2: (0, 5)}
            whole, few, none = await asyncio.gather(read(reader, 0, 0, 3000), read(reader, 2, 1, 4), read(reader, 1, 0, 0))
            assert [record.value for record in whole] == values
            assert [record.offset for record in whole] == list(range(3000))
            assert [(record.partition, record.value) for record in few] == [(2, value) for value in values[1:4]]
            assert few[0].key == b"key" and few[0].headers == (("n", b"1"),)
            assert none == []
            middle = whole[1500].at_ms
            found = await reader.offset_at(0, middle)
            assert whole[found].at_ms == middle and (found == 0 or whole[found - 1].at_ms < middle)
            assert await reader.offset_at(0, whole[-1].at_ms + 1) == 3000
            async for _ in reader.batches(0, 0, 3000):
                break  # one that stops in the middle leaves nothing behind

    on(kafka, scenario)


def test_records_that_were_deleted_are_an_error_that_says_what_is_left(kafka: str, topic_prefix: str) -> None:
    async def scenario(connection: KafkaConnection, admin: AIOKafkaAdminClient, producer: AIOKafkaProducer) -> None:
        topic = topic_prefix + "cut"
        await admin.create_topics([NewTopic(topic, 1, 1)])
        await fill(producer, topic, 0, [b"value"] * 10)
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=4)})
        async with LogReader(connection, topic, patience=1) as reader:
            assert await reader.bounds() == {0: (4, 10)}
            assert len(await read(reader, 0, 4, 10)) == 6
            with pytest.raises(LogCut, match="begins at offset 4") as begun:
                await read(reader, 0, 0, 10)
            assert (begun.value.first, begun.value.end) == (4, 10)
            with pytest.raises(LogCut, match="ends at offset 10"):
                await read(reader, 0, 12, 14)
            with pytest.raises(LogCut, match="ends at offset 10"):
                await read(reader, 0, 8, 12)

    on(kafka, scenario)


def test_a_topic_that_was_made_anew_is_another_one(kafka: str, topic_prefix: str) -> None:
    async def scenario(connection: KafkaConnection, admin: AIOKafkaAdminClient, producer: AIOKafkaProducer) -> None:
        topic = topic_prefix + "anew"
        await admin.create_topics([NewTopic(topic, 1, 1)])
        await fill(producer, topic, 0, [b"value"] * 3)
        async with LogReader(connection, topic) as reader:
            assert len(await read(reader, 0, 0, 3)) == 3
            await admin.delete_topics([topic])
            await eventually(lambda: gone(admin, topic))
            await admin.create_topics([NewTopic(topic, 1, 1)])
            await fill(producer, topic, 0, [b"other"] * 3)
            with pytest.raises(LogReplaced, match="another topic"):
                await read(reader, 0, 0, 3)
            with pytest.raises(LogReplaced):
                await reader.bounds()

    async def gone(admin: AIOKafkaAdminClient, topic: str) -> bool:
        (found,) = await admin.describe_topics([topic])
        return bool(found["error_code"])

    on(kafka, scenario)


def test_what_is_not_there_is_said_in_time(kafka: str, topic_prefix: str) -> None:
    async def scenario() -> None:
        for bootstrap, topic in ((kafka, topic_prefix + "none"), ("127.0.0.1:1", "any")):
            with pytest.raises(LogUnavailable, match="restante topics"):
                async with LogReader(KafkaConnection(bootstrap=bootstrap), topic, patience=0.5):
                    raise AssertionError("opened")

    asyncio.run(scenario())


def test_reading_goes_on_after_the_broker_was_away_and_says_when_it_stays_away() -> None:
    async def scenario(broker: OwnBroker, admin: AIOKafkaAdminClient, producer: AIOKafkaProducer) -> None:
        await admin.create_topics([NewTopic("away", 1, 1)])
        await fill(producer, "away", 0, [b"x" * 100_000] * 100)  # five fetches
        connection = KafkaConnection(bootstrap=broker.address)
        async with LogReader(connection, "away") as patient, LogReader(connection, "away", patience=1) as other:
            records: list[RawRecord] = []
            async for some in patient.batches(0, 0, 100):
                if not records:
                    broker.pause()
                    with pytest.raises(LogUnavailable, match="could not be read"):
                        await other.bounds()
                    broker.resume()
                records += some
            assert [record.offset for record in records] == list(range(100))

    with own_broker() as broker:
        on(broker.address, lambda connection, admin, producer: scenario(broker, admin, producer))


def test_bytes_that_do_not_fit_their_checksum_are_named_and_can_be_passed() -> None:
    good, bad = batch(0, 3), bytearray(batch(3, 2))
    bad[-3] ^= 1
    reader = LogReader(KafkaConnection(bootstrap="nowhere:1"), "any")
    before, after = reader._parsed(0, good + bytes(bad), 1, 9)
    assert ([record.offset for record in before], after) == ([1, 2], 3)
    with pytest.raises(LogDamaged, match="3 to 4") as damaged:
        reader._parsed(0, bytes(bad), 3, 9)
    assert damaged.value.end == 5


def batch(first: int, count: int) -> bytes:
    """A batch as a broker keeps it, its records at offsets `first` and so on."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=0,
        batch_size=1 << 16,
    )
    for number in range(count):
        builder.append(number, timestamp=1, key=b"key", value=f"value {number}".encode(), headers=[])
    made = bytearray(builder.build())
    made[:8] = first.to_bytes(8)
    return bytes(made)
