"""Where a projector's records come from: partitions that are given and taken away, read from where we say.

The consumer group only shares out partitions. Where to begin is in PostgreSQL, next to the rows; nothing is committed to
Kafka, and there is no reset policy to fall back on: a position that the log does not have is an error, not a new beginning.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol, Self

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from projections.errors import SourceUnavailable
from schemas.topics import LIFECYCLE

log = logging.getLogger(__name__)

GROUP: Final = "restante-projector"
RECEIPTS_GROUP: Final = f"{GROUP}-receipts"
"""A group of its own: a slow topic does not hold up the partitions of the other."""
ANSWER_SECONDS: Final = 5.0
STOP_SECONDS: Final = 5.0
FEW_RECORDS: Final = 500
"""After a take of fewer nothing is fetched before the next one: aiokafka would fetch at once, be answered with the first
record that comes, and keep to that until it is taken, so that every other take would bring almost nothing."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A record as it stands in the log."""

    offset: int
    at_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class LogSource(Protocol):
    """Partitions of the lifecycle topic. Where a call raises `SourceUnavailable`, leave the source and enter it anew."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...

    def partitions(self) -> int:
        """How many partitions the topic has; they decide where a recipient's facts belong."""

    def assigned(self) -> set[int]:
        """Those that are ours now."""

    def unplaced(self) -> set[int]:
        """Those of them that give nothing until `place` says where to begin."""

    def place(self, partition: int, offset: int) -> None:
        """Give this partition's records from this offset on."""

    def unplace(self) -> None:
        """Give nothing until placed again, and forget what was read ahead."""

    async def bounds(self, partitions: Iterable[int]) -> Mapping[int, tuple[int, int]]:
        """For each partition the offset of its first record and the one after its last."""

    async def take(self, most: int, seconds: float) -> Mapping[int, Sequence[Raw]]:
        """What is there, at once; else what comes first within this time; else nothing."""


class KafkaSource:
    """The lifecycle topic through a consumer group. `options` are those of any aiokafka client (address, security);
    `instance`, where given, keeps the partitions through a restart that is shorter than the session time-out."""

    def __init__(
        self, options: Mapping[str, Any], *, group: str = GROUP, topic: str = LIFECYCLE, instance: str | None = None
    ) -> None:
        self._options = options
        self._group = group
        self._topic = topic
        self._instance = instance
        self._consumer: AIOKafkaConsumer | None = None
        self._unplaced: set[int] = set()
        self._resting = False

    async def __aenter__(self) -> Self:
        consumer = AIOKafkaConsumer(
            **self._options,
            group_id=self._group,
            group_instance_id=self._instance,
            auto_offset_reset="none",
            enable_auto_commit=False,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=1_500,
            request_timeout_ms=10_000,
            max_partition_fetch_bytes=4 * 1024 * 1024,
        )
        self._unplaced = set()
        self._resting = False
        consumer.subscribe([self._topic], listener=_Listener(consumer, self._unplaced))
        try:
            async with asyncio.timeout(2 * ANSWER_SECONDS):
                await consumer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await _stopped(consumer)
            raise SourceUnavailable(f"Kafka does not answer: {error!r}") from error
        except BaseException:
            await _stopped(consumer)
            raise
        self._consumer = consumer
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await _stopped(consumer)

    def partitions(self) -> int:
        return len(self._open().partitions_for_topic(self._topic) or ())

    def assigned(self) -> set[int]:
        return {at.partition for at in self._open().assignment()}

    def unplaced(self) -> set[int]:
        return self._unplaced & self.assigned()

    def place(self, partition: int, offset: int) -> None:
        consumer, at = self._open(), TopicPartition(self._topic, partition)
        try:
            consumer.seek(at, offset)
            consumer.resume(at)
        except IllegalStateError:
            return  # taken away since; whoever has it now asks again
        self._unplaced.discard(partition)

    def unplace(self) -> None:
        _hold(self._open(), self._unplaced, self._open().assignment())

    async def bounds(self, partitions: Iterable[int]) -> Mapping[int, tuple[int, int]]:
        consumer = self._open()
        asked = [TopicPartition(self._topic, partition) for partition in partitions]
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                first, end = await asyncio.gather(consumer.beginning_offsets(asked), consumer.end_offsets(asked))
        except (KafkaError, OSError, TimeoutError) as error:
            raise SourceUnavailable(f"Kafka does not say where {self._topic} ends: {error!r}") from error
        return {at.partition: (first[at], end[at]) for at in asked}

    async def take(self, most: int, seconds: float) -> Mapping[int, Sequence[Raw]]:
        consumer = self._open()
        self._rest(consumer, False)
        try:
            found = await consumer.getmany(timeout_ms=int(1000 * seconds), max_records=most)
        except (NoOffsetForPartitionError, OffsetOutOfRangeError):
            self.unplace()  # the first: asked before we placed it; the second: placing compares with the log's bounds
            return {}
        except (KafkaError, OSError) as error:
            raise SourceUnavailable(f"Kafka does not answer: {error!r}") from error
        self._rest(consumer, 0 < sum(map(len, found.values())) < FEW_RECORDS)
        return {at.partition: [_raw(record) for record in records] for at, records in found.items()}

    def _rest(self, consumer: AIOKafkaConsumer, wanted: bool) -> None:
        """Stop fetching, or go on."""
        if wanted != self._resting:
            self._resting = wanted
            turn = consumer.pause if wanted else consumer.resume
            turn(*(at for at in consumer.assignment() if at.partition not in self._unplaced))

    def _open(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise SourceUnavailable("the source is not open: use it in `async with`")
        return self._consumer


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Holds what was just assigned. No I/O here: the group waits for this callback."""

    def __init__(self, consumer: AIOKafkaConsumer, unplaced: set[int]) -> None:
        self._consumer = consumer
        self._unplaced = unplaced

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._unplaced.clear()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        log.info("partitions assigned: %s", sorted(at.partition for at in assigned))
        _hold(self._consumer, self._unplaced, assigned)


def _hold(consumer: AIOKafkaConsumer, unplaced: set[int], partitions: Iterable[TopicPartition]) -> None:
    """Paused, and with a position, so that aiokafka does not look for one."""
    for at in partitions:
        consumer.pause(at)
        consumer.seek(at, 0)
        unplaced.add(at.partition)


async def _stopped(consumer: AIOKafkaConsumer) -> None:
    """Leave the group, but never wait for a broker that is away.

    In a task of its own: ending a fetch that waits for a broker makes aiokafka's `stop` raise CancelledError, which here
    would end the projector. Either way `stop` has then not come to its last step, closing the connections (and the task that
    keeps reconnecting them), so that is done here.
    """
    stopping = asyncio.create_task(consumer.stop())
    await asyncio.wait({stopping}, timeout=STOP_SECONDS)
    if not stopping.done():
        stopping.cancel()
        await asyncio.wait({stopping}, timeout=STOP_SECONDS)
    if not stopping.done() or stopping.cancelled() or stopping.exception():
        log.warning("the consumer did not stop in order; closing its connections")
        await consumer._client.close()


def _raw(record: Any) -> Raw:
    return Raw(record.offset, record.timestamp, record.key, record.value, record.headers)


class MemorySource:
    """All partitions of a log in memory. `held(partition)` gives a partition's records, the index being the offset."""

    def __init__(self, held: Callable[[int], Sequence[Raw]], partitions: Iterable[int]) -> None:
        self._held = held
        self._partitions = set(partitions)
        self._unplaced = set(self._partitions)
        self._next: dict[int, int] = {}

    async def __aenter__(self) -> Self:
        self.unplace()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        return None

    def partitions(self) -> int:
        return len(self._partitions)

    def assigned(self) -> set[int]:
        return set(self._partitions)

    def unplaced(self) -> set[int]:
        return set(self._unplaced)

    def place(self, partition: int, offset: int) -> None:
        self._next[partition] = offset
        self._unplaced.discard(partition)

    def unplace(self) -> None:
        self._unplaced = set(self._partitions)

    async def bounds(self, partitions: Iterable[int]) -> Mapping[int, tuple[int, int]]:
        return {partition: (0, len(self._held(partition))) for partition in partitions}

    async def take(self, most: int, seconds: float) -> Mapping[int, Sequence[Raw]]:
        found = self._found(most)
        if not found:
            await asyncio.sleep(min(seconds, 0.01))
            found = self._found(most)
        return found

    def _found(self, most: int) -> dict[int, Sequence[Raw]]:
        found: dict[int, Sequence[Raw]] = {}
        for partition in self._partitions - self._unplaced:
            start = self._next[partition]
            records = self._held(partition)[start : start + most]
            if records:
                found[partition] = records
                self._next[partition] = start + len(records)
        return found
