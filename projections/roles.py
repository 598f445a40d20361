"""The database roles themselves: that they exist, may log in and no more, may use this database, and who owns the tables."""

from collections.abc import Mapping
from typing import Any, Final

import psycopg
from psycopg import sql

from projections.database import connect_options, translated
from projections.errors import ProjectionsError
from projections.grants import (
    QUERIES,
    Connection,
    Difference,
    Statements,
    give_table_rights,
    grantee,
    table_rights,
)
from projections.migrate import LOCK
from projections.rights import ADMIN, ROLES, SCHEMAS

ALL_ROLES: Final = (ADMIN, *ROLES)


class RolesRefused(ProjectionsError):
    """PostgreSQL does not let this user make roles or give rights. Run it as a superuser of the server."""


async def find_differences(url: str) -> list[str]:
    """Every way in which roles and rights differ from what they should be, a line each. Changes nothing. Raises
    `DatabaseUnavailable` and `RolesRefused`."""
    with translated(), _understood():
        async with await psycopg.AsyncConnection.connect(url, **connect_options()) as connection:
            return (await _roles(connection)).lines() + (await table_rights(connection)).lines()


async def make_equal(url: str, passwords: Mapping[str, str]) -> list[str]:
    """Make them so, all or nothing, and set the passwords that are given. What was done, a line each. Raises
    `DatabaseUnavailable` and `RolesRefused`."""
    with translated(), _understood():
        async with (
            await psycopg.AsyncConnection.connect(url, **connect_options()) as connection,
            connection.transaction(),
        ):
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            done = await (await _roles(connection)).mend(connection)
            done += await give_table_rights(connection)
            for role, password in passwords.items():
                await connection.execute(_with_password(connection, role, password))
            return done


class _understood:
    """Turns what PostgreSQL says to somebody without rights into RolesRefused."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, at: Any) -> None:
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            raise RolesRefused(f"PostgreSQL refuses: {error}. Run this with RESTANTE_DATABASE_URL of a superuser") from error


async def _roles(connection: Connection) -> Difference:
    names, database = [str(role) for role in ALL_ROLES], connection.info.dbname
    wanted: Statements = {}
    for role in ALL_ROLES:
        wanted[f"role {role}"] = sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role))
    for role in ALL_ROLES:
        wanted |= _on_database(role, "CONNECT", database, give=True)
    for privilege in ("CREATE", "TEMPORARY"):  # the second for `rebuild --partition`
        wanted |= _on_database(ADMIN, privilege, database, give=True)
    found: Statements = {}
    for role, may_log_in, mighty, member_of in await _all(connection, "attributes", roles=names):
        if may_log_in:
            found[f"role {role}"] = sql.SQL("")
        else:
            wanted[f"role {role}"] = sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(role))
        if mighty:
            found[f"{role}: powers over the whole server"] = sql.SQL(
                "ALTER ROLE {} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
            ).format(sql.Identifier(role))
        for other in member_of:
            found[f"{role}: member of {other}"] = sql.SQL("REVOKE {} FROM {}").format(
                sql.Identifier(other), sql.Identifier(role)
            )
    for role, privilege in await _all(connection, "database_grants", roles=names):
        found |= _on_database(role, privilege, database, give=False)
    for kind, name, owner in await _all(connection, "owners", schemas=list(SCHEMAS)):
        if owner != ADMIN:
            wanted[f"{ADMIN} owns {kind.lower()} {name}"] = sql.SQL("ALTER {} {} OWNER TO {}").format(
                sql.SQL(kind), sql.SQL(name), sql.Identifier(ADMIN)
            )
    return Difference.between(wanted, found)


def _on_database(role: str, privilege: str, database: str, *, give: bool) -> Statements:
    right = sql.SQL("{} ON DATABASE {}").format(sql.SQL(privilege), sql.Identifier(database))
    statement = sql.SQL("GRANT {} TO {}" if give else "REVOKE {} FROM {}").format(right, grantee(role))
    return {f"{role}: {privilege} on database {database}": statement}


def _with_password(connection: Connection, role: str, password: str) -> sql.Composed:
    """What the password comes to, computed here: the password itself does not travel and is in no log."""
    verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
    return sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier.decode()))


async def _all(connection: Connection, query: str, **params: Any) -> list[tuple[Any, ...]]:
    return await (await connection.execute(QUERIES[query], params)).fetchall()
