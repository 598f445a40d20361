"""The projector: takes the records of a topic, folds them, and moves on, rows and offsets in one transaction.

The transaction first moves the offset rows from exactly where this projector started; if another has been there, it fails
(`ReplacedError`) and nothing is written. So a projector that was paused and replaced does no harm, and a record is folded
once however often it is read. Everything in memory is a guess that may be dropped at any time: after any trouble the offsets
are read again, and the partitions begin there.

What the projector remembers of the log it compares each time it begins: the end must not be before its offset, and the last
record it folded must still be at its place, with its event id and time. Else it is another log (`ForeignLogError`).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from projections import columns
from projections.apply import QUERIES, Applied
from projections.database import Database
from projections.errors import (
    DatabaseUnavailable,
    ForeignLogError,
    QuarantineLimitError,
    ReplacedError,
    SourceUnavailable,
)
from projections.folds import FACTS, Fold
from projections.progress import CHANNEL, announcements
from projections.source import LogSource, Raw
from schemas import metrics
from schemas.chain import ORIGIN, Chain, Link
from schemas.codec import DecodeError, Record, decode
from schemas.events import Place
from schemas.ids import derived_id
from schemas.partitions import partition_of_key, recipient_key
from schemas.quarantined import Header, Quarantined

log = logging.getLogger(__name__)

Quarantine = Callable[[Quarantined], Awaitable[object]]
"""Appends a record to restante.quarantine, for good before it returns; raises where it could not."""

MOST_RECORDS: Final = 2_000
WAIT_SECONDS: Final = 0.5
PACE_SECONDS: Final = 0.015
"""From one transaction to the next at the least. A broker that flushes partition by partition hands out records a few at a
time; what comes meanwhile shares a transaction. The first one after a rest does not wait."""
MEASURE_SECONDS: Final = 2.0
SILENT_SECONDS: Final = 30.0
BACK_OFF_SECONDS: Final = (0.1, 5.0)
QUARANTINE_LIMIT: Final = 100
NO_TOPIC_ID: Final = UUID(int=0)
"""A log in memory has no ids of topics."""


@dataclass(slots=True)
class _Place:
    """Where a partition's next transaction starts, and the last record folded."""

    next_offset: int
    last_event_id: UUID | None
    last_at_ms: int | None
    h: bytes | None
    witnessed: bool


@dataclass(frozen=True, slots=True)
class _Step:
    """One partition's part of a batch."""

    partition: int
    start: int
    end: int
    last_event_id: UUID | None
    last_at_ms: int
    h: bytes | None
    records: list[Any]


class Projector:
    """Folds the partitions that its source is given, until cancelled, as `fold` says (the source is of its topic). `run`
    raises only what a person must look at."""

    def __init__(
        self,
        source: LogSource,
        database: Database,
        quarantine: Quarantine,
        *,
        fold: Fold[Any] = FACTS,
        topic_id: UUID = NO_TOPIC_ID,
        name: str = "projector",
        quarantine_limit: int = QUARANTINE_LIMIT,
        silent_seconds: float = SILENT_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._database = database
        self._quarantine = quarantine
        self._meaning = fold
        self._topic_id = topic_id
        self._name = name
        self._quarantine_limit = quarantine_limit
        self._silent_seconds = silent_seconds
        self._clock = clock
        self._places: dict[int, _Place] = {}
        self._quarantined: set[tuple[int, int]] = set()
        self._measured: set[int] = set()
        self.folding = False
        """True while it reads and writes; False while Kafka or PostgreSQL is away."""

    async def run(self) -> None:
        """Fold until cancelled. Raises `ForeignLogError` and `QuarantineLimitError`; waits out everything else."""
        least, most = BACK_OFF_SECONDS
        pause = least
        while True:
            try:
                async with self._source as source:
                    while True:
                        try:
                            await self._follow(source)
                        except (DatabaseUnavailable, ReplacedError) as error:
                            pause = least if self.folding else min(2 * pause, most)
                            self.folding = False
                            log.warning("reading the offsets again in %.1f s: %s", pause, error)
                            source.unplace()
                            await asyncio.sleep(pause)
            except SourceUnavailable as error:
                pause = least if self.folding else min(2 * pause, most)
                self.folding = False
                log.warning("connecting to Kafka again in %.1f s: %s", pause, error)
            await asyncio.sleep(pause)

    async def _follow(self, source: LogSource) -> None:
        """Take and fold until something goes wrong."""
        clock = asyncio.get_running_loop().time
        measured = heard = clock()
        while True:
            if waiting := source.unplaced():
                await self._place(source, waiting)
            await asyncio.sleep(max(0.0, heard + PACE_SECONDS - clock()))
            taken = await source.take(MOST_RECORDS, WAIT_SECONDS)
            now = clock()
            if taken:
                heard = now
                await self._fold(taken, source.partitions())
            self.folding = True
            if now - measured >= MEASURE_SECONDS:
                measured = now
                behind = await self._measure(source)
                if not behind:
                    heard = now
                elif now - heard >= self._silent_seconds:
                    raise SourceUnavailable(f"{behind} records wait, and none came for {now - heard:.0f} s")

    async def _place(self, source: LogSource, partitions: set[int]) -> None:
        """Begin where the tables end. One record earlier, where there is one: it must be the one we know."""
        asked: dict[str, Any] = {"topic": self._meaning.topic, "partitions": columns.smallints(sorted(partitions))}
        await self._database.run(QUERIES["begin_partitions"], **asked)
        rows = await self._database.tuples(QUERIES["starts"], **asked)
        bounds = await source.bounds(partitions)
        for partition, next_offset, last_event_id, last_at_ms, h in rows:
            first, end = bounds[partition]
            _check_bounds(self._named(partition), next_offset, first, end)
            self._places[partition] = _Place(next_offset, last_event_id, last_at_ms, h, witnessed=next_offset == 0)
            source.place(partition, max(0, next_offset - 1))

    async def _fold(self, taken: Mapping[int, Sequence[Raw]], partitions: int) -> None:
        """One transaction for all that was taken."""
        steps = []
        for partition in sorted(taken):
            raws = self._unseen(partition, taken[partition])
            if raws:
                steps.append(await self._step(partition, partitions, raws))
        if not steps:
            return
        async with self._database.transaction() as transaction:
            moved = await transaction.run(QUERIES["move_on"], **_moves(self._meaning.topic, steps))
            if moved < len(steps):
                raise ReplacedError("another projector has moved on these partitions")
            applied = await self._meaning.apply(transaction, [recorded for step in steps for recorded in step.records])
            payloads = [payload for step in steps for payload in self._announced(step)]
            await transaction.tuples(QUERIES["announce"], channel=CHANNEL, payloads=columns.texts(payloads))
        for step in steps:
            self._places[step.partition] = _Place(step.end, step.last_event_id, step.last_at_ms, step.h, witnessed=True)
        _count(applied)

    def _unseen(self, partition: int, raws: Sequence[Raw]) -> Sequence[Raw]:
        """The records from our offset on, once the one before has been recognised."""
        place = self._places[partition]
        if not place.witnessed:
            self._check_witness(partition, place, raws[0])
            place.witnessed = True
        unseen = [raw for raw in raws if raw.offset >= place.next_offset]
        if unseen and [raw.offset for raw in (unseen[0], unseen[-1])] != [
            place.next_offset,
            place.next_offset + len(unseen) - 1,
        ]:
            raise ForeignLogError(
                f"{self._named(partition)}: records are missing from offset {place.next_offset} on. The log is damaged, or"
                " something else than Restante writes to it with transactions: `restante audit` says where"
            )
        return unseen

    async def _step(self, partition: int, partitions: int, raws: Sequence[Raw]) -> _Step:
        topic, owner, placed = self._meaning.topic, self._meaning.owner, self._meaning.placed
        records: list[Any] = []
        event_id: UUID | None = None
        for raw in raws:
            try:
                record = self._understood(raw)
                if _home(raw.key, partitions) != (owner(record).int, partition):
                    raise DecodeError("the key or the partition is not the one of the account that it is about")
            except DecodeError as error:
                event_id = None
                await self._set_aside(partition, raw, str(error))
                continue
            event_id = record.event_id
            records.append(placed(record, Place(topic, partition, raw.offset), raw.at_ms))
        h = self._chained(partition, raws)
        return _Step(partition, raws[0].offset, raws[-1].offset + 1, event_id, raws[-1].at_ms, h, records)

    def _chained(self, partition: int, raws: Sequence[Raw]) -> bytes | None:
        """The chain after these records, also after those that were set aside. None where it is not known before them: the
        tables are older than the chain, and a rebuild gives them one."""
        place = self._places[partition]
        before = ORIGIN if place.next_offset == 0 else place.h
        if before is None:
            return None
        chain = Chain(self._topic_id, partition, Link(place.next_offset, before))
        for raw in raws:
            chain.add(raw.at_ms, raw.key, raw.value, raw.headers)
        return chain.h

    def _understood(self, raw: Raw) -> Record:
        record = decode(raw.value)
        if type(record) not in self._meaning.kinds:
            raise DecodeError(f"a {type(record).__name__} does not belong into {self._meaning.topic}")
        return record

    def _check_witness(self, partition: int, place: _Place, raw: Raw) -> None:
        try:
            event_id = self._understood(raw).event_id if place.last_event_id else None  # None: the last one was set aside
        except DecodeError:
            event_id = None
        if (raw.offset, event_id, raw.at_ms) != (place.next_offset - 1, place.last_event_id, place.last_at_ms):
            raise ForeignLogError(
                f"{self._named(partition)}: the record at offset {place.next_offset - 1} is not the one that was folded"
                f" (event {place.last_event_id}), but event {event_id} at offset {raw.offset}: another topic. {_REMEDY}"
            )

    def _announced(self, step: _Step) -> list[str]:
        return announcements(self._meaning.topic, step.partition, step.end, self._meaning.woken(step.records))

    def _named(self, partition: int) -> str:
        return f"partition {partition} of {self._meaning.topic}"

    async def _set_aside(self, partition: int, raw: Raw, reason: str) -> None:
        """Into quarantine, under an id of its place: a second time is the same record."""
        event_id = derived_id(
            b"quarantined", self._meaning.topic.encode(), str(partition).encode(), str(raw.offset).encode()
        )
        record = Quarantined(
            event_id=event_id,
            producer=self._name,
            topic=self._meaning.topic,
            partition=partition,
            offset=raw.offset,
            at_ms=raw.at_ms,
            key=raw.key,
            value=raw.value,
            headers=tuple(Header(name=name, value=value) for name, value in raw.headers),
            reason=reason,
        )
        known = (partition, raw.offset) in self._quarantined
        if not known and len(self._quarantined) >= self._quarantine_limit:
            raise QuarantineLimitError(
                f"{self._quarantine_limit} records were set aside and one more is due ({self._named(partition)},"
                f" offset {raw.offset}: {reason}). Look at restante.quarantine before starting this role again"
            )
        try:
            await self._quarantine(record)
        except Exception as error:
            raise SourceUnavailable(f"restante.quarantine took no record: {error!r}") from error
        self._quarantined.add((partition, raw.offset))
        if not known:
            metrics.QUARANTINED.inc()
            log.error("%s, offset %d, set aside: %s", self._named(partition), raw.offset, reason)

    async def _measure(self, source: LogSource) -> int:
        """Set the metrics; how many records wait in our partitions."""
        ours = source.assigned() - source.unplaced()
        ends = await source.bounds(ours)
        behind = {partition: max(0, ends[partition][1] - self._places[partition].next_offset) for partition in ours}
        for partition, records in behind.items():
            last = self._places[partition].last_at_ms
            self._meaning.lag_records.labels(partition).set(records)
            self._meaning.lag_seconds.labels(partition).set(
                max(0.0, self._clock() - last / 1000) if records and last is not None else 0.0
            )
        for partition in self._measured - ours:
            self._meaning.lag_records.remove(partition)
            self._meaning.lag_seconds.remove(partition)
        self._measured = ours
        await self._meaning.measure(self._database)
        return sum(behind.values())


@lru_cache(maxsize=65_536)
def _home(key: bytes | None, partitions: int) -> tuple[int, int] | None:
    """The recipient that a key names and the partition where it belongs; None for what is no key of ours."""
    try:
        recipient = UUID((key or b"").decode())
    except ValueError:
        return None
    return (recipient.int, partition_of_key(key or b"", partitions)) if recipient_key(recipient) == key else None


def _check_bounds(partition: str, next_offset: int, first: int, end: int) -> None:
    if next_offset > end:
        raise ForeignLogError(
            f"{partition} was folded up to offset {next_offset}, but the log ends at {end}: another topic, or one"
            f" that lost records. {_REMEDY}"
        )
    if first > max(0, next_offset - 1):
        raise ForeignLogError(
            f"{partition} begins at offset {first}, but records from {max(0, next_offset - 1)} on are needed: its"
            f" retention deletes facts. {_REMEDY}"
        )


_REMEDY: Final = (
    "Point RESTANTE_KAFKA at the cluster that this database belongs to; if the log was replaced on purpose, drop the schema"
    " `projection`, run `restante migrate`, and start the projector again"
)


def _moves(topic: str, steps: Sequence[_Step]) -> dict[str, Any]:
    return {
        "topic": topic,
        "partitions": columns.smallints([step.partition for step in steps]),
        "starts": columns.bigints([step.start for step in steps]),
        "ends": columns.bigints([step.end for step in steps]),
        "event_ids": columns.uuids([step.last_event_id for step in steps]),
        "at_ms": columns.bigints([step.last_at_ms for step in steps]),
        "chains": columns.byteas([step.h for step in steps]),
    }


def _count(applied: Applied) -> None:
    if applied.ignored:
        metrics.PROJECTION_IGNORED.inc(applied.ignored)
    metrics.MESSAGES_TOO_LATE.inc(applied.erased)
