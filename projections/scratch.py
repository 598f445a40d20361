"""A third place, that nobody reads and that is gone afterwards: for what is folded once more to be compared or copied."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from psycopg import sql

from projections.database import translated
from projections.migrate import LOCK, make_place
from projections.pointer import Line
from projections.rebuild import connection_of
from projections.refold import QUERIES

SCRATCH: Final = "projection_scratch"


@asynccontextmanager
async def scratch(line: Line) -> AsyncIterator[None]:
    """An empty place, dropped at the end; what a killed process left of it is dropped at the beginning. The line is that of
    `rebuild.control`, so there is one at a time."""
    await _drop(line)
    async with line.transaction():
        await connection_of(line).tuples(QUERIES["in_turn"], key=LOCK)
        await make_place(line, SCRATCH)
    try:
        yield
    finally:
        with translated():
            await _drop(line)


async def _drop(line: Line) -> None:
    await line.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(SCRATCH)))
