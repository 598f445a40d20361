"""Making the rights in PostgreSQL what the table of `rights` says, and finding where they are not.

Rights on tables are given by whoever owns the tables, so `migrate` gives them with every table that it makes. Roles, rights
on the database and owners need a superuser: `restante grants`.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from projections.database import load_queries
from projections.rights import ADMIN, ROLES, SCHEMAS, Table
from schemas.principals import Principal

QUERIES: Final = load_queries("projections", "rights.sql")
EVERYBODY: Final = "everybody"

Connection = psycopg.AsyncConnection[Any]
Statements = dict[str, sql.SQL | sql.Composed]
"""What is, or should be, in words: to the statement that undoes it, or makes it."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What is missing and what is too much."""

    missing: Statements
    surplus: Statements

    @classmethod
    def between(cls, wanted: Statements, found: Statements) -> "Difference":
        """What one has and the other has not."""
        return cls(
            {what: make for what, make in wanted.items() if what not in found},
            {what: undo for what, undo in found.items() if what not in wanted},
        )

    def lines(self) -> list[str]:
        """A line each, for a person."""
        return [f"missing: {one}" for one in self.missing] + [f"too much: {one}" for one in self.surplus]

    async def mend(self, connection: Connection) -> list[str]:
        """Make it go, in the caller's transaction. What was done, a line each."""
        for statement in (*self.surplus.values(), *self.missing.values()):
            await connection.execute(statement)
        return [f"taken: {one}" for one in self.surplus] + [f"given: {one}" for one in self.missing]


async def table_rights(connection: Connection) -> Difference:
    """How the rights on the tables that exist differ from the table of rights, for those of our roles that exist."""
    roles = sorted(Principal(name) for (name,) in await _all(connection, "roles", roles=list(ROLES)))
    if not roles:
        return Difference({}, {})
    there = {schema: set(tables) for schema, tables in await _all(connection, "tables", schemas=list(SCHEMAS))}
    return Difference.between(_wanted(there, roles), await _found(connection, list(there), [*ROLES, ADMIN]))


async def give_table_rights(connection: Connection) -> list[str]:
    """Make it so, in the caller's transaction. What was done, a line each. Does nothing where no role of ours exists."""
    return await (await table_rights(connection)).mend(connection)


def _wanted(there: Mapping[str, set[str]], roles: Sequence[Principal]) -> Statements:
    wanted: Statements = {}
    for schema, names in there.items():
        tables = [table for table in SCHEMAS[schema] if table.name in names]
        for role in roles:
            wanted |= _wanted_grant(role, "USAGE", schema)
            for table in tables:
                for privilege, column in table.of(role):
                    wanted |= _wanted_grant(role, privilege, schema, table.name, column)
        for table in tables:
            wanted |= _wanted_policies(schema, table, roles)
    return wanted


def _wanted_grant(role: str, privilege: str, schema: str, table: str = "", column: str = "") -> Statements:
    give = sql.SQL("GRANT {} TO {}").format(_right(privilege, schema, table, column), sql.Identifier(role))
    return {_words(role, privilege, schema, table, column): give}


def _wanted_policies(schema: str, table: Table, roles: Iterable[Principal]) -> Statements:
    """The API sees what the table says, the others all. A digest of the condition is in the policy's name: it tells an older
    one from this."""
    if table.api_sees is None:
        return {}
    at = sql.Identifier(schema, table.name)
    wanted: Statements = {_secured(schema, table.name): sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(at)}
    for role in (role for role in roles if table.of(role)):
        sees = table.api_sees if role is Principal.API else "true"
        name = f"{role}_{hashlib.sha256(sees.encode()).hexdigest()[:8]}"
        wanted[_policy(schema, table.name, name)] = sql.SQL("CREATE POLICY {} ON {} FOR {} TO {} USING ({})").format(
            sql.Identifier(name),
            at,
            sql.SQL("ALL" if role is Principal.PROJECTOR else "SELECT"),
            sql.Identifier(role),
            sql.SQL(sees).format(schema=sql.Identifier(schema), this=at),
        )
    return wanted


async def _found(connection: Connection, schemas: list[str], roles: list[str]) -> Statements:
    found: Statements = {}
    for role, privilege, schema, table, column in await _all(connection, "grants", schemas=schemas, roles=roles):
        undo = sql.SQL("REVOKE {} FROM {}").format(_right(privilege, schema, table, column), grantee(role))
        found[_words(role, privilege, schema, table, column)] = undo
    for schema, table in await _all(connection, "secured", schemas=schemas):
        undo = sql.SQL("ALTER TABLE {} DISABLE ROW LEVEL SECURITY").format(sql.Identifier(schema, table))
        found[_secured(schema, table)] = undo
    for schema, table, name in await _all(connection, "policies", schemas=schemas):
        undo = sql.SQL("DROP POLICY {} ON {}").format(sql.Identifier(name), sql.Identifier(schema, table))
        found[_policy(schema, table, name)] = undo
    return found


async def _all(connection: Connection, query: str, **params: Any) -> list[tuple[Any, ...]]:
    return await (await connection.execute(QUERIES[query], params)).fetchall()


def grantee(role: str) -> sql.Composable:
    """A role as GRANT and REVOKE want it."""
    return sql.SQL("PUBLIC") if role == EVERYBODY else sql.Identifier(role)


def _right(privilege: str, schema: str, table: str, column: str) -> sql.Composable:
    """`SELECT (name) ON accounts.accounts`. The privilege is a word of ours or of the catalogue's."""
    word: sql.Composable = sql.SQL(privilege)
    if not table:
        return sql.SQL("{} ON SCHEMA {}").format(word, sql.Identifier(schema))
    if column:
        word = sql.SQL("{} ({})").format(word, sql.Identifier(column))
    return sql.SQL("{} ON {}").format(word, sql.Identifier(schema, table))


def _words(role: str, privilege: str, schema: str, table: str, column: str) -> str:
    place = f"{schema}.{table}" + (f".{column}" if column else "") if table else f"schema {schema}"
    return f"{role}: {privilege} on {place}"


def _secured(schema: str, table: str) -> str:
    return f"rows of {schema}.{table} by policy"


def _policy(schema: str, table: str, name: str) -> str:
    return f"policy {name} on {schema}.{table}"
