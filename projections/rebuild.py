"""The projection made anew from the first record, beside the live one, while traffic goes on; then one row is changed.

    nothing ──begin──► building ──swap──► live, the old place is kept ──drop──► nothing
                        ▲      │
                        └──────┘ killed, and started again

What must not happen at the swap is that a reader goes back, and that somebody folds where nobody reads any more. So the swap
holds every offset row of the live place: nobody folds, and the offsets are what they are. It folds the few records
that the new place lacks, until each of its offsets has reached the live one, changes the pointer and commits. A reader
takes pointer, offsets and rows from one snapshot: all of the old place, or all of the new one, which is at least as far. A
projector that waited for its offset rows finds at the end of its transaction that the pointer moved, and begins anew there.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from projections import columns
from projections.database import Connection, configure, connect_options, translated
from projections.errors import DatabaseUnavailable, ForeignLogError, ProjectionsError
from projections.migrate import LOCK, make_place
from projections.pointer import PLACES, Line
from projections.progress import CHANNEL, EVERYBODY
from projections.refold import MOST_RECORDS, QUERIES, STATEMENT_SECONDS, Fixed, Log, Partition, Refold, Tally

ALONE: Final = 7_310_579_403
"""Any number: one rebuild at a time."""
ALONE_SECONDS: Final = 5.0
NEAR: Final = 1_000
"""So many records at the most are folded while the projectors wait."""
HOLD_SECONDS: Final = 3.0
PATIENCE: Final = "3s"
"""Nobody folds while we wait for who folds, so we do not wait long, and try again."""
TRIES: Final = 20
PAUSE_SECONDS: Final = 0.5


class RebuildRefused(ProjectionsError):
    """A person must decide first; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What a rebuild did: the place that is live now and the one that is kept."""

    live: str
    kept: str
    tally: Tally
    resumed: bool


async def rebuild(
    url: str, log: Log, told: Callable[[Tally], None] = lambda tally: None, *, most: int = MOST_RECORDS
) -> Rebuilt:
    """Fill the other place from the log and make it the live one. Goes on with what an earlier call has begun. Raises
    `RebuildRefused`, `DatabaseUnavailable`, `ForeignLogError`, and what the log raises; call it again after any of them."""
    async with control(url) as line:
        live, place, resumed = await _begin(line)
        check(await live_offsets(line, live), await log.ends())
        async with Refold(url, place, log, most=most, told=told) as refold:
            await refold.to(await log.ends())
            await _tidy(line, place)
            for _ in range(TRIES):
                await refold.to(await log.ends())
                if await _swapped(line, refold, live):
                    return Rebuilt(live=place, kept=live, tally=refold.tally, resumed=resumed)
                await asyncio.sleep(PAUSE_SECONDS)
    raise RebuildRefused(
        f"{TRIES} times the offsets of {live} could not be held within {PATIENCE}, or moved on too fast. The new schema is"
        " there and nearly complete: run `restante rebuild` again when there is less traffic"
    )


async def drop_other(url: str) -> str | None:
    """Drop the place that is not live: the one from before the last swap, or what a rebuild has filled so far. Its name, or
    None where there is none. Raises `RebuildRefused`, `DatabaseUnavailable`."""
    async with control(url) as line, line.transaction():
        connection = connection_of(line)
        await connection.tuples(QUERIES["in_turn"], key=LOCK)
        _, place, _, exists = await _pointer(connection)
        await connection.run(QUERIES["building"], building=False)
        if exists:
            await line.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(place)))
        return place if exists else None


async def _begin(line: Line) -> tuple[str, str, bool]:
    """The live place, the one to fill, and whether it was begun before. Makes it, or brings it to the form of today."""
    async with line.transaction():
        connection = connection_of(line)
        await connection.tuples(QUERIES["in_turn"], key=LOCK)
        live, place, building, exists = await _pointer(connection)
        if exists and not building:
            raise RebuildRefused(
                f"the schema {place} from before the last rebuild is still there. When nobody needs it any more, run"
                " `restante rebuild --drop-old`, then this again"
            )
        await make_place(line, place)
        await connection.run(QUERIES["building"], building=True)
    return live, place, exists


def check(offsets: Mapping[Partition, int], ends: Mapping[Partition, int]) -> None:
    """Refuse a log that is shorter than what was folded of it. Raises `ForeignLogError`."""
    for (topic, partition), end in offsets.items():
        if end > ends.get((topic, partition), 0):
            raise ForeignLogError(
                f"partition {partition} of {topic} was folded up to offset {end}, but the log ends at"
                f" {ends.get((topic, partition), 0)}: another log, or one that lost records"
            )


async def live_offsets(line: Line, live: str) -> dict[Partition, int]:
    """How far each partition of the live place has been folded."""
    async with line.transaction():
        await connection_of(line).tuples(QUERIES["look_into"], place=live)
        return await offsets_of(line)


async def _swapped(line: Line, refold: Refold, live: str) -> bool:
    """Change the pointer, if the new place can reach the live one while the projectors wait. False: not now."""
    try:
        async with line.transaction() as transaction:
            connection = connection_of(line)
            await connection.tuples(QUERIES["patience"], patience=PATIENCE)
            await connection.tuples(QUERIES["in_turn"], key=LOCK)
            await make_place(line, refold.place)  # somebody may have migrated since we began
            await connection.tuples(QUERIES["look_into"], place=live)
            await connection.run(QUERIES["hold"])
            there = await offsets_of(line)
            if _lacking(there, refold.stands) > NEAR:
                raise psycopg.Rollback(transaction)
            try:
                async with asyncio.timeout(HOLD_SECONDS):
                    await refold.to(there)
            except TimeoutError as error:
                raise DatabaseUnavailable(
                    f"the last {NEAR} records took more than {HOLD_SECONDS:g} s. Run `restante rebuild` again: it goes on"
                ) from error
            if _lacking(there, refold.stands):
                raise RebuildRefused(f"{live} has folded records that the log does not have: `restante audit` says more")
            if not await connection.run(QUERIES["swap"], place=refold.place, before=live):
                raise RebuildRefused("the rebuild was given up meanwhile (--drop-old). Begin anew with `restante rebuild`")
            payloads = [f"{topic} {partition} {end} {EVERYBODY}" for (topic, partition), end in refold.stands.items()]
            await connection.tuples(QUERIES["announce"], channel=CHANNEL, payloads=columns.texts(payloads))
            return True
    except psycopg.errors.LockNotAvailable:
        pass
    return False


async def _tidy(line: Line, place: str) -> None:
    """What a table that was filled in one go lacks: statistics, and pages that are known to be visible to all."""
    connection = connection_of(line)
    for table, _ in await connection.tuples(QUERIES["columns"], place=place):
        await connection.run(sql.SQL("VACUUM ANALYZE {}").format(sql.Identifier(place, table)).as_bytes(line))


def _lacking(there: dict[Partition, int], here: dict[Partition, int]) -> int:
    return sum(max(0, end - here.get(at, 0)) for at, end in there.items())


async def offsets_of(line: Line) -> dict[Partition, int]:
    """How far each partition has been folded, where this connection looks."""
    return {(topic, partition): end for topic, partition, end in await connection_of(line).tuples(QUERIES["offsets"])}


async def _pointer(connection: Connection) -> tuple[str, str, bool, bool]:
    """The live place, the other one, whether that is being filled, and whether it is there."""
    first, second = PLACES
    ((live, building, exists),) = await connection.tuples(QUERIES["pointer"], first=first, second=second)
    return live, second if live == first else first, building, exists


@asynccontextmanager
async def control(url: str) -> AsyncIterator[Line]:
    """The connection that says so in PostgreSQL that somebody rebuilds."""
    with translated():
        async with await Line.connect(url, **connect_options()) as line:
            await configure(line)
            await _alone(line)
            yield line


async def _alone(line: Line) -> None:
    """One at a time. Of one that was killed PostgreSQL may take a moment to notice."""
    deadline = time.monotonic() + ALONE_SECONDS
    while not (await connection_of(line).tuples(QUERIES["alone"], key=ALONE))[0][0]:
        if time.monotonic() > deadline:
            raise RebuildRefused(
                "another `restante rebuild` or `restante audit --against-projection` runs on this database. Wait for its end"
            )
        await asyncio.sleep(0.1)


def connection_of(line: Line) -> Connection:
    """A connection that looks where its search_path says, whichever place is live, and has time."""
    return Connection(line, Fixed(), seconds=STATEMENT_SECONDS)
