"""Reading back what the log holds, from one offset to another: for whoever judges the log or makes something anew from it.

No group, no commit, no position of its own, and no reset policy: what is asked for comes, in order and without a hole, or an
error says why not. Memory is constant: two fetches a partition, one in the caller's hands and one on its way.

It speaks to the brokers itself (aiokafka's client and parsers, not its consumer). The consumer's fetcher keeps a position
and tries for ever in a task of its own; here an answer of the broker is an answer, and a topic's id is asked for
(`topic_ids`): a topic that was deleted and made anew has other records at the same offsets.
"""

import asyncio
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Self, TypeVar

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, LeaderNotAvailableError, OffsetOutOfRangeError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy
from aiokafka.record.memory_records import MemoryRecords

from producers.connection import KafkaConnection
from producers.log import DEADLINE_SECONDS, MAX_RECORD_BYTES, LogUnavailable, ProducersError
from producers.topic_ids import Described, describe
from schemas.raw import RawRecord

PATIENCE_SECONDS: Final = 30.0
_FETCH_BYTES: Final = 2 * MAX_RECORD_BYTES
_FETCH_WAIT_MS: Final = 500
_REQUEST_TIMEOUT_MS: Final = 5_000
_RETRY_SECONDS: Final = 0.1
_ANY_CONSUMER: Final = -1
_READ_UNCOMMITTED: Final = 0

T = TypeVar("T")


class LogReplaced(ProducersError):
    """The topic was deleted and made anew since this reader was opened: the same offsets now hold other records. What was
    read belongs to a log that is gone; begin anew with the new one, or find out who did that."""


class LogCut(ProducersError):
    """Records that must be there are not: the beginning was deleted (retention), or the end was lost (a broker that came
    back without its disk). `first` and `end` are what the partition holds now."""

    def __init__(self, text: str, first: int, end: int) -> None:
        super().__init__(text)
        self.first = first
        self.end = end


class _Short(LogCut):
    """The leader ends before what is asked for. A new one may not know yet how far its predecessor came: ask again."""


class LogDamaged(ProducersError):
    """A batch of records does not fit its checksum: it was changed on the broker's disk or on the way. The records `first`
    to `end - 1` are lost to this reader; reading can go on at `end`."""

    def __init__(self, topic: str, partition: int, first: int, end: int) -> None:
        super().__init__(
            f"the records {first} to {end - 1} of {topic}/{partition} do not fit their checksum. Restore them from a replica"
        )
        self.first = first
        self.end = end


class LogReader:
    """One topic, read by offset. Any number of partitions at a time.

    `async with` opens and closes; opening raises `LogUnavailable` where Kafka does not answer or has no such topic. While
    Kafka is away a call waits `patience` seconds for it before it raises `LogUnavailable`.
    """

    def __init__(self, connection: KafkaConnection, topic: str, *, patience: float = PATIENCE_SECONDS) -> None:
        self._connection = connection
        self._topic = topic
        self._patience = patience
        self._client: AIOKafkaClient | None = None
        self._leaders: Mapping[int, int] = {}
        self._connecting = asyncio.Lock()
        self._fetches: set[asyncio.Task[Any]] = set()
        self.topic_id = uuid.UUID(int=0)
        """The topic's id, known once this is open. Another id is another topic, whatever its name."""

    async def __aenter__(self) -> Self:
        try:
            self.topic_id = (await self._insist(self._described, min(self._patience, DEADLINE_SECONDS))).topic_id
        except BaseException:
            await self._disconnect()
            raise
        return self

    async def __aexit__(self, *failure: object) -> None:
        for fetch in self._fetches:
            fetch.cancel()
        await asyncio.gather(*self._fetches, return_exceptions=True)
        await self._disconnect()

    async def bounds(self) -> Mapping[int, tuple[int, int]]:
        """For each partition the offset of its first record, and the one after its last readable record."""

        async def ask() -> Mapping[int, tuple[int, int]]:
            await self._same_topic()
            wanted = range(len(self._leaders))
            first = await self._offsets(dict.fromkeys(wanted, OffsetResetStrategy.EARLIEST))
            end = await self._offsets(dict.fromkeys(wanted, OffsetResetStrategy.LATEST))
            return {partition: (first[partition], end[partition]) for partition in wanted}

        return await self._insist(ask)

    async def offset_at(self, partition: int, timestamp_ms: int) -> int:
        """The offset of the first record that was appended at this time or later; the end where there is none."""

        async def ask() -> int:
            found = (await self._offsets({partition: timestamp_ms}))[partition]
            return found if found >= 0 else (await self._offsets({partition: OffsetResetStrategy.LATEST}))[partition]

        return await self._insist(ask)

    async def batches(self, partition: int, start: int, end: int) -> AsyncGenerator[Sequence[RawRecord], None]:
        """The records from offset `start` to `end - 1`, some at a time. `end` must not be beyond the log's end. Raises
        `LogCut`, `LogDamaged`, `LogReplaced`, `LogUnavailable`."""
        at = start
        coming = self._begin_fetch(partition, at, end) if at < end else None
        try:
            while coming is not None:
                records, at = await coming
                coming = self._begin_fetch(partition, at, end) if at < end else None
                if records:
                    yield records
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.wait({coming})
        await self._insist(self._same_topic)

    def _begin_fetch(self, partition: int, at: int, end: int) -> asyncio.Task[tuple[list[RawRecord], int]]:
        task = asyncio.create_task(self._insist(lambda: self._fetch(partition, at, end)))
        self._fetches.add(task)
        task.add_done_callback(self._fetches.discard)
        return task

    async def _fetch(self, partition: int, at: int, end: int) -> tuple[list[RawRecord], int]:
        """The records of one answer, and the offset to go on from."""
        request = FetchRequest(
            _FETCH_WAIT_MS, 1, _FETCH_BYTES, _READ_UNCOMMITTED, [(self._topic, [(partition, at, _FETCH_BYTES)])]
        )
        response = await (await self._connected()).send(self._leader(partition), request)
        ((_, ((_, code, high_water, *_, data),)),) = response.topics
        if for_code(code) is OffsetOutOfRangeError:
            await self._explain(partition, at, end)
        if code:
            raise for_code(code)()
        records, after = self._parsed(partition, data or b"", at, end)
        if after == at:
            raise _Short(self._cut(partition, f"ends at offset {high_water}", at, end), at, high_water)
        return records, after

    def _parsed(self, partition: int, data: bytes, at: int, end: int) -> tuple[list[RawRecord], int]:
        """What lies in the range, and the offset after the last whole batch (control records count, and are left out)."""
        found: list[RawRecord] = []
        batches = MemoryRecords(data)
        while batches.has_next():
            batch = batches.next_batch()
            if not batch.validate_crc():
                if found:
                    return found, at  # these first; the next fetch begins with the damaged batch
                raise LogDamaged(self._topic, partition, max(at, batch.base_offset), batch.next_offset)
            if not batch.is_control_batch:
                found += [
                    RawRecord(partition, record.offset, record.timestamp, record.key, record.value, tuple(record.headers))
                    for record in batch
                    if at <= record.offset < end
                ]
            at = max(at, batch.next_offset)
        return found, at

    async def _explain(self, partition: int, at: int, end: int) -> None:
        """Kafka does not have this offset. Raises what that means."""
        await self._same_topic()
        first = (await self._offsets({partition: OffsetResetStrategy.EARLIEST}))[partition]
        last = (await self._offsets({partition: OffsetResetStrategy.LATEST}))[partition]
        what = f"begins at offset {first}" if at < first else f"ends at offset {last}"
        raise LogCut(self._cut(partition, what, at, end), first, last)

    def _cut(self, partition: int, what: str, at: int, end: int) -> str:
        return (
            f"{self._topic}/{partition} {what}, but the records {at} to {end - 1} were asked for. Read what there is, and "
            "find out who deleted the rest"
        )

    async def _offsets(self, wanted: Mapping[int, int]) -> Mapping[int, int]:
        """ListOffsets: partition -> time (or first, or last) to partition -> offset."""
        by_leader: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        client = await self._connected()
        for partition, moment in wanted.items():
            by_leader[self._leader(partition)].append((partition, moment))
        found: dict[int, int] = {}
        for leader, partitions in by_leader.items():
            response = await client.send(
                leader, OffsetRequest(_ANY_CONSUMER, _READ_UNCOMMITTED, [(self._topic, partitions)])
            )
            for partition, code, _, offset in (row for _, rows in response.topics for row in rows):
                if code:
                    raise for_code(code)()
                found[partition] = offset
        return found

    def _leader(self, partition: int) -> int:
        if partition not in self._leaders:
            raise ValueError(f"{self._topic} has {len(self._leaders)} partitions, so there is no partition {partition}")
        if self._leaders[partition] < 0:
            raise LeaderNotAvailableError(f"{self._topic}/{partition}")
        return self._leaders[partition]

    async def _same_topic(self) -> None:
        self._check(await self._described())

    def _check(self, found: Described) -> None:
        if self.topic_id.int and found.topic_id != self.topic_id:
            raise LogReplaced(
                f"{self._topic} is another topic than when reading began: id {found.topic_id}, not {self.topic_id}. Begin "
                "anew with the new one, or find out who deleted the old one"
            )

    async def _described(self) -> Described:
        return await describe(await self._connected(), self._topic)

    async def _insist(self, ask: Callable[[], Awaitable[T]], patience: float | None = None) -> T:
        """Ask until there is an answer or no patience. Every failure drops the connection: a new one knows the leaders
        anew."""
        wait = self._patience if patience is None else patience
        deadline = time.monotonic() + wait
        short: _Short | None = None
        while True:
            try:
                async with asyncio.timeout(max(_RETRY_SECONDS, deadline - time.monotonic())):
                    return await ask()
            except _Short as error:
                short = error
            except (KafkaError, OSError, TimeoutError) as error:
                await self._disconnect()
                if time.monotonic() >= deadline and short is None:
                    raise LogUnavailable(
                        "rejected",
                        f"{self._topic} could not be read at {self._connection.bootstrap} for {wait:g} s ({error!r}). "
                        "Start Kafka, or mend RESTANTE_KAFKA; where the topic is missing, run `restante topics`",
                    ) from error
            if short is not None and time.monotonic() >= deadline:
                raise short
            await asyncio.sleep(_RETRY_SECONDS)

    async def _connected(self) -> AIOKafkaClient:
        async with self._connecting:
            if self._client is None:
                client = AIOKafkaClient(**self._connection.client_options(), request_timeout_ms=_REQUEST_TIMEOUT_MS)
                try:
                    await client.bootstrap()
                    found = await describe(client, self._topic)
                    self._check(found)
                except BaseException:
                    await client.close()
                    raise
                self._client, self._leaders = client, found.leaders
            return self._client

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(KafkaError, OSError):
                await client.close()
