"""One partition's records on their way: waiting, then handed over in a batch, then answered. No I/O; time is an argument."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from producers.log import Appended, LogUnavailable, Outcome
from schemas.codec import Encoded, Headers

Answer = Appended | LogUnavailable
Place = tuple[str, int]
"""Topic and partition."""


class Builder(Protocol):
    """What a lane needs of aiokafka's BatchBuilder: `append` answers None where the record does not fit any more."""

    def append(self, *, timestamp: int | None, key: bytes | None, value: bytes | None, headers: Headers) -> object: ...


class Part:
    """The records of one call for one partition. `future` gets one answer a record, in their order. A part whose future is
    done (answered, overdue, or given up by the caller) is passed over: what was not handed over yet never leaves."""

    __slots__ = ("answers", "deadline", "future", "handed", "records", "size")

    def __init__(
        self, records: Sequence[Encoded], size: int, deadline: float, future: "asyncio.Future[list[Answer]]"
    ) -> None:
        self.records = records
        self.size = size
        self.deadline = deadline
        self.future = future
        self.answers: list[Answer] = []
        self.handed = 0

    def answer(self, answers: Sequence[Answer]) -> None:
        """The next answers, in order. The last one resolves the part."""
        if self.future.done():
            return
        self.answers.extend(answers)
        if len(self.answers) == len(self.records):
            self.future.set_result(self.answers)

    def give_up(self, reason: str) -> None:
        """Answer what is left: unknown where it was handed over, rejected where it was not."""
        handed = self.handed - len(self.answers)
        waiting = len(self.records) - self.handed
        unknown = [LogUnavailable("unknown", reason) for _ in range(handed)]
        self.answer([*unknown, *(LogUnavailable("rejected", reason) for _ in range(waiting))])


@dataclass(slots=True, kw_only=True)
class Batch:
    """What was handed over together: pieces of parts, in the order of the batch's records. `since` is when."""

    place: Place
    since: float
    pieces: list[tuple[Part, int]] = field(default_factory=list)

    def answered(self, base_offset: int, at_ms: int) -> None:
        """The log holds the batch from `base_offset` on."""
        topic, partition = self.place
        offset = base_offset
        for part, count in self.pieces:
            part.answer([Appended(topic, partition, at, at_ms) for at in range(offset, offset + count)])
            offset += count

    def failed(self, outcome: Outcome, reason: str) -> None:
        """No answer came for any record of the batch."""
        for part, count in self.pieces:
            part.answer([LogUnavailable(outcome, reason) for _ in range(count)])


class Lane:
    """The way of one partition. At most one batch is under way, so records keep their order through every retry."""

    __slots__ = ("batch", "place", "waiting")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.waiting: deque[Part] = deque()
        self.batch: Batch | None = None

    @property
    def ready(self) -> bool:
        """Something waits and nothing is under way."""
        return self.batch is None and bool(self.waiting)

    def stuck_for(self, now: float) -> float:
        """Seconds that the batch under way has gone without an answer."""
        return now - self.batch.since if self.batch else 0.0

    def fill(self, builder: Builder, now: float, clock_ms: int) -> Batch | None:
        """Move waiting records into `builder` while they fit. None where nobody waits any more."""
        batch = Batch(place=self.place, since=now)
        while self.waiting:
            part = self.waiting[0]
            if not part.future.done() and not _take(part, builder, clock_ms, batch):
                break
            self.waiting.popleft()
        self.batch = batch if batch.pieces else None
        return self.batch

    def expire(self, now: float, reason: str) -> None:
        """Answer every part whose deadline has passed."""
        while self.waiting and (self.waiting[0].deadline <= now or self.waiting[0].future.done()):
            self.waiting.popleft().give_up(reason)
        for part, _ in self.batch.pieces if self.batch else ():
            if part.deadline <= now:
                part.give_up(reason)

    def forget(self, reason: str) -> None:
        """The batch under way will not be answered any more."""
        if self.batch:
            self.batch.failed("unknown", reason)
            self.batch = None


def _take(part: Part, builder: Builder, clock_ms: int, batch: Batch) -> bool:
    """Hand over what fits of this part; False where something is left."""
    first = part.handed
    for record in part.records[first:] if first else part.records:
        fits = builder.append(timestamp=clock_ms, key=record.key, value=record.value, headers=record.headers)
        if fits is None:
            break
        part.handed += 1
    if part.handed > first:
        batch.pieces.append((part, part.handed - first))
    return part.handed == len(part.records)
