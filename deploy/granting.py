"""Making rights in Kafka and PostgreSQL what the tables say (`deploy.rights`, `projections.rights`), or finding
differences."""

from __future__ import annotations

import tomllib
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from deploy.errors import DeployError, Misconfigured, Refused
from deploy.foundation import connection
from deploy.rights import kafka_rights
from deploy.settings import Settings
from producers.acls import AccessRefused, Acl, Found, acls_of, admin_of, give, take
from producers.log import ProducersError
from producers.scram import set_passwords, with_password
from projections.errors import ProjectionsError
from projections.roles import ALL_ROLES, RolesRefused, find_differences, make_equal
from schemas.principals import Principal

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Passwords:
    """By principal. Who has none keeps the one he has, or logs in by certificate."""

    kafka: Mapping[str, str] = field(default_factory=dict, repr=False)
    database: Mapping[str, str] = field(default_factory=dict, repr=False)


def read_passwords(path: Path) -> Passwords:
    """A TOML file with tables `kafka` and `database`, each with lines `api = "..."`. Misconfigured says what is wrong with
    it, and never what is in it."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no TOML"
        raise Misconfigured(f"{path} cannot be read: {reason}. Give a table [kafka], [database] or both") from None
    if extra := found.keys() - {"kafka", "database"}:
        raise Misconfigured(f"{path} has {', '.join(sorted(extra))}. There are the tables [kafka] and [database]")
    known = {"kafka": list(Principal), "database": list(ALL_ROLES)}
    return Passwords(**{part: _part(path, part, rows, known[part]) for part, rows in found.items()})


def _part(path: Path, part: str, rows: object, known: list[Principal]) -> dict[str, str]:
    names = {role.removeprefix("restante_"): role for role in known}
    if not isinstance(rows, dict) or not rows.keys() <= names.keys():
        raise Misconfigured(f"{path}: [{part}] has lines for {', '.join(names)}, and no others")
    if not all(isinstance(password, str) and len(password) >= 8 for password in rows.values()):
        raise Misconfigured(f"{path}: in [{part}] a password is not a text of at least 8 characters")
    return {names[role]: password for role, password in rows.items()}


async def kafka_differences(settings: Settings) -> list[str]:
    """How Kafka's rights differ, a line each. Changes nothing. Refused (1) where it has none, DeployError (3) where it does
    not answer."""

    async def look() -> list[str]:
        async with admin_of(connection(settings)) as admin:
            missing, surplus = _compared(await acls_of(admin, Principal))
            return [f"missing: {acl}" for acl in missing] + [f"too much: {one}" for one in surplus]

    return await _understood(look())


async def mend_kafka(settings: Settings, passwords: Passwords) -> list[str]:
    """Make them equal; what was done, a line each. Rights come before what is too much goes, so nobody who is right is ever
    without."""

    async def mend() -> list[str]:
        async with admin_of(connection(settings)) as admin:
            missing, surplus = _compared(await acls_of(admin, Principal))
            new = passwords.kafka.keys() - await with_password(admin, list(passwords.kafka))
            await set_passwords(admin, passwords.kafka)
            await give(admin, missing)
            await take(admin, surplus)
        done = [f"given: user {user}" for user in sorted(new)] + [f"given: {acl}" for acl in missing]
        return done + [f"taken: {one}" for one in surplus]

    return await _understood(mend())


def _compared(found: list[Found]) -> tuple[list[Acl], list[Found]]:
    wanted = kafka_rights()
    there = {one.acl for one in found}
    return [acl for acl in wanted if acl not in there], [one for one in found if one.acl not in set(wanted)]


async def database_differences(settings: Settings) -> list[str]:
    """The same for PostgreSQL."""
    assert settings.database_url
    return await _understood(find_differences(settings.database_url))


async def mend_database(settings: Settings, passwords: Passwords) -> list[str]:
    """The same for PostgreSQL, all or nothing."""
    assert settings.database_url
    return await _understood(make_equal(settings.database_url, passwords.database))


async def _understood(work: Awaitable[T]) -> T:
    try:
        return await work
    except (AccessRefused, RolesRefused) as error:
        raise Refused(str(error)) from error
    except (ProducersError, ProjectionsError) as error:
        raise DeployError(str(error)) from error
