"""Migrations: `sql/migrations/NNNN_<schema>.sql`, in order, each in a transaction, remembered in the schema they belong to.

So when `projection` is dropped, its migrations are pending again, and `migrate` makes it anew; `accounts` is not touched.
A file is never changed once released. `sql/schema.sql` is the sum, to read (a test compares the catalogues).
"""

from dataclasses import dataclass
from importlib.resources import files

import psycopg
from psycopg import sql

from projections.database import connect_options, translated

SCHEMAS = ("accounts", "projection")
_LOCK = 7_310_579_402
"""Any number, the same in every version: two migrating processes take turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file."""

    number: int
    schema: str
    name: str
    text: str


def migrations() -> list[Migration]:
    """Every migration, in order."""
    found = []
    for file in sorted((files("projections") / "sql" / "migrations").iterdir(), key=lambda file: file.name):
        number, _, schema = file.name.removesuffix(".sql").partition("_")
        found.append(Migration(number=int(number), schema=schema.split("_")[0], name=file.name, text=file.read_text()))
    return found


async def migrate(url: str) -> list[str]:
    """Bring the database up to date; the names of the migrations that were run. Raises `DatabaseUnavailable`."""
    with translated():
        async with await psycopg.AsyncConnection.connect(url, **connect_options()) as connection:
            await connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
            pending = await _pending(connection)
            for migration in pending:
                async with connection.transaction():
                    await _run(connection, migration)
            return [migration.name for migration in pending]


async def pending_migrations(url: str) -> list[str]:
    """The names of the migrations that `migrate` would run. Changes nothing. Raises `DatabaseUnavailable`."""
    with translated():
        async with await psycopg.AsyncConnection.connect(url, **connect_options()) as connection:
            return [migration.name for migration in await _pending(connection)]


async def _pending(connection: psycopg.AsyncConnection) -> list[Migration]:
    done: set[int] = set()
    for schema in SCHEMAS:
        cursor = await connection.execute("SELECT to_regclass(%s)", [f"{schema}.migrations"])
        if (await cursor.fetchone()) != (None,):
            rows = await connection.execute(sql.SQL("SELECT number FROM {}.migrations").format(sql.Identifier(schema)))
            done |= {number for (number,) in await rows.fetchall()}
    return [migration for migration in migrations() if migration.number not in done]


async def _run(connection: psycopg.AsyncConnection, migration: Migration) -> None:
    schema = sql.Identifier(migration.schema)
    await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
    await connection.execute(sql.SQL("SET LOCAL search_path = {}").format(schema))
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations (number integer PRIMARY KEY, name text NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT now())"
    )
    await connection.execute(migration.text.encode())
    await connection.execute("INSERT INTO migrations (number, name) VALUES (%s, %s)", [migration.number, migration.name])
