"""Which schema is the projection: one of two places, named by one row (`pointer.projection`).

A rebuild fills the place that is not live and changes the row; whoever has a connection finds out by its next statement. The
names of tables are bare and every connection's search_path is one place, so a statement never mixes the two: PostgreSQL
analyses a prepared statement again when the search_path has changed. Whether the place is the live one each statement checks
in its own snapshot (`live()` and `reached(...)` in SQL raise RS002), together with offsets and rows.
"""

from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.pq import TransactionStatus

PLACES: Final = ("projection", "projection_2")
"""The first is where a new database begins."""

MOVED: Final = "RS002"
"""What a statement raises that looks into the other place."""

_ELSEWHERE: Final = frozenset({MOVED, "42P01", "42883", "3F000"})
"""Errors that may mean the wrong place: moved; no such table, function, schema (the old place was dropped)."""

_TURN: Final = b"SELECT set_config('search_path', live, false) FROM pointer.projection"
_NO_POINTER: Final = (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName)


class Line(psycopg.AsyncConnection[Any]):
    """A connection to PostgreSQL that knows at which place it looks."""

    place = PLACES[0]


@dataclass(slots=True)
class Pointer:
    """The place that this process last saw to be live; empty after a doubt, so that every connection looks."""

    live: str = ""

    async def turn(self, line: Line) -> bool:
        """Point a connection to the live place; True where it looked elsewhere before. Where there is no pointer yet, the
        first place is live."""
        try:
            found = await (await line.execute(_TURN)).fetchone()
        except _NO_POINTER:
            if line.info.transaction_status is not TransactionStatus.IDLE:
                raise
            found = None
            await line.execute(b"SET search_path = projection")
        before, line.place = line.place, found[0] if found else PLACES[0]
        self.live = line.place
        return line.place != before

    async def turned(self, line: Line, error: psycopg.Error) -> bool:
        """Whether a failed statement may be asked again: it looked elsewhere, and now does not. Never inside a transaction,
        whose earlier statements looked elsewhere too."""
        if error.sqlstate not in _ELSEWHERE:
            return False
        if line.info.transaction_status is not TransactionStatus.IDLE:
            self.live = ""
            return False
        return await self.turn(line)
