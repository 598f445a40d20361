"""The live projection held against the log, row by row, at one offset vector, while traffic goes on.

The log is folded once more, into a scratch schema. Rows and offsets of the live place are taken from one snapshot, and the
fold goes exactly as far as those offsets. Then both are read in the order of their keys, side by side: memory is constant.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from projections.database import Connection, configure, connect_options, load_queries
from projections.pointer import Line, Pointer
from projections.rebuild import check, connection_of, control, offsets_of
from projections.refold import QUERIES as REFOLD
from projections.refold import Log, Partition, Refold, Tally
from projections.scratch import SCRATCH, scratch
from schemas.partitions import partition_for
from schemas.topics import LIFECYCLE, RECEIPTS

AT_ONCE: Final = 2_000
"""Rows of each side in memory."""

_QUERIES: Final = load_queries("projections", "compare.sql")

_BY_POSITION: Final[Mapping[str, Sequence[tuple[str, str]]]] = {
    "devices": (("DeviceRegistered", "registered_position"), ("DeviceRemoved", "removed_position")),
    "erased": (("AccountErased", "position"),),
    "receipts": (("Receipt", "position"),),
    "session_ends": (("SessionClosed or DeviceRemoved", "position"),),
    "sessions": (("SessionOpened or SessionMarked", "epoch"),),
    "untold": (("AccountErased or MessageStored", "position"),),
}
"""Tables whose rows name the records that they come from, by column."""


@dataclass(frozen=True, slots=True)
class Cause:
    """A record, and what it is."""

    what: str
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A row that is not as the log says. `live` and `folded` are what differs in it, by column; None where there is no such
    row. `causes` are the records that make the row what it should be; none where the log knows nothing of it."""

    table: str
    key: Mapping[str, Any]
    live: Mapping[str, Any] | None
    folded: Mapping[str, Any] | None
    causes: Sequence[Cause]


@dataclass(slots=True, kw_only=True)
class Compared:
    """What was compared: rows by table, differences by table, at these offsets."""

    offsets: dict[Partition, int]
    rows: dict[str, int] = field(default_factory=dict)
    differences: dict[str, int] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Nothing differs."""
        return not any(self.differences.values())


async def compare(
    url: str, log: Log, found: Callable[[Difference], None], told: Callable[[Tally], None] = lambda tally: None
) -> Compared:
    """Hold the live projection against the log and give each difference to `found`. Changes nothing but the scratch schema,
    which it drops. Raises `RebuildRefused` (one at a time, and none during a rebuild), `DatabaseUnavailable`,
    `ForeignLogError`, and what the log raises."""
    async with control(url) as line, scratch(line), Refold(url, SCRATCH, log, told=told) as refold:
        async with _snapshot(url) as early:
            offsets = await offsets_of(early)
        check(offsets, await log.ends())
        await refold.to(offsets)
        async with _snapshot(url) as live:  # the long way was gone before: this one is short
            compared = Compared(offsets=await offsets_of(live))
            await refold.to(compared.offsets)
            async with _looking_into(line):
                partitions = len(await log.facts.bounds())
                for table in await _tables(line):
                    await _Both(table, live, line, partitions, compared, found).compare()
    return compared


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    columns: Sequence[str]
    key: Sequence[str]
    order: str

    @property
    def statement(self) -> sql.Composed:
        return sql.SQL("SELECT {} FROM {} ORDER BY {}").format(
            sql.SQL(", ").join(map(sql.Identifier, self.columns)),
            sql.Identifier(self.name),
            sql.SQL(self.order),  # quoted by PostgreSQL
        )


@dataclass(slots=True)
class _Both:
    """One table, from both sides."""

    table: _Table
    live: Line
    scratch: Line
    partitions: int
    compared: Compared
    found: Callable[[Difference], None]

    async def compare(self) -> None:
        name = self.table.name
        places = [self.table.columns.index(column) for column in self.table.key]
        self.compared.rows[name] = self.compared.differences[name] = 0
        async with AsyncExitStack() as stack:
            lives = await stack.enter_async_context(_rows(self.live, self.table))
            folds = await stack.enter_async_context(_rows(self.scratch, self.table))
            live, fold = await anext(lives, None), await anext(folds, None)
            while live is not None or fold is not None:
                live_key, fold_key = (row and tuple(row[place] for place in places) for row in (live, fold))
                only_live = fold_key is None or (live_key is not None and live_key < fold_key)
                only_fold = live_key is None or (fold_key is not None and fold_key < live_key)
                self.compared.rows[name] += 1
                if only_live or only_fold or not self._same(live, fold):
                    await self._differs(None if only_fold else live, None if only_live else fold)
                live = live if only_fold else await anext(lives, None)
                fold = fold if only_live else await anext(folds, None)

    def _same(self, live: Any, fold: Any) -> bool:
        return bool(live == fold) or not any(True for _ in self._different(live, fold))

    def _different(self, live: Any, fold: Any) -> Iterator[str]:
        for column, there, here in zip(self.table.columns, live, fold, strict=True):
            if there != here and not (column == "chain" and there is None):  # folded by a version without the chain
                yield column

    async def _differs(self, live: Any, fold: Any) -> None:
        self.compared.differences[self.table.name] += 1
        columns = self.table.columns if live is None or fold is None else list(self._different(live, fold))
        rows = [None if row is None else dict(zip(self.table.columns, row, strict=True)) for row in (live, fold)]
        whole = rows[1] or rows[0] or {}
        shown = [None if row is None else {column: row[column] for column in columns} for row in rows]
        self.found(
            Difference(
                table=self.table.name,
                key={column: whole[column] for column in self.table.key},
                live=shown[0],
                folded=shown[1],
                causes=await self._causes(whole, fold is not None),
            )
        )

    async def _causes(self, row: Mapping[str, Any], known: bool) -> Sequence[Cause]:
        """The records that the fold has for this row; an account's are all in its partition."""
        name, connection = self.table.name, connection_of(self.scratch)
        if name in _BY_POSITION:
            if not known:
                return ()
            at, topic = partition_for(row["account"], self.partitions), RECEIPTS if name == "receipts" else LIFECYCLE
            columns = [(what, row[column]) for what, column in _BY_POSITION[name] if row[column] is not None]
            return [Cause(what, topic, at, position) for what, position in columns]
        if name == "offsets":
            return [Cause("the last record", row["topic"], row["partition"], row["next_offset"] - 1)] if known else ()
        if name == "contacts":
            rows = await connection.tuples(_QUERIES["about_contact"], account=row["account"], sender=row["sender"])
        elif isinstance(row.get("message_id"), UUID):
            rows = await connection.tuples(_QUERIES["about_message"], message=row["message_id"])
        else:
            rows = []
        return [Cause(what, LIFECYCLE, partition, position) for what, partition, position in rows]


@asynccontextmanager
async def _rows(line: Line, table: _Table) -> AsyncIterator[AsyncIterator[tuple[Any, ...]]]:
    async with psycopg.AsyncServerCursor(line, f"compare_{table.name}", row_factory=tuple_row) as cursor:
        cursor.itersize = AT_ONCE
        await cursor.execute(table.statement, binary=True)
        yield aiter(cursor)


async def _tables(line: Line) -> list[_Table]:
    return [_Table(*row) for row in await connection_of(line).tuples(_QUERIES["tables"], place=SCRATCH)]


@asynccontextmanager
async def _snapshot(url: str) -> AsyncIterator[Line]:
    """The live place, as it is now, for as long as this is open."""
    async with await Line.connect(url, **connect_options()) as line:
        await configure(line)
        await line.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await line.set_read_only(True)
        async with line.transaction():
            await Connection(line, Pointer()).turn()
            yield line


@asynccontextmanager
async def _looking_into(line: Line) -> AsyncIterator[None]:
    async with line.transaction():
        await connection_of(line).tuples(REFOLD["look_into"], place=SCRATCH)
        yield
