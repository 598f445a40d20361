"""Migrations: run once, each schema on its own, and equal to the sum that people read."""

from __future__ import annotations

import asyncio
import re
from importlib.resources import files
from typing import Any

import psycopg
import pytest

from projections.database import Database
from projections.errors import DatabaseUnavailable, NotMigrated
from projections.migrate import SCHEMAS, migrate, migrations, pending_migrations
from projections.pointer import PLACES
from projections.reads import Reads
from tests.integration.places import point_to, second_place

CATALOGUE = """
SELECT 'column', table_schema, table_name, column_name, concat_ws(' ', data_type, is_nullable, column_default)
FROM information_schema.columns WHERE table_schema = ANY (%(schemas)s)
UNION ALL SELECT 'storage', relnamespace::regnamespace::text, relname, attname, attstorage::text
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relkind = 'r' AND attnum > 0 AND relnamespace::regnamespace::text = ANY (%(schemas)s)
UNION ALL SELECT 'options', relnamespace::regnamespace::text, relname, '', array_to_string(reloptions, ' ')
FROM pg_class WHERE relkind = 'r' AND relnamespace::regnamespace::text = ANY (%(schemas)s)
UNION ALL SELECT 'index', schemaname, tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = ANY (%(schemas)s)
UNION ALL SELECT 'constraint', connamespace::regnamespace::text, conrelid::regclass::text, conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace::regnamespace::text = ANY (%(schemas)s)
UNION ALL SELECT 'function', pronamespace::regnamespace::text, proname, '', pg_get_functiondef(oid)
FROM pg_proc WHERE pronamespace::regnamespace::text = ANY (%(schemas)s)
"""


def catalogue(url: str) -> set[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return set(connection.execute(CATALOGUE, {"schemas": list(SCHEMAS)}).fetchall())


def test_all_migrations_are_schema_sql(database_url: str, empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute((files("projections") / "sql" / "schema.sql").read_text().encode())
    assert catalogue(database_url) == catalogue(empty_database_url)


def test_the_other_place_gets_the_same_form(database_url: str) -> None:
    """A rebuild fills it; a migration that names a schema would miss it."""

    async def main() -> None:
        await second_place(database_url)

    asyncio.run(main())
    with psycopg.connect(database_url) as connection:
        forms = [
            {
                tuple(re.sub(rf"^{place}$|\b{place}\.", "*", str(value)) for value in row)
                for row in connection.execute(CATALOGUE, {"schemas": [place]}).fetchall()
            }
            for place in PLACES
        ]
    assert forms[0] == forms[1] and forms[0]


def test_after_a_swap_migrations_go_to_the_live_place(database_url: str) -> None:
    async def main() -> None:
        await second_place(database_url)
        await point_to(database_url, PLACES[1])
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA projection CASCADE")
            assert await pending_migrations(database_url) == []
            connection.execute("DROP SCHEMA projection_2 CASCADE")
        named = [one.name for one in migrations() if one.schema == "projection"]
        assert await migrate(database_url) == named
        with psycopg.connect(database_url) as connection:
            found = connection.execute("SELECT to_regclass('projection.offsets'), to_regclass('projection_2.offsets')")
            assert found.fetchone() == (None, "projection_2.offsets")

    asyncio.run(main())


def test_runs_what_is_pending_once(empty_database_url: str) -> None:
    names = [migration.name for migration in migrations()]
    assert asyncio.run(pending_migrations(empty_database_url)) == names
    assert asyncio.run(migrate(empty_database_url)) == names
    assert asyncio.run(migrate(empty_database_url)) == []
    assert asyncio.run(pending_migrations(empty_database_url)) == []


def test_two_at_once_take_turns(empty_database_url: str) -> None:
    async def both() -> list[list[str]]:
        return await asyncio.gather(migrate(empty_database_url), migrate(empty_database_url))

    assert sorted(map(len, asyncio.run(both()))) == [0, len(migrations())]


def test_a_migration_belongs_to_one_of_the_schemas_and_numbers_are_unique() -> None:
    assert {migration.schema for migration in migrations()} <= set(SCHEMAS)
    numbers = [migration.number for migration in migrations()]
    assert numbers == sorted(set(numbers))


def test_a_missing_schema_says_what_to_do(empty_database_url: str) -> None:
    async def ask() -> None:
        async with Database(empty_database_url) as database:
            await Reads(database).offsets()

    with pytest.raises(NotMigrated, match="restante migrate"):
        asyncio.run(ask())


def test_nobody_there_is_unavailable() -> None:
    with pytest.raises(DatabaseUnavailable):
        asyncio.run(migrate("postgresql://nobody@127.0.0.1:1/none"))
