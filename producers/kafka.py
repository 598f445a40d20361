"""The event log on Apache Kafka.

aiokafka's `send` costs a future and a walk through its accumulator for each record. Here the records of a partition are
collected while a request is under way and leave together, with one future a batch. Batches leave in rounds: one round a
leader at a time, with every partition that has something waiting, so that appenders on many partitions share one request
(aiokafka has one request a broker under way; partitions handed over one by one would take turns).
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import structlog
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from producers.addresses import address
from producers.connection import KafkaConnection
from producers.ends import Ends
from producers.lanes import Answer, Batch, Lane, Part, Place
from producers.log import DEADLINE_SECONDS, Appended, LogUnavailable, Outcome
from producers.session import Session
from schemas.codec import Encoded, Record
from schemas.topics import LIFECYCLE, TOPIC_OF

MAX_RECORDS = 20_000
MAX_BYTES = 64 * 1024 * 1024
_TOPICS = sorted(set(TOPIC_OF.values()))
_ROUND_SECONDS = 0.25
_WATCH_SECONDS = 0.1
_PROBE_SECONDS = 2.0
_STUCK_SECONDS = 10.0
_REOPEN_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)

_NO_ANSWER = f"Kafka has not answered for {DEADLINE_SECONDS:.0f} s. Try again; it recovers by itself"

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Round:
    """The batches that left for one leader together, and how many of them are not answered."""

    leader: int | None
    since: float
    open: int = 0


class KafkaLog:
    """`producers.log.EventLog` on Kafka: acks=all, idempotent, bounded.

    At most `max_records` and `max_bytes` are in flight; what comes over that is rejected at once, as is everything for a
    partition that has not answered for DEADLINE_SECONDS. A round of a leader begins `pace_seconds` after the one before at
    the earliest, so that more shares a request; what comes after a pause leaves at once. After a fatal error of the producer
    a new one is opened in the background. Opening raises `LogUnavailable` where Kafka does not answer or lacks a topic of
    the table.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        max_records: int = MAX_RECORDS,
        max_bytes: int = MAX_BYTES,
        pace_seconds: float = 0.0,
    ) -> None:
        self._connection = connection
        self._pace_seconds = pace_seconds
        self._free_records = max_records
        self._free_bytes = max_bytes
        self._ends = {LIFECYCLE: Ends(connection, LIFECYCLE)}
        self._lanes: dict[Place, Lane] = {}
        self._rounds: dict[int | None, _Round] = {}
        self._deliveries: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._partitions: dict[str, int] = {}
        self._session: Session | None = None
        self._down_since = 0.0
        self._open_parts = 0
        self._emptied = asyncio.Event()
        self._dispatch_due = False
        self._closing = False

    @property
    def partitions(self) -> int:
        return self._partitions[LIFECYCLE]

    @property
    def healthy(self) -> bool:
        if self._session is None or self._closing or self._ends[LIFECYCLE].failing:
            return False
        now = time.monotonic()
        return all(lane.stuck_for(now) < DEADLINE_SECONDS for lane in self._lanes.values())

    async def __aenter__(self) -> Self:
        try:
            self._session = await Session.open(self._connection, _TOPICS)
        except (KafkaError, OSError, TimeoutError) as error:
            raise LogUnavailable(
                "rejected",
                f"Kafka at {self._connection.bootstrap} does not answer, or one of {', '.join(_TOPICS)} is missing "
                f"({error!r}). Start it, and run `restante topics`",
            ) from error
        self._partitions = self._session.partitions
        self._tasks = [asyncio.create_task(task) for task in (self._keep(self._session), self._watch(), self._probe())]
        return self

    async def __aexit__(self, *failure: object) -> None:
        """Wait until what is in flight is answered (DEADLINE_SECONDS at most), then end the producer."""
        self._closing = True
        if self._open_parts:
            await self._emptied.wait()
        await _cancel([*self._tasks, *self._deliveries])
        if self._session is not None:
            await self._session.close()
        for ends in self._ends.values():
            await ends.close()

    async def append(self, record: Record, *, partition: int | None = None) -> Appended:
        return await self.take(*self.address(record, partition))

    async def append_all(self, records: Sequence[Record], *, partitions: Sequence[int | None] | None = None) -> list[Answer]:
        wanted = partitions if partitions is not None else (None,) * len(records)
        return await self.take_all([self.address(record, at) for record, at in zip(records, wanted, strict=True)])

    def address(self, record: Record, partition: int | None) -> tuple[Place, Encoded]:
        """Where a record goes, and its bytes (see `producers.addresses`)."""
        return address(record, partition, self._partitions)

    async def take(self, place: Place, encoded: Encoded) -> Appended:
        """Append one record that has its address."""
        part = self._enter(place, [encoded])
        try:
            (answer,) = await part.future
        finally:
            self._leave(part)
        if isinstance(answer, LogUnavailable):
            raise answer
        return answer

    async def take_all(self, addressed: Sequence[tuple[Place, Encoded]]) -> list[Answer]:
        """Append records that have their addresses; one answer each, in their order."""
        groups: dict[Place, list[Encoded]] = {}
        for place, encoded in addressed:
            groups.setdefault(place, []).append(encoded)
        parts = {place: self._enter(place, group) for place, group in groups.items()}
        try:
            answers = {place: iter(await part.future) for place, part in parts.items()}
        finally:
            for part in parts.values():
                self._leave(part)
        return [next(answers[place]) for place, _ in addressed]

    async def ends(self, topic: str = LIFECYCLE) -> Mapping[int, int]:
        if topic not in self._ends:
            self._ends[topic] = Ends(self._connection, topic)
        return await self._ends[topic].ask()

    def _enter(self, place: Place, records: list[Encoded]) -> Part:
        """Queue records of one partition; what can not be taken now is answered at once. `_leave` must follow."""
        now = time.monotonic()
        size = sum([len(record.value) for record in records])
        part = Part(records, size, now + DEADLINE_SECONDS, asyncio.get_running_loop().create_future())
        lane = self._lanes.get(place)
        if lane is None:
            lane = self._lanes[place] = Lane(place)
        self._open_parts += 1
        self._free_records -= len(records)
        self._free_bytes -= size
        refusal = self._refusal(lane, now)
        if refusal:
            # not at once: a caller that tries again and again without a pause must not stop the loop
            asyncio.get_running_loop().call_soon(part.give_up, refusal)
        else:
            lane.waiting.append(part)
            self._dispatch_soon()
        return part

    def _leave(self, part: Part) -> None:
        part.future.cancel()  # a caller that was cancelled wants nothing sent that was not sent yet
        self._open_parts -= 1
        self._free_records += len(part.records)
        self._free_bytes += part.size
        if self._closing and not self._open_parts:
            self._emptied.set()

    def _refusal(self, lane: Lane, now: float) -> str | None:
        if self._closing:
            return "this log is being closed. Use another process"
        if self._free_records < 0 or self._free_bytes < 0:
            return "too much is in flight. Wait for answers, then try again"
        down = self._session is None and now - self._down_since >= DEADLINE_SECONDS
        if down or lane.stuck_for(now) >= DEADLINE_SECONDS:
            return _NO_ANSWER
        return None

    def _dispatch_soon(self) -> None:
        """Hand over at the end of this turn of the loop, so that what is appended in the same turn goes together."""
        if not self._dispatch_due:
            self._dispatch_due = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Start a round for each leader that has none under way. All its batches reach the sender before the sender runs."""
        self._dispatch_due = False
        session = self._session
        if session is None:
            return
        now = time.monotonic()
        rounds: dict[int | None, _Round] = {}
        for lane in self._lanes.values():
            if not lane.ready:
                continue
            leader = session.leader(lane.place)
            if leader in self._rounds:
                continue
            builder = session.builder()
            batch = lane.fill(builder, now, int(time.time() * 1000))
            if batch is not None:
                round_ = rounds.setdefault(leader, _Round(leader, now))
                round_.open += 1
                self._start(self._deliver(session, lane, batch, builder, round_))
        self._rounds.update(rounds)

    def _start(self, delivery: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(delivery)
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)

    async def _deliver(self, session: Session, lane: Lane, batch: Batch, builder: BatchBuilder, round_: _Round) -> None:
        try:
            await _answer(session, batch, builder)
        finally:
            lane.batch = None
            round_.open -= 1
            if not round_.open:
                rest = round_.since + self._pace_seconds - time.monotonic()
                if rest > 0:
                    asyncio.get_running_loop().call_later(rest, self._end_round, round_)
                else:
                    self._end_round(round_)

    def _end_round(self, round_: _Round) -> None:
        if self._rounds.get(round_.leader) is round_:
            del self._rounds[round_.leader]
        self._dispatch_soon()

    async def _watch(self) -> None:
        """Answer what is overdue, let the others of a leader pass a partition that hangs, give up a producer that hangs."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            now = time.monotonic()
            for lane in self._lanes.values():
                lane.expire(now, _NO_ANSWER)
                if self._session is not None and lane.stuck_for(now) > _STUCK_SECONDS:
                    self._session.broken.set()
            for round_ in [one for one in self._rounds.values() if now - one.since > _ROUND_SECONDS]:
                self._end_round(round_)

    async def _probe(self) -> None:
        """Ask for the ends now and then, so that `healthy` is true to a log that nobody uses."""
        while True:
            await asyncio.sleep(_PROBE_SECONDS)
            with contextlib.suppress(LogUnavailable):
                await self._ends[LIFECYCLE].ask()

    async def _keep(self, session: Session) -> None:
        """Replace a producer that is broken by a new one."""
        while True:
            await session.broken.wait()
            _log.error("producer_broken")
            now = time.monotonic()
            self._session = None
            self._down_since = min([now, *(lane.batch.since for lane in self._lanes.values() if lane.batch)])
            await _cancel(self._deliveries)
            for lane in self._lanes.values():
                lane.forget(_NO_ANSWER)  # a delivery that was cancelled before its first step has not said so
            self._rounds.clear()
            await session.close()
            session = self._session = await self._reopened()
            self._dispatch_soon()

    async def _reopened(self) -> Session:
        for delay in itertools.chain(_REOPEN_SECONDS, itertools.repeat(_REOPEN_SECONDS[-1])):
            try:
                session = await Session.open(self._connection, _TOPICS)
            except (KafkaError, OSError, TimeoutError) as error:
                _log.warning("producer_not_reopened", error=repr(error))
            else:
                if session.partitions == self._partitions:
                    return session
                _log.error("partitions_changed", were=self._partitions, are=session.partitions)
                await session.close()
            await asyncio.sleep(delay)
        raise AssertionError("the delays never end")


async def _answer(session: Session, batch: Batch, builder: BatchBuilder) -> None:
    """Take one batch to its answer. Any failure ends the session (see there)."""
    outcome: Outcome = "rejected"
    try:
        future = await session.hand_over(builder, batch.place)
        outcome = "unknown"
        metadata = await future
    except BaseException as error:
        batch.failed(outcome, f"Kafka did not take the records: {error!r}. Try again")
        session.broken.set()
        if not isinstance(error, Exception):
            raise
        return
    if metadata.offset < 0:
        batch.failed("unknown", "Kafka holds the records and has forgotten where. Look whether they arrived")
    else:
        batch.answered(metadata.offset, metadata.timestamp)


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    doomed = set(tasks)
    for task in doomed:
        task.cancel()
    if doomed:
        await asyncio.wait(doomed)
