"""The log on a broker that goes away: what is answered is true, answers come in time, and it recovers by itself."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import ProducerClosed
from aiokafka.producer.message_accumulator import MessageBatch

from producers.connection import KafkaConnection
from producers.kafka import KafkaLog
from producers.log import DEADLINE_SECONDS, Appended, LogUnavailable
from producers.session import Session
from schemas.codec import decode
from schemas.events import MessageStored
from schemas.topics import LIFECYCLE
from tests import builders
from tests.brokers import OwnBroker, own_broker, with_topics
from tests.eventually import eventually
from tests.topic_reader import read_partition

pytestmark = pytest.mark.anyio

IN_TIME = DEADLINE_SECONDS + 1
RECIPIENTS = [builders.an_id("acct", number) for number in range(100, 116)]
NUMBERS = itertools.count(1)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def broker() -> Iterator[OwnBroker]:
    with own_broker() as broker:
        yield broker


@pytest.fixture
async def connection(broker: OwnBroker) -> KafkaConnection:
    return await with_topics(broker, partitions=8)


@pytest.fixture
async def log(connection: KafkaConnection) -> AsyncIterator[KafkaLog]:
    async with KafkaLog(connection) as log:
        yield log


@dataclass
class Ledger:
    """What was appended and what was answered."""

    acknowledged: dict[UUID, Appended] = field(default_factory=dict)
    failed: dict[UUID, str] = field(default_factory=dict)
    order: list[MessageStored] = field(default_factory=list)

    async def append(self, log: KafkaLog, recipient: UUID) -> Appended | None:
        fact = _a_fact(recipient)
        self.order.append(fact)
        async with asyncio.timeout(IN_TIME):
            try:
                self.acknowledged[fact.message_id] = place = await log.append(fact)
            except LogUnavailable as error:
                self.failed[fact.message_id] = error.outcome
                return None
        return place

    def outcomes(self) -> Counter[str]:
        return Counter(self.failed.values())

    async def assert_true(self, log: KafkaLog, connection: KafkaConnection) -> None:
        """The log holds what was acknowledged once, where it was said and in order; what was rejected not at all."""
        held = await _everything(log, connection)
        counts = Counter(message for _, message in held)
        assert {message for message in self.acknowledged if counts[message] != 1} == set()
        assert {message for message, outcome in self.failed.items() if counts[message] > (outcome == "unknown")} == set()
        places = {message: place for place, message in held}
        for message, place in self.acknowledged.items():
            assert places[message] == (place.partition, place.offset)
        for recipient in RECIPIENTS:
            answered = [fact.message_id for fact in self.order if fact.recipient == recipient]
            offsets = [places[message][1] for message in answered if message in self.acknowledged]
            assert offsets == sorted(offsets)


def _a_fact(recipient: UUID) -> MessageStored:
    number = next(NUMBERS)
    return builders.stored(event_id=UUID(int=number), message_id=UUID(int=number), recipient=recipient)


async def _everything(log: KafkaLog, connection: KafkaConnection) -> list[tuple[tuple[int, int], UUID]]:
    held: list[tuple[tuple[int, int], UUID]] = []
    for partition, end in (await log.ends()).items():
        for record in await read_partition(connection.bootstrap, LIFECYCLE, partition, 0, end - 1):
            fact = decode(record.value)
            assert isinstance(fact, MessageStored)
            held.append(((partition, record.offset), fact.message_id))
    return held


async def _takes_records_again(log: KafkaLog, ledger: Ledger) -> None:
    """Every partition takes a record and the log knows its ends."""

    async def taken() -> bool:
        return all([await ledger.append(log, recipient) for recipient in RECIPIENTS])

    await eventually(taken, within=40)
    await eventually(log.ends, within=10)
    await eventually(lambda: log.healthy)


async def test_a_broker_that_hangs(broker: OwnBroker, log: KafkaLog, connection: KafkaConnection) -> None:
    """What was handed over is unknown, what was not is withdrawn; later calls are refused at once; it goes on by itself."""
    ledger = Ledger()
    for recipient in RECIPIENTS:
        assert await ledger.append(log, recipient)
    lanes = {place.partition for place in ledger.acknowledged.values()}
    broker.pause()
    try:
        first = [asyncio.create_task(ledger.append(log, recipient)) for recipient in RECIPIENTS]
        await eventually(lambda: _under_way(log) == len(lanes))
        behind = [asyncio.create_task(ledger.append(log, recipient)) for recipient in RECIPIENTS]
        assert set(await asyncio.gather(*first, *behind)) == {None}
        assert ledger.outcomes() == {"unknown": 16, "rejected": 16}
        assert not log.healthy
        async with asyncio.timeout(1):
            assert await ledger.append(log, RECIPIENTS[0]) is None
        assert ledger.outcomes() == {"unknown": 16, "rejected": 17}
        with pytest.raises(LogUnavailable):
            async with asyncio.timeout(IN_TIME):
                await log.ends()
    finally:
        broker.resume()
    await _takes_records_again(log, ledger)
    await ledger.assert_true(log, connection)


async def test_a_broker_that_is_killed_under_load(broker: OwnBroker, log: KafkaLog, connection: KafkaConnection) -> None:
    ledger = Ledger()
    enough = asyncio.Event()

    async def load(recipient: UUID) -> None:
        while not enough.is_set():
            if not await ledger.append(log, recipient):
                await eventually(lambda: log.healthy or enough.is_set(), within=60)

    running = [asyncio.create_task(load(recipient)) for recipient in RECIPIENTS * 4]
    await eventually(lambda: len(ledger.acknowledged) > 500)
    broker.kill()
    await eventually(lambda: ledger.outcomes().total() >= 32, within=15)
    before = len(ledger.acknowledged)
    await broker.start()
    await eventually(lambda: len(ledger.acknowledged) > before + 500, within=60)
    enough.set()
    await asyncio.gather(*running)
    await _takes_records_again(log, ledger)
    await ledger.assert_true(log, connection)


async def test_a_long_outage_ends_in_refusals_at_once_and_recovers(
    broker: OwnBroker, log: KafkaLog, connection: KafkaConnection
) -> None:
    """After the producer was given up nothing is handed over any more, so nothing is unknown."""
    ledger = Ledger()
    broker.kill()
    try:
        await asyncio.gather(*(ledger.append(log, recipient) for recipient in RECIPIENTS))
        await eventually(lambda: log._session is None, within=15)
        ledger.failed.clear()
        async with asyncio.timeout(1):
            await asyncio.gather(*(ledger.append(log, recipient) for recipient in RECIPIENTS))
        assert ledger.outcomes() == {"rejected": 16}
    finally:
        await broker.start()
    await _takes_records_again(log, ledger)


async def test_a_log_that_nobody_uses_knows_its_health(broker: OwnBroker, log: KafkaLog) -> None:
    assert log.healthy
    broker.pause()
    try:
        await eventually(lambda: not log.healthy, within=15)
    finally:
        broker.resume()
    await eventually(lambda: log.healthy, within=15)


async def test_a_batch_that_the_broker_refuses_for_good(log: KafkaLog, connection: KafkaConnection) -> None:
    """Its gap in the producer's sequence would poison the partition: a new producer takes over."""
    ledger = Ledger()
    assert await ledger.append(log, RECIPIENTS[0])
    await _set(connection, "max.message.bytes", "1000")
    fact = builders.stored(sealed=bytes(5000), recipient=RECIPIENTS[0], message_id=UUID(int=next(NUMBERS)))

    async def refused() -> bool:
        try:
            await log.append(fact)
        except LogUnavailable as error:
            return error.outcome == "unknown"
        return False

    await eventually(refused)
    await _set(connection, "max.message.bytes", "2097152")
    await _takes_records_again(log, ledger)
    await ledger.assert_true(log, connection)


async def test_a_sender_that_died(log: KafkaLog, connection: KafkaConnection) -> None:
    ledger = Ledger()
    assert log._session
    log._session._producer._sender.sender_task.cancel()
    await asyncio.gather(*(ledger.append(log, recipient) for recipient in RECIPIENTS))
    await _takes_records_again(log, ledger)
    await ledger.assert_true(log, connection)


@pytest.mark.parametrize("caller_waits", [True, False])
async def test_closing_while_a_batch_waits_for_its_retry(
    broker: OwnBroker, connection: KafkaConnection, caplog: pytest.LogCaptureFixture, caller_waits: bool
) -> None:
    """The batch fails, and nothing else does: no callback of the event loop, and no future that nobody asked."""
    caplog.set_level(logging.CRITICAL, "aiokafka")  # what it logs is kept with its traceback
    failures: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    sent = await _closed_before_its_retry(broker, connection, caller_waits=caller_waits)

    def collected() -> bool:
        gc.collect()
        return sent() is None

    await eventually(collected)  # futures tell of errors that nobody took when they go
    assert failures == []


async def _closed_before_its_retry(
    broker: OwnBroker, connection: KafkaConnection, *, caller_waits: bool
) -> weakref.ref[MessageBatch]:
    session = await Session.open(connection, [LIFECYCLE])
    broker.pause()
    try:
        batch = session.builder()
        batch.append(timestamp=None, key=None, value=b"", headers=[])
        answer = await session.hand_over(batch, (LIFECYCLE, 0))
        accumulator = session._producer._message_accumulator
        [sent] = await eventually(lambda: list(accumulator._pending_batches))
        accumulator.reenqueue(sent)  # as the sender does when a connection breaks
        if not caller_waits:
            answer.cancel()
            await asyncio.wait([answer])
    finally:
        await session.close()
        broker.resume()
    with pytest.raises(ProducerClosed if caller_waits else asyncio.CancelledError):
        await answer
    return weakref.ref(sent)


async def test_closing_while_the_broker_is_away_ends(broker: OwnBroker, connection: KafkaConnection) -> None:
    ledger = Ledger()
    broker.pause()
    try:
        async with asyncio.timeout(30):
            with pytest.raises(LogUnavailable):
                async with KafkaLog(connection):
                    pass
        broker.resume()
        async with asyncio.timeout(30), KafkaLog(connection) as log:
            assert await ledger.append(log, RECIPIENTS[0])
            broker.pause()
            under_way = asyncio.create_task(ledger.append(log, RECIPIENTS[0]))
            await eventually(lambda: _under_way(log) == 1)
        assert await under_way is None
    finally:
        broker.resume()


async def test_opening_without_a_broker_or_topics_says_what_to_do(kafka: str) -> None:
    with pytest.raises(LogUnavailable, match="restante topics") as failure:
        async with KafkaLog(KafkaConnection(bootstrap="127.0.0.1:1")):
            pass
    assert failure.value.outcome == "rejected"


async def test_what_is_over_the_bounds_is_rejected_and_the_rest_is_taken(connection: KafkaConnection) -> None:
    ledger = Ledger()
    async with KafkaLog(connection, max_records=20, max_bytes=100_000) as log:
        await asyncio.gather(*(ledger.append(log, recipient) for recipient in RECIPIENTS * 2))
        assert (len(ledger.acknowledged), ledger.outcomes()) == (20, {"rejected": 12})
        [answer] = await log.append_all([builders.stored(sealed=bytes(200_000))])
        assert isinstance(answer, LogUnavailable)
        assert await ledger.append(log, RECIPIENTS[0])


def _under_way(log: KafkaLog) -> int:
    """Partitions that wait for an answer of the broker."""
    return sum(lane.batch is not None for lane in log._lanes.values())


async def _set(connection: KafkaConnection, name: str, value: str) -> None:
    admin = AIOKafkaAdminClient(**connection.client_options())
    await admin.start()
    resource = ConfigResource(ConfigResourceType.TOPIC, LIFECYCLE, {name: value})
    await admin.alter_configs([resource])
    await admin.close()
