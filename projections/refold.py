"""Folding what the log holds into a place that nobody reads, up to given offsets.

It takes the log by offsets, without a group, and several partitions at a time, each on one connection: no row depends on
two partitions. Rows and offsets commit together, so it may be killed at any moment and goes on from where it was; what a
crash of PostgreSQL takes back (commits are not waited for) is folded again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Protocol, Self
from uuid import UUID

import psycopg

from projections import columns
from projections.database import Connection, configure, connect_options, load_queries, translated
from projections.folds import FACTS, TOLD, Fold
from projections.pointer import Line, Pointer
from projections.steps import Standing, Steps
from schemas.raw import RawRecord

QUERIES: Final = load_queries("projections", "rebuild.sql")

MOST_RECORDS: Final = 4_000
"""In one transaction."""
LINES: Final = 3
STATEMENT_SECONDS: Final = 600.0

Partition = tuple[str, int]
"""A topic and one of its partitions."""
Ends = Mapping[Partition, int]


class History(Protocol):
    """One topic of the log, read by offset (`producers.recorded.LogReader` is one)."""

    topic_id: UUID

    async def bounds(self) -> Mapping[int, tuple[int, int]]:
        """Partition -> first offset, offset after the last record."""

    def batches(self, partition: int, start: int, end: int) -> AsyncIterator[Sequence[RawRecord]]:
        """The records from `start` to `end - 1`, some at a time."""


@dataclass(frozen=True, slots=True)
class Log:
    """The topics that the projection is a fold of."""

    facts: History
    receipts: History

    def folds(self) -> Sequence[tuple[Fold[Any], History]]:
        """Each with what it means."""
        return ((FACTS, self.facts), (TOLD, self.receipts))

    async def ends(self) -> dict[Partition, int]:
        """The offset after the last record of each partition, as it is now."""
        return {
            (fold.topic, partition): end
            for fold, history in self.folds()
            for partition, (_, end) in (await history.bounds()).items()
        }


class Fixed(Pointer):
    """Of a connection that looks into one place, whichever is live."""

    async def turned(self, line: Line, error: psycopg.Error) -> bool:
        """Never."""
        return False


@dataclass(slots=True)
class Tally:
    """What came of the records that were folded, of those that are due: `refused` could not be understood, `ignored` entries
    told of messages that are unknown, another's, or stored later."""

    records: int = 0
    due: int = 0
    refused: int = 0
    ignored: int = 0


@dataclass(slots=True)
class _Topic:
    fold: Fold[Any]
    history: History
    steps: Steps
    partitions: int


@dataclass(slots=True)
class Refold:
    """Fills a place, which must be there. `only` is a partition where the others are left out. `told` is called after each
    transaction; what it raises ends the work."""

    url: str
    place: str
    log: Log
    only: int | None = None
    most: int = MOST_RECORDS
    told: Callable[[Tally], None] = lambda tally: None
    tally: Tally = field(default_factory=Tally)
    _topics: dict[str, _Topic] = field(default_factory=dict)
    _lines: list[Line] = field(default_factory=list)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            with translated():
                for _ in range(LINES if self.only is None else 1):
                    self._lines.append(await stack.enter_async_context(await self._line()))
                for fold, history in self.log.folds():
                    self._topics[fold.topic] = await self._begun(fold, history)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def stands(self) -> dict[Partition, int]:
        """How far each partition has been folded."""
        return {
            (topic, partition): told.steps.at(partition).next_offset
            for topic, told in self._topics.items()
            for partition in self._of(told.partitions)
        }

    async def to(self, ends: Ends) -> None:
        """Fold each partition up to this offset; those that are further stay. Raises `DatabaseUnavailable`,
        `ForeignLogError`, `ReplacedError`, and what the log raises."""
        stands = self.stands
        waiting = sorted((at for at in stands if stands[at] < ends.get(at, 0)), key=lambda at: ends[at] - stands[at])
        self.tally.due = self.tally.records + sum(ends[at] - stands[at] for at in waiting)
        with translated():
            try:
                async with asyncio.TaskGroup() as group:
                    for line in self._lines:
                        group.create_task(self._work(line, waiting, ends))
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from errors

    async def _work(self, line: Line, waiting: list[Partition], ends: Ends) -> None:
        while waiting:
            at = waiting.pop()
            await self._fold(line, at, ends[at])

    async def _fold(self, line: Line, at: Partition, end: int) -> None:
        topic, partition = self._topics[at[0]], at[1]
        standing = topic.steps.at(partition)
        start = standing.next_offset if standing.witnessed else standing.next_offset - 1
        async for found in topic.history.batches(partition, start, end):
            for begin in range(0, len(found), self.most):
                await self._take(line, topic, partition, found[begin : begin + self.most])

    async def _take(self, line: Line, topic: _Topic, partition: int, raws: Sequence[RawRecord]) -> None:
        step = topic.steps.step(partition, topic.partitions, raws)
        if step is None:
            return
        async with line.transaction():
            applied = await topic.steps.take(Connection(line, Fixed(), seconds=STATEMENT_SECONDS), [step])
        topic.steps.taken([step])
        self.tally.records += step.end - step.start
        self.tally.refused += len(step.refused)
        self.tally.ignored += applied.ignored
        self.told(self.tally)

    async def _begun(self, fold: Fold[Any], history: History) -> _Topic:
        """Where the place stands, compared with what the log has."""
        bounds = await history.bounds()
        topic = _Topic(fold, history, Steps(fold, history.topic_id), len(bounds))
        connection = Connection(self._lines[0], Fixed(), seconds=STATEMENT_SECONDS)
        asked: dict[str, Any] = {"topic": fold.topic, "partitions": columns.smallints(list(self._of(len(bounds))))}
        await connection.run(QUERIES["begin_partitions"], **asked)
        for partition, *standing in await connection.tuples(QUERIES["standing"], **asked):
            topic.steps.begin(partition, Standing(*standing), bounds[partition])
        return topic

    def _of(self, partitions: int) -> Iterable[int]:
        return range(partitions) if self.only is None else (self.only,)

    async def _line(self) -> Line:
        line = await Line.connect(self.url, **connect_options())
        try:
            await configure(line)
            await Connection(line, Fixed()).tuples(QUERIES["stay_in"], place=self.place)
        except BaseException:
            await line.close()
            raise
        return line
