"""The projection's tables as values, to compare."""

from __future__ import annotations

from typing import Any

from psycopg import sql

from projections.database import Database

TABLES = (
    "contacts",
    "decisions",
    "deliveries",
    "devices",
    "erased",
    "mailbox",
    "messages",
    "owed",
    "reads",
    "receipts",
    "repeats",
    "session_ends",
    "sessions",
    "untold",
)


async def everything(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table that is a fold of the log, in an order of its own."""
    await database.tuples(b"SELECT live()")  # whichever place that is
    found = {}
    for table in TABLES:
        statement = sql.SQL("SELECT * FROM {}").format(sql.Identifier(table)).as_string().encode()
        found[table] = sorted(await database.tuples(statement), key=repr)
    return found


async def empty(database: Database) -> None:
    """As after a migration."""
    await database.run(f"TRUNCATE offsets, {', '.join(TABLES)}".encode())
