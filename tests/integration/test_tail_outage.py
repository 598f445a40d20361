"""A tail on a broker that goes away, hangs, deletes what was not read, or falls silent: it goes on by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from producers.connection import KafkaConnection
from producers.kafka import KafkaLog
from producers.kafka_tail import KafkaTail
from producers.log import DEADLINE_SECONDS, LogUnavailable
from producers.tail import Tailed
from schemas.push import Push
from schemas.topics import PUSH
from tests import builders
from tests.brokers import OwnBroker, own_broker, with_topics
from tests.eventually import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def broker() -> Iterator[OwnBroker]:
    with own_broker() as broker:
        yield broker


@pytest.fixture
async def connection(broker: OwnBroker) -> KafkaConnection:
    return await with_topics(broker, partitions=2)


@pytest.fixture
async def log(connection: KafkaConnection) -> AsyncIterator[KafkaLog]:
    async with KafkaLog(connection) as log:
        yield log


@pytest.fixture
async def tail(connection: KafkaConnection, log: KafkaLog) -> AsyncIterator[KafkaTail]:
    async with KafkaTail(connection, PUSH, start="end") as tail:
        yield tail


def a_push(number: int) -> Push:
    return builders.pushed(event_id=builders.an_id("ev", 50_000 + number))


async def append(log: KafkaLog, number: int) -> None:
    """Into both partitions, however long it takes."""

    async def held() -> bool:
        answers = await log.append_all([a_push(number)] * 2, partitions=[0, 1])
        return not any(isinstance(answer, LogUnavailable) for answer in answers)

    await eventually(held, within=60)


async def taken(tail: KafkaTail, number: int) -> None:
    """Wait until this push came from both partitions; a push with an unknown outcome may come twice."""
    missing = {0, 1}
    async with asyncio.timeout(60):
        while missing:
            missing -= {one.partition for one in await tail.take() if one.record == a_push(number)}


@pytest.mark.parametrize("while_away", [False, True], ids=["idle", "with records to come"])
async def test_a_broker_that_is_killed_and_started_again(
    broker: OwnBroker, log: KafkaLog, tail: KafkaTail, while_away: bool
) -> None:
    await append(log, 1)
    await taken(tail, 1)
    broker.kill()
    with pytest.raises(LogUnavailable):
        async with asyncio.timeout(DEADLINE_SECONDS + 1):
            await tail.ends()
    if while_away:
        appending = asyncio.create_task(append(log, 2))
        await broker.start()
        await appending
    else:
        await broker.start()
        await append(log, 2)
    await taken(tail, 2)
    ends = await tail.ends()
    async with asyncio.timeout(60):
        while tail.reached() != ends:  # a push that came twice
            await tail.take()


async def test_a_broker_that_hangs(broker: OwnBroker, log: KafkaLog, tail: KafkaTail) -> None:
    await append(log, 3)
    await taken(tail, 3)
    broker.pause()
    try:
        with pytest.raises(LogUnavailable):
            await tail.ends()
    finally:
        broker.resume()
    await append(log, 4)
    await taken(tail, 4)


async def test_a_consumer_whose_fetching_died_without_a_word(log: KafkaLog, tail: KafkaTail) -> None:
    """What aiokafka does after some failures: `getmany` goes on, and gives nothing for ever."""
    await append(log, 5)
    await taken(tail, 5)
    assert tail._consumer is not None
    tail._consumer._fetcher._fetch_task.cancel()
    await append(log, 6)
    await taken(tail, 6)


async def test_where_unread_records_were_deleted_it_goes_on_with_the_first_there_is(
    connection: KafkaConnection, log: KafkaLog
) -> None:
    """Nobody takes, so the tail reads ahead as far as it may, and no further."""
    large = builders.pushed(reason="x" * 900_000)
    async with KafkaTail(connection, PUSH, partition=0, start="end", max_bytes=1_000_000) as tail:
        begin = (await tail.ends())[0]
        for _ in range(25):
            await log.append(large, partition=0)
        end = (await tail.ends())[0]
        await _delete(connection, before=end - 1)
        found: list[Tailed] = []
        async with asyncio.timeout(30):
            while not found or found[-1].offset < end - 1:
                found += await tail.take()
        offsets = [one.offset for one in found]
        read_ahead = len(offsets) - 1
        assert 0 < read_ahead < 20
        assert offsets == [*range(begin, begin + read_ahead), end - 1]
        assert tail.reached() == {0: end}


async def test_where_everything_was_deleted_it_has_reached_the_end(connection: KafkaConnection, log: KafkaLog) -> None:
    await append(log, 7)
    end = (await log.append(a_push(8), partition=0)).offset + 1
    await _delete(connection, before=end)
    async with KafkaTail(connection, PUSH, partition=0, start="beginning") as tail:
        assert tail.reached() == {0: end}
        await append(log, 9)
        [one] = await tail.take()
        assert one.offset == end


async def test_closing_while_the_broker_hangs_ends(broker: OwnBroker, connection: KafkaConnection) -> None:
    async with KafkaTail(connection, PUSH, start="end") as tail:
        waiting = asyncio.ensure_future(tail.take())
        broker.pause()
        closing = asyncio.create_task(tail.__aexit__(None, None, None))
        try:
            async with asyncio.timeout(10):
                await closing
        finally:
            broker.resume()
        waiting.cancel()


async def _delete(connection: KafkaConnection, *, before: int) -> None:
    admin = AIOKafkaAdminClient(**connection.client_options())
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(PUSH, 0): RecordsToDelete(before_offset=before)})
    finally:
        await admin.close()
