"""One partition made anew: its rows replaced in one transaction that holds its offset rows, while everything runs.

The partition is folded once more into a scratch schema, as far as the live offsets. Then these are held, the few records
that came meanwhile are folded, and the rows of the partition's accounts are deleted and copied. Readers see the rows of
before until the commit; the projector of this partition waits, those of the others do not.

What belongs to no account of any partition (a row about a message that nobody knows) is left: a whole rebuild leaves it out.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql
from psycopg.rows import scalar_row

from projections import columns
from projections.database import load_queries
from projections.errors import DatabaseUnavailable
from projections.migrate import live_place
from projections.pointer import Line
from projections.progress import CHANNEL, EVERYBODY
from projections.rebuild import (
    HOLD_SECONDS,
    NEAR,
    PATIENCE,
    PAUSE_SECONDS,
    TRIES,
    RebuildRefused,
    check,
    connection_of,
    control,
    live_offsets,
)
from projections.refold import QUERIES as REFOLD
from projections.refold import Log, Partition, Refold, Tally
from projections.scratch import SCRATCH, scratch
from schemas.partitions import partition_for

AT_ONCE: Final = 5_000

_QUERIES: Final = load_queries("projections", "replace.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """What was done: rows that went, and rows that came."""

    tally: Tally
    deleted: int
    written: int


async def replace_partition(
    url: str, log: Log, partition: int, told: Callable[[Tally], None] = lambda tally: None
) -> Replaced:
    """Make one partition of the live projection anew. Raises `RebuildRefused`, `DatabaseUnavailable`, `ForeignLogError`, and
    what the log raises; nothing is changed then."""
    async with control(url) as line, scratch(line):
        partitions = len(await log.facts.bounds())
        if partition not in range(partitions):
            raise RebuildRefused(f"there are the partitions 0 to {partitions - 1}, and no {partition}")
        live = await live_place(line)
        offsets = await live_offsets(line, live)
        check(offsets, await log.ends())
        async with Refold(url, SCRATCH, log, only=partition, told=told) as refold:
            await refold.to(offsets)
            async with line.transaction():
                await line.execute(_QUERIES["begin"])
                await _gather(line, live, partition, partitions)
            for _ in range(TRIES):
                await refold.to(await live_offsets(line, live))
                counts = await _replaced(line, refold, live, partition, partitions)
                if counts is not None:
                    return Replaced(tally=refold.tally, deleted=counts[0], written=counts[1])
                await asyncio.sleep(PAUSE_SECONDS)
    raise RebuildRefused(
        f"{TRIES} times the offsets of partition {partition} could not be held within {PATIENCE}, or moved on too fast. Run"
        " this again when there is less traffic"
    )


async def _replaced(line: Line, refold: Refold, live: str, partition: int, partitions: int) -> tuple[int, int] | None:
    """Rows deleted and written. None: not now."""
    try:
        async with line.transaction() as transaction:
            connection = connection_of(line)
            await connection.tuples(REFOLD["patience"], patience=PATIENCE)
            await connection.tuples(REFOLD["look_into"], place=live)
            held = {(topic, at): end for topic, at, end in await connection.tuples(_QUERIES["hold"], partition=partition)}
            if sum(max(0, end - refold.stands[at]) for at, end in held.items()) > NEAR:
                raise psycopg.Rollback(transaction)
            await _reach(refold, held)
            await connection.run(b"SET LOCAL enable_seqscan = on")
            await _gather(line, SCRATCH, partition, partitions)  # while the offsets are held there come no others
            counts = await _copied(line, live)
            await connection.run(_QUERIES["move"], partition=partition)
            payloads = [f"{topic} {at} {end} {EVERYBODY}" for (topic, at), end in held.items()]
            await connection.tuples(REFOLD["announce"], channel=CHANNEL, payloads=columns.texts(payloads))
            return counts
    except psycopg.errors.LockNotAvailable:
        pass
    except psycopg.errors.UniqueViolation as error:
        raise RebuildRefused(
            f"rows of another partition stand where this one's belong ({error.diag.message_detail}). Run `restante rebuild`"
            " without --partition"
        ) from error
    return None


async def _reach(refold: Refold, held: dict[Partition, int]) -> None:
    try:
        async with asyncio.timeout(HOLD_SECONDS):
            await refold.to(held)
    except TimeoutError as error:
        raise DatabaseUnavailable(f"the last {NEAR} records took more than {HOLD_SECONDS:g} s. Run this again") from error


async def _copied(line: Line, live: str) -> tuple[int, int]:
    """Delete what is the partition's and write what the fold has; how many rows of each."""
    connection, deleted, written = connection_of(line), 0, 0
    await connection.run(_QUERIES["messages"])
    for table, names in await connection.tuples(REFOLD["columns"], place=live):
        listed = sql.SQL(", ").join(map(sql.Identifier, names))
        delete = _delete_of(table, names).format(sql.Identifier(table))
        copy = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {}").format(
            sql.Identifier(table), listed, listed, sql.Identifier(SCRATCH, table)
        )
        deleted += await connection.run(delete.as_bytes(line))
        written += await connection.run(copy.as_bytes(line))
    return deleted, written


def _delete_of(table: str, names: Sequence[str]) -> sql.SQL:
    """Rows are the partition's as its accounts', or as about its accounts' messages."""
    if "account" in names:
        return sql.SQL("DELETE FROM {} WHERE account IN (SELECT account FROM ours)")
    if "message_id" in names:
        return sql.SQL("DELETE FROM {} WHERE message_id IN (SELECT message_id FROM our_messages)")
    raise AssertionError(f"{table}: nothing says whose rows these are")


async def _gather(line: Line, place: str, partition: int, partitions: int) -> None:
    """Note the accounts of the partition that have any rows in a place, inside the caller's transaction."""
    connection = connection_of(line)
    tables = [table for table, names in await connection.tuples(REFOLD["columns"], place=place) if "account" in names]
    whose = [sql.SQL("SELECT account FROM {}").format(sql.Identifier(place, table)) for table in tables]
    whose.append(sql.SQL("SELECT recipient FROM {}").format(sql.Identifier(place, "messages")))
    async with psycopg.AsyncServerCursor(line, "accounts", row_factory=scalar_row) as cursor:
        await cursor.execute(sql.SQL(" UNION ").join(whose), binary=True)
        while accounts := await cursor.fetchmany(AT_ONCE):
            ours = [account for account in accounts if partition_for(account, partitions) == partition]
            await connection.run(_QUERIES["found"], accounts=columns.uuids(ours))
