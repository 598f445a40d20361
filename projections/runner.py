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
from typing import Any, Final
from uuid import UUID

from projections import columns
from projections.apply import QUERIES, Applied
from projections.database import Database
from projections.errors import (
    DatabaseUnavailable,
    QuarantineLimitError,
    ReplacedError,
    SourceUnavailable,
)
from projections.folds import FACTS, Fold
from projections.progress import CHANNEL, announcements
from projections.source import LogSource, Raw
from projections.steps import NO_TOPIC_ID, AnyRaw, Standing, Step, Steps
from schemas import metrics
from schemas.ids import derived_id
from schemas.quarantined import Header, Quarantined

log = logging.getLogger(__name__)

Quarantine = Callable[[Quarantined], Awaitable[object]]
"""Appends a record to restante.quarantine, for good before it returns; raises where it could not."""

MOST_RECORDS: Final = 2_000
WAIT_SECONDS: Final = 0.5
PACE_SECONDS: Final = 0.04
"""From one transaction to the next at the least. A broker that flushes partition by partition hands out records a few at a
time; what comes meanwhile shares a transaction. The first one after a rest does not wait."""
MEASURE_SECONDS: Final = 2.0
SILENT_SECONDS: Final = 30.0
BACK_OFF_SECONDS: Final = (0.1, 5.0)
QUARANTINE_LIMIT: Final = 100


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
        self._name = name
        self._quarantine_limit = quarantine_limit
        self._silent_seconds = silent_seconds
        self._clock = clock
        self._steps = Steps(fold, topic_id)
        self._quarantined: set[tuple[int, int]] = set()
        self._measured: set[int] = set()
        self.folding = False
        """True while it reads and writes; False while Kafka or PostgreSQL is away."""

    def has(self, partition: int) -> bool:
        """Whether this partition is ours, as far as we have measured."""
        return partition in self._measured

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
        for partition, *standing in rows:
            source.place(partition, self._steps.begin(partition, Standing(*standing), bounds[partition]))

    async def _fold(self, taken: Mapping[int, Sequence[Raw]], partitions: int) -> None:
        """One transaction for all that was taken."""
        steps = []
        for partition in sorted(taken):
            step = self._steps.step(partition, partitions, taken[partition])
            if step is not None:
                for raw, reason in step.refused:
                    await self._set_aside(partition, raw, reason)
                steps.append(step)
        if not steps:
            return
        async with self._database.transaction() as transaction:
            applied = await self._steps.take(transaction, steps)
            payloads = [payload for step in steps for payload in self._announced(step)]
            await transaction.tuples(QUERIES["announce"], channel=CHANNEL, payloads=columns.texts(payloads))
        self._steps.taken(steps)
        _count(applied)

    def _announced(self, step: Step) -> list[str]:
        return announcements(self._meaning.topic, step.partition, step.end, self._meaning.woken(step.records))

    async def _set_aside(self, partition: int, raw: AnyRaw, reason: str) -> None:
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
                f"{self._quarantine_limit} records were set aside and one more is due ({self._steps.named(partition)},"
                f" offset {raw.offset}: {reason}). Look at restante.quarantine before starting this role again"
            )
        try:
            await self._quarantine(record)
        except Exception as error:
            raise SourceUnavailable(f"restante.quarantine took no record: {error!r}") from error
        self._quarantined.add((partition, raw.offset))
        if not known:
            metrics.QUARANTINED.inc()
            log.error("%s, offset %d, set aside: %s", self._steps.named(partition), raw.offset, reason)

    async def _measure(self, source: LogSource) -> int:
        """Set the metrics; how many records wait in our partitions."""
        ours = source.assigned() - source.unplaced()
        ends = await source.bounds(ours)
        behind = {partition: max(0, ends[partition][1] - self._steps.at(partition).next_offset) for partition in ours}
        for partition, records in behind.items():
            last = self._steps.at(partition).last_at_ms
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


def _count(applied: Applied) -> None:
    if applied.ignored:
        metrics.PROJECTION_IGNORED.inc(applied.ignored)
    metrics.MESSAGES_TOO_LATE.inc(applied.erased)
