"""Reading a topic of Kafka as it grows, without a group: nothing is committed, no other reader matters.

A task of its own reads ahead into a bounded memory, so a caller of `take` may stop waiting at any time without losing a
record. Read in aiokafka 0.14 (`consumer/fetcher.py`):
- a position out of range goes to the policy of the consumer, here the first record there is;
- a fetch that fails is tried again for ever, and the routine that fetches may die without a word to `getmany`. So silence is
  not trusted: every SILENCE_SECONDS positions are compared with the ends, and a partition that had records waiting and has
  not moved gets a new consumer, which begins where the last one stood.
"""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Self

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from producers.connection import KafkaConnection
from producers.ends import Ends
from producers.log import DEADLINE_SECONDS, MAX_RECORD_BYTES, LogUnavailable
from producers.tail import Tailed
from schemas.codec import DecodeError, decode
from schemas.metrics import TAIL_LEFT_OUT

MAX_BYTES: Final = 16 * 1024 * 1024
SILENCE_SECONDS: Final = 2.0
STOP_SECONDS: Final = 3.0
_FETCH_RECORDS = 500
_FETCH_BYTES = 4 * MAX_RECORD_BYTES
_POLL_MS = 500
_REQUEST_TIMEOUT_MS = 5_000
_REOPEN_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)

_log = structlog.get_logger(__name__)


class KafkaTail:
    """`producers.tail.Tail` on Kafka. `partition` None reads them all. At most about `max_bytes` of values wait for `take`;
    then fetching waits, too. Opening raises `LogUnavailable` where Kafka does not answer or has no such topic."""

    def __init__(
        self,
        connection: KafkaConnection,
        topic: str,
        *,
        partition: int | None = None,
        start: Literal["end", "beginning"],
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._connection = connection
        self._topic = topic
        self._partition = partition
        self._start = start
        self._max_bytes = max_bytes
        self._ends = Ends(connection, topic)
        self._read: dict[int, int] = {}
        self._reached: dict[int, int] = {}
        self._ready: list[Tailed] = []
        self._ready_bytes = 0
        self._some = asyncio.Event()
        self._room = asyncio.Event()
        self._left_out = 0
        self._consumer: AIOKafkaConsumer | None = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            consumer = self._consumer = await self._opened(await self.ends())
        except BaseException:
            await self._ends.close()
            raise
        self._reading = asyncio.create_task(self._keep_reading(consumer), name=f"tail of {self._topic}")
        return self

    async def __aexit__(self, *failure: object) -> None:
        """Ends within two STOP_SECONDS, whatever Kafka does."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
        if self._consumer is not None:
            await _stop(self._consumer)  # nothing to do, but where the task was ended before its first step
        await self._ends.close()

    async def take(self) -> Sequence[Tailed]:
        while not self._ready:
            self._some.clear()
            await self._some.wait()
        taken, self._ready, self._ready_bytes = self._ready, [], 0
        self._reached.update(self._read)
        self._room.set()
        return taken

    def reached(self) -> Mapping[int, int]:
        if not self._ready:
            self._reached.update(self._read)  # what was left out, or is not there any more
        return dict(self._reached)

    async def ends(self) -> Mapping[int, int]:
        found = await self._ends.ask()
        if self._partition is None:
            return found
        if self._partition not in found:
            raise ValueError(f"{self._topic} has {len(found)} partitions, so there is no partition {self._partition}")
        return {self._partition: found[self._partition]}

    async def _opened(self, ends: Mapping[int, int]) -> AIOKafkaConsumer:
        """A consumer at the beginning of this tail."""
        consumer = self._made()
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await consumer.start()
                first = await consumer.beginning_offsets([TopicPartition(self._topic, partition) for partition in ends])
        except (KafkaError, OSError, TimeoutError) as error:
            await _stop(consumer)
            raise LogUnavailable("rejected", f"Kafka at {self._connection.bootstrap} does not answer: {error!r}") from error
        except BaseException:
            await _stop(consumer)
            raise
        self._read = dict(ends) if self._start == "end" else {at.partition: offset for at, offset in first.items()}
        self._reached = dict(self._read)
        self._place(consumer)
        return consumer

    def _made(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **self._connection.client_options(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            max_partition_fetch_bytes=_FETCH_BYTES,
        )

    def _place(self, consumer: AIOKafkaConsumer) -> None:
        """Read on from where we are. Without a pause in between, so that no reset policy comes first."""
        consumer.assign([TopicPartition(self._topic, partition) for partition in self._read])
        for partition, offset in self._read.items():
            consumer.seek(TopicPartition(self._topic, partition), offset)

    async def _keep_reading(self, consumer: AIOKafkaConsumer) -> None:
        """Read for ever; a consumer that failed or fell silent is replaced."""
        pauses = itertools.chain(_REOPEN_SECONDS, itertools.repeat(_REOPEN_SECONDS[-1]))
        while True:
            before = dict(self._read)
            try:
                await self._read_until_broken(consumer)
            except Exception as error:  # aiokafka raises whatever it runs into; a tail goes on whatever that is
                _log.warning("tail_reopened", topic=self._topic, error=repr(error))
            finally:
                await _stop(consumer)
            if self._read != before:
                pauses = itertools.chain(_REOPEN_SECONDS, itertools.repeat(_REOPEN_SECONDS[-1]))
            await asyncio.sleep(next(pauses))
            consumer = self._consumer = self._made()

    async def _read_until_broken(self, consumer: AIOKafkaConsumer) -> None:
        tasks = {asyncio.create_task(work) for work in (self._follow(consumer), self._watch())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        if not consumer.assignment():
            await consumer.start()
            self._place(consumer)
        while True:
            found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_FETCH_RECORDS)
            self._note(found, consumer)
            if self._full:
                self._room.clear()
                await self._room.wait()
            await asyncio.sleep(0)  # much that was read ahead comes without a pause

    @property
    def _full(self) -> bool:
        return self._ready_bytes > self._max_bytes

    def _note(self, found: Mapping[TopicPartition, Sequence[Any]], consumer: AIOKafkaConsumer) -> None:
        before = len(self._ready)
        for records in found.values():
            for record in records:
                self._note_one(record)
        if len(self._ready) > before:
            self._some.set()
        placed = consumer._subscription.subscription.assignment  # `position` would wait where a reset is under way
        for partition in self._read:
            state = placed.state_value(TopicPartition(self._topic, partition))
            if state.has_valid_position:
                self._read[partition] = state.position

    def _note_one(self, record: Any) -> None:
        try:
            decoded = decode(record.value)
        except DecodeError as error:
            self._leave_out(record, error)
            return
        self._ready.append(Tailed(decoded, record.partition, record.offset, record.timestamp))
        self._ready_bytes += len(record.value)

    def _leave_out(self, record: Any, error: DecodeError) -> None:
        TAIL_LEFT_OUT.labels(topic=self._topic).inc()
        if not self._left_out:
            _log.warning(
                "tail_left_out", topic=self._topic, partition=record.partition, offset=record.offset, error=str(error)
            )
        self._left_out += 1

    async def _watch(self) -> None:
        """Returns never; raises where records wait in a partition that has not moved between two looks."""
        waiting: dict[int, int] = {}
        while True:
            await asyncio.sleep(SILENCE_SECONDS)
            silent = [partition for partition, offset in waiting.items() if self._read[partition] == offset]
            if silent:
                raise _Silent(f"records wait in partitions {silent} and do not come")
            try:
                ends = await self.ends()
            except LogUnavailable:
                waiting = {}  # away: nothing can come
                continue
            behind = {partition: offset for partition, offset in self._read.items() if offset < ends.get(partition, 0)}
            waiting = {} if self._full else behind


class _Silent(Exception):
    """The consumer does not give what is there."""


async def _stop(consumer: AIOKafkaConsumer) -> None:
    """End a consumer within two STOP_SECONDS.

    In a task of its own: ending a fetch that waits for a broker makes aiokafka's `stop` raise CancelledError. It has then
    not come to its last step, closing the connections, so that is done here.
    """
    stopping = asyncio.create_task(consumer.stop())
    await asyncio.wait({stopping}, timeout=STOP_SECONDS)
    if not stopping.done():
        stopping.cancel()
        await asyncio.wait({stopping}, timeout=STOP_SECONDS)
    if not stopping.done() or stopping.cancelled() or stopping.exception():
        await consumer._client.close()
