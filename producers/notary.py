"""The notary: recomputes the chain of every partition from the log, and signs how far it has come.

It needs to read the log, and the one column in which the projector keeps its own chain; it writes to its directory only.
Where the two chains meet they are compared: they were read at different times, so a log that was rewritten in between, or
tables that were folded from another one, show as a difference. What it finds it says (log, metric, health) and does not
sign; the rest of the log is signed as ever. Nothing waits for the notary.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Final

import structlog

from producers.log import LogUnavailable, ProducersError
from producers.readable import Readable
from producers.recorded import LogCut, LogDamaged, LogReplaced
from producers.register import Register
from schemas import metrics
from schemas.chain import Chain, Link
from schemas.raw import RawRecord
from schemas.statements import MARK_BYTES, Point

Place = tuple[str, int]
Projected = Callable[[], Awaitable[Mapping[Place, Link]]]
"""How far the projector's own chains have come; empty where nobody can say."""

PERIOD_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 5.0
MOST_RECORDS: Final = 100_000
"""In one statement, so that a line has some hundred kilobytes and a crash costs little."""

_REGISTER: Final = ("", -1)

_log = structlog.get_logger(__name__)


class Notary:
    """Signs the topics every `period` seconds, and once more when told to stop. `reader` gives a topic, not yet open."""

    def __init__(
        self,
        register: Callable[[], Register],
        reader: Callable[[str], Readable],
        projected: Projected,
        topics: Sequence[str],
        *,
        clock: Callable[[], float],
        period: float = PERIOD_SECONDS,
        most_records: int = MOST_RECORDS,
    ) -> None:
        self._register = register
        self._reader = reader
        self._projected = projected
        self._topics = topics
        self._clock = clock
        self._period = period
        self._most_records = most_records
        self._found: dict[Place, str] = {}
        self.away = "the notary starts"
        """Why it cannot work now; empty while it does."""

    @property
    def findings(self) -> list[str]:
        """What is not as it should be: log, statements or projection were changed."""
        return list(self._found.values())

    async def run(self, stop: asyncio.Event) -> None:
        """Sign until told to stop. What goes wrong is said and tried again."""
        while True:
            register = self._register()
            try:
                await asyncio.to_thread(register.open)
                self._settle(_REGISTER, None)
                try:
                    await self._sign_on(register, stop)
                finally:
                    register.close()
                return
            except ProducersError as error:
                self._settle(_REGISTER, f"{error}. {type(error).__doc__ or ''}".strip())
                self.away = ""
            except OSError as error:
                self.away = f"the notary's directory cannot be used: {error}. Mend its path, its rights or its disk"
                _log.error("notary_cannot_write", error=repr(error))
            if await _told(stop, RETRY_SECONDS):
                return

    async def _sign_on(self, register: Register, stop: asyncio.Event) -> None:
        while True:
            last, pause = stop.is_set(), self._period
            try:
                await self.sign(register)
                self.away = ""
                metrics.NOTARY_ROUND.set(self._clock())
            except LogUnavailable as error:
                self.away, pause = str(error), RETRY_SECONDS
                _log.warning("notary_waits", error=str(error))
            if last:
                return
            await _told(stop, pause)

    async def sign(self, register: Register) -> None:
        """One round: everything that is new. Raises `LogUnavailable`, OSError; what was signed before stays."""
        projected = await self._projected()
        points: dict[Place, Point] = {}
        for topic in self._topics:
            async with self._reader(topic) as log:
                for partition, bounds in sorted((await log.bounds()).items()):
                    place = (topic, partition)
                    new = self._new(log, place, bounds, register.heads.get(place), projected.get(place))
                    async with aclosing(new):
                        async for point in new:
                            points[place] = point
                            if sum(len(one.marks) for one in points.values()) >= MARK_BYTES * self._most_records:
                                await self._state(register, points)
        if points:
            await self._state(register, points)

    async def _state(self, register: Register, points: dict[Place, Point]) -> None:
        writing = asyncio.create_task(
            asyncio.to_thread(register.append, int(self._clock() * 1000), list(points.values())), name="statement"
        )
        try:
            statement = await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait({writing})  # the directory is ours until the line is whole
            raise
        self.away = ""
        metrics.NOTARY_STATEMENTS.inc()
        _log.info("notary_signed", number=statement.number, count=sum(p.last + 1 - p.first for p in statement.points))
        points.clear()

    async def _new(
        self, log: Readable, place: Place, bounds: tuple[int, int], head: Point | None, projected: Link | None
    ) -> AsyncGenerator[Point, None]:
        """What is new in a partition, in parts, as far as it can be signed."""
        link, (first, end) = head.link if head else Link(), bounds
        if trouble := _refused(log, place, head, link, first, end):
            self._settle(place, trouble)
            return
        part = _Part(log, place, link)
        trouble = _compared(place, link, projected)
        try:
            async with aclosing(log.batches(place[1], link.next_offset, end)) as batches:
                async for batch in batches:
                    for record in batch:
                        part.add(record)
                        if projected is not None and projected.next_offset == part.next_offset:
                            trouble = _compared(place, part.link, projected)
                        if part.count >= self._most_records:
                            yield part.cut()
        except (LogCut, LogDamaged, LogReplaced, _Hole) as error:
            trouble = f"{_named(place)}: {error}"
        if part.count or head is None:
            yield part.cut()
        met = projected is not None and link.next_offset <= projected.next_offset <= part.next_offset
        if trouble or met or place not in self._found:
            self._settle(place, trouble)

    def _settle(self, place: Place, trouble: str | None) -> None:
        """Remember what is wrong with a place, and say it when it is new; None: nothing is."""
        if trouble is None:
            self._found.pop(place, None)
        elif self._found.get(place) != trouble:
            self._found[place] = trouble
            _log.error("notary_found", reason=trouble)
        metrics.NOTARY_FINDINGS.set(len(self._found))


class _Hole(Exception):
    """Offsets are not one after the other."""


class _Part:
    """New records of one partition on their way into a statement."""

    def __init__(self, log: Readable, place: Place, link: Link) -> None:
        self._chain = Chain(log.topic_id, place[1], link)
        self._topic_id = log.topic_id
        self._place = place
        self._first = link.next_offset
        self._marks = bytearray()

    @property
    def next_offset(self) -> int:
        return self._chain.next_offset

    @property
    def link(self) -> Link:
        return self._chain.link

    @property
    def count(self) -> int:
        return self.next_offset - self._first

    def add(self, record: RawRecord) -> None:
        if record.offset != self.next_offset:
            raise _Hole(f"the records {self.next_offset} to {record.offset - 1} are missing")
        h = self._chain.add(record.at_ms, record.key, record.value, record.headers)
        self._marks += h[:MARK_BYTES]

    def cut(self) -> Point:
        topic, partition = self._place
        point = Point(
            topic=topic,
            topic_id=self._topic_id,
            partition=partition,
            first=self._first,
            last=self.next_offset - 1,
            h=self._chain.h,
            marks=bytes(self._marks),
        )
        self._first = self.next_offset
        self._marks.clear()
        return point


def _refused(log: Readable, place: Place, head: Point | None, link: Link, first: int, end: int) -> str | None:
    if head is not None and head.topic_id != log.topic_id:
        return f"{place[0]} is another topic than the one that was signed: {log.topic_id}, not {head.topic_id}"
    if end < link.next_offset:
        return f"{_named(place)} ends at offset {end}, but was signed up to {link.next_offset - 1}: records are gone"
    if first > link.next_offset:
        return f"{_named(place)} begins at offset {first}: the records before it are gone, and were never signed"
    return None


def _compared(place: Place, ours: Link, theirs: Link | None) -> str | None:
    if theirs is None or ours.next_offset != theirs.next_offset or ours.h == theirs.h:
        return None
    return (
        f"{_named(place)}: up to offset {ours.next_offset - 1} the log is not the one that the projector has folded."
        " `restante verify` and `restante audit --against-projection` say more"
    )


def _named(place: Place) -> str:
    return f"partition {place[1]} of {place[0]}"


async def _told(stop: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
    return stop.is_set()
