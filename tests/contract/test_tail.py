"""The contract of a tail, held by the one in memory and the one on a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Literal, Protocol

import pytest
from aiokafka import AIOKafkaProducer

from producers.connection import KafkaConnection
from producers.kafka import KafkaLog
from producers.kafka_tail import KafkaTail
from producers.log import EventLog, LogUnavailable
from producers.memory import MemoryLog
from producers.memory_tail import MemoryTail
from producers.tail import Tail, Tailed
from producers.topics import create_topics
from schemas.codec import Encoded, Record
from schemas.topics import GATEWAYS, PUSH
from tests import builders
from tests.eventually import eventually

pytestmark = pytest.mark.anyio

Start = Literal["end", "beginning"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Trial(Protocol):
    """A log, and tails of its topics."""

    log: EventLog

    def tail(self, topic: str, partition: int | None, start: Start) -> Tail: ...

    async def spoil(self, topic: str, partition: int) -> None:
        """Append bytes that are no record."""


@dataclass
class InMemory:
    log: MemoryLog

    def tail(self, topic: str, partition: int | None, start: Start) -> Tail:
        return MemoryTail(self.log, topic, partition=partition, start=start)

    async def spoil(self, topic: str, partition: int) -> None:
        self.log._append((topic, partition), Encoded(b"key", b"no record", []))


@dataclass
class OnKafka:
    log: KafkaLog
    connection: KafkaConnection

    def tail(self, topic: str, partition: int | None, start: Start) -> Tail:
        return KafkaTail(self.connection, topic, partition=partition, start=start)

    async def spoil(self, topic: str, partition: int) -> None:
        async with AIOKafkaProducer(**self.connection.client_options()) as producer:
            await producer.send_and_wait(topic, b"no record", partition=partition)


@pytest.fixture(params=["memory", "kafka"])
def bootstrap(request: pytest.FixtureRequest) -> str | None:
    """Address of a broker; None for the log in memory, which needs none."""
    return request.getfixturevalue("kafka") if request.param == "kafka" else None


@pytest.fixture
async def trial(bootstrap: str | None) -> AsyncIterator[Trial]:
    async with AsyncExitStack() as stack:
        if bootstrap is None:
            yield InMemory(await stack.enter_async_context(MemoryLog(8)))
        else:
            connection = KafkaConnection(bootstrap=bootstrap)
            await create_topics(connection, partitions=8)
            yield OnKafka(await stack.enter_async_context(KafkaLog(connection)), connection)


async def taken(tail: Tail, count: int) -> list[Tailed]:
    """The next `count` records, and no more."""
    found: list[Tailed] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found += await tail.take()
    assert len(found) == count
    return found


def pushes(count: int, series: int = 1) -> list[Record]:
    """Pushes that can be told apart."""
    return [builders.pushed(event_id=builders.an_id("ev", 100_000 * series + n)) for n in range(count)]


async def test_from_the_end_it_gives_what_is_appended_after_it_opened(trial: Trial) -> None:
    await trial.log.append(builders.pushed(), partition=2)
    async with trial.tail(PUSH, 2, "end") as tail:
        for record in pushes(3):
            appended = await trial.log.append(record, partition=2)
            [one] = await taken(tail, 1)
            assert one == Tailed(record, 2, appended.offset, appended.at_ms)
            assert tail.reached() == {2: appended.offset + 1} == await tail.ends()


async def test_from_the_beginning_it_gives_all_that_there_is_and_what_comes(trial: Trial) -> None:
    before = (await trial.log.append(builders.lease(gateway="one"))).offset
    async with trial.tail(GATEWAYS, None, "beginning") as tail:
        held = await taken(tail, before + 1)
        assert [one.offset for one in held] == list(range(before + 1))
        await trial.log.append(builders.lease(gateway="two"))
        [one] = await taken(tail, 1)
        assert one.record == builders.lease(gateway="two")
        assert tail.reached() == await tail.ends() == {0: before + 2}


async def test_one_partition_is_read_without_the_others(trial: Trial) -> None:
    mine, others = pushes(20, 1), pushes(20, 2)
    async with trial.tail(PUSH, 5, "end") as tail:
        places: list[int | None] = [5] * 20 + [4] * 20
        await trial.log.append_all([*mine, *others], partitions=places)
        assert [one.record for one in await taken(tail, 20)] == mine
        assert set(tail.reached()) == set(await tail.ends()) == {5}


async def test_all_partitions_come_each_in_its_order(trial: Trial) -> None:
    records = pushes(400)
    async with trial.tail(PUSH, None, "end") as tail:
        await trial.log.append_all(records, partitions=[n % 8 for n in range(400)])
        found = await taken(tail, 400)
        for partition in range(8):
            assert [one.record for one in found if one.partition == partition] == records[partition::8]
        assert tail.reached() == await tail.ends()


async def test_who_gives_up_waiting_loses_nothing(trial: Trial) -> None:
    records = pushes(200)
    async with trial.tail(PUSH, 0, "end") as tail:
        appending = asyncio.create_task(_one_by_one(trial.log, records))
        found: list[Tailed] = []
        async with asyncio.timeout(20):
            while len(found) < len(records):
                waiting = asyncio.ensure_future(tail.take())
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                if not waiting.cancel():
                    found += waiting.result()
                await asyncio.sleep(0)
        await appending
        assert [one.record for one in found] == records


async def test_without_news_it_waits_and_has_reached_the_end(trial: Trial) -> None:
    await trial.log.append(builders.pushed(), partition=1)
    async with trial.tail(PUSH, None, "end") as tail:
        assert tail.reached() == await tail.ends()
        waiting = asyncio.ensure_future(tail.take())
        await trial.log.append(builders.lease())  # another topic
        await asyncio.wait({waiting}, timeout=0.05)
        assert not waiting.done()
        waiting.cancel()


async def test_what_was_not_taken_is_not_reached(trial: Trial) -> None:
    async with trial.tail(PUSH, 3, "end") as tail:
        start = (await tail.ends())[3]
        await trial.log.append_all(pushes(2), partitions=[3, 3])
        other = trial.tail(PUSH, 3, "end")
        async with other:  # by now the first one may have read ahead
            assert tail.reached() == {3: start}
        await taken(tail, 2)
        assert tail.reached() == {3: start + 2}


async def test_what_is_no_record_is_left_out_and_passed(trial: Trial) -> None:
    one, two = pushes(2)
    async with trial.tail(PUSH, 6, "end") as tail:
        await trial.log.append(one, partition=6)
        await trial.spoil(PUSH, 6)
        await trial.log.append(two, partition=6)
        assert [each.record for each in await taken(tail, 2)] == [one, two]
        await trial.spoil(PUSH, 6)
        waiting = asyncio.ensure_future(tail.take())
        ends = await tail.ends()
        await eventually(lambda: tail.reached() == ends)
        assert not waiting.done()
        waiting.cancel()


async def test_a_partition_that_is_not_there_is_an_error(trial: Trial) -> None:
    with pytest.raises(ValueError, match="8 partitions"):
        async with trial.tail(PUSH, 8, "end"):
            pass


async def test_without_a_log_it_does_not_open() -> None:
    async with MemoryLog(8) as log:
        log.away = True
        tails: list[Tail] = [
            MemoryTail(log, PUSH, start="end"),
            KafkaTail(KafkaConnection(bootstrap="127.0.0.1:1"), PUSH, start="end"),
        ]
        for tail in tails:
            with pytest.raises(LogUnavailable):
                async with tail:
                    pass


async def _one_by_one(log: EventLog, records: list[Record]) -> None:
    for record in records:
        await log.append(record, partition=0)
