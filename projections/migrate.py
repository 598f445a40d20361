"""Migrations: `sql/migrations/NNNN_<schema>.sql`, in order, each in a transaction, remembered in the schema they belong to.

So when `projection` is dropped, its migrations are pending again, and `migrate` makes it anew; `accounts` is not touched.
Those of the projection go to the live place (`pointer`), whichever that is, and once more, all of them, to the one that a
rebuild fills; so they write bare names. Roles of ours (`rights`) that the database has get their rights on what was made. A
file is never changed once released. `sql/schema.sql` is the sum, to read (a test compares the catalogues).
"""

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import sql

from projections.database import connect_options, translated
from projections.errors import NotMigrated
from projections.grants import give_table_rights
from projections.pointer import PLACES

SCHEMAS = ("accounts", "pointer", "projection")
LOCK = 7_310_579_402
"""Any number, the same in every version: two migrating processes take turns, and so does the swap of a rebuild."""


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
            await connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
            place = await live_place(connection)
            pending = await _pending(connection, place)
            for migration in pending:
                async with connection.transaction():
                    await _run(connection, migration, place)
            async with connection.transaction():
                await give_table_rights(connection)
            return [migration.name for migration in pending]


async def pending_migrations(url: str) -> list[str]:
    """The names of the migrations that `migrate` would run. Changes nothing. Raises `DatabaseUnavailable`."""
    with translated():
        async with await psycopg.AsyncConnection.connect(url, **connect_options()) as connection:
            return [migration.name for migration in await _pending(connection, await live_place(connection))]


async def make_place(connection: psycopg.AsyncConnection[Any], place: str) -> None:
    """Bring a place to the form of the projection that these programs want, from whatever form it has, inside the caller's
    transaction. Raises `NotMigrated` where the database is not as far itself."""
    behind = await _pending(connection, await live_place(connection))
    if behind:
        raise NotMigrated(f"not applied yet: {', '.join(one.name for one in behind)}: run `restante migrate`")
    for migration in await _pending(connection, place):
        await _run(connection, migration, place)
    await give_table_rights(connection)


async def live_place(connection: psycopg.AsyncConnection[Any]) -> str:
    """The schema that is the projection."""
    if not await _exists(connection, "pointer.projection"):
        return PLACES[0]
    found = await (await connection.execute("SELECT live FROM pointer.projection")).fetchone()
    assert found
    return str(found[0])


async def _pending(connection: psycopg.AsyncConnection[Any], place: str) -> list[Migration]:
    done: set[int] = set()
    for schema in (_named(schema, place) for schema in SCHEMAS):
        if await _exists(connection, f"{schema}.migrations"):
            rows = await connection.execute(sql.SQL("SELECT number FROM {}.migrations").format(sql.Identifier(schema)))
            done |= {number for (number,) in await rows.fetchall()}
    return [migration for migration in migrations() if migration.number not in done]


async def _exists(connection: psycopg.AsyncConnection[Any], table: str) -> bool:
    return await (await connection.execute("SELECT to_regclass(%s)", [table])).fetchone() != (None,)


def _named(schema: str, place: str) -> str:
    return place if schema == "projection" else schema


async def _run(connection: psycopg.AsyncConnection[Any], migration: Migration, place: str) -> None:
    schema = sql.Identifier(_named(migration.schema, place))
    await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
    await connection.execute(sql.SQL("SET LOCAL search_path = {}").format(schema))
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations (number integer PRIMARY KEY, name text NOT NULL,"
        " applied_at timestamptz NOT NULL DEFAULT now())"
    )
    await connection.execute(migration.text.encode())
    await connection.execute("INSERT INTO migrations (number, name) VALUES (%s, %s)", [migration.number, migration.name])
