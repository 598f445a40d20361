"""What `restante doctor` looks at. Each check says what it found and, where that is not well, what to do."""

from __future__ import annotations

import asyncio
import platform
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import psycopg

from deploy import foundation
from deploy.errors import DeployError
from deploy.local import kafka_jars
from deploy.local.home import Home
from deploy.local.role import health_path, http_status
from deploy.settings import ROLES, Settings, machine_environment
from deploy.wiring.provider import outside_of, provider_keys

Verdict = Literal["ok", "finding", "unknown"]
_CONNECT_SECONDS = 5
_OLDEST_POSTGRES = 150_000


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, the verdict (`unknown`: could not look), what was found, and what to do about it."""

    what: str
    verdict: Verdict
    found: str
    do: str | None = None


async def examine(settings: Settings) -> list[Check]:
    """All checks, the slow ones side by side. Never raises for what it finds."""
    looked = await asyncio.gather(_topics(settings), _database(settings), _provider(settings), _roles(settings))
    return [_versions(), _launcher(settings), *(check for checks in looked for check in checks)]


def exit_code(checks: Sequence[Check]) -> int:
    """3 where something could not be looked at, else 1 where something was found, else 0."""
    verdicts = {check.verdict for check in checks}
    return 3 if "unknown" in verdicts else 1 if "finding" in verdicts else 0


def _versions() -> Check:
    names = ("restante", "aiokafka", "faust-streaming", "psycopg", "uvicorn")
    return Check("versions", "ok", ", ".join([f"Python {platform.python_version()}", *(f"{n} {version(n)}" for n in names)]))


def _launcher(settings: Settings) -> Check:
    """Whether `up` could start a Kafka here; of no concern where one is given."""
    environment = machine_environment()
    java = kafka_jars.find_java(environment)
    maven = kafka_jars.find_maven(environment)
    jars = kafka_jars.cached(kafka_jars.cache_directory(environment, settings.data_dir / "cache"))
    found = f"Java {java or 'none of version 17'}, Maven {maven or 'none'}, Kafka {'here' if jars else 'not here yet'}"
    if (java and (maven or jars)) or shutil.which("docker", path=environment.get("PATH")):
        return Check("local Kafka", "ok", found)
    if settings.kafka:
        return Check("local Kafka", "ok", f"{found}; RESTANTE_KAFKA is used")
    return Check("local Kafka", "finding", found, "install Java 17 and Maven, or Docker, or set RESTANTE_KAFKA")


async def _topics(settings: Settings) -> list[Check]:
    if settings.kafka is None:
        return [Check("topics", "unknown", "no Kafka is known", "set RESTANTE_KAFKA or start `restante up`")]

    async def look() -> list[Check]:
        findings = await foundation.topic_findings(settings)
        if not findings:
            return [Check("topics", "ok", f"as durable as the promise, at {settings.kafka}")]
        return [
            Check("topics", "finding", finding, "run `restante topics`, alter in Kafka what is weaker")
            for finding in findings
        ]

    return await _guarded("topics", look, "start Kafka, or mend RESTANTE_KAFKA")


async def _database(settings: Settings) -> list[Check]:
    url = settings.database_url
    if url is None:
        return [Check("database", "unknown", "no database is known", "set RESTANTE_DATABASE_URL or start `restante up`")]

    async def look() -> list[Check]:
        await foundation.require_admission(settings)
        async with await psycopg.AsyncConnection.connect(url, connect_timeout=_CONNECT_SECONDS) as connection:
            found = connection.info.server_version
            row = await (
                await connection.execute("SELECT current_setting('synchronous_commit'), current_setting('fsync')")
            ).fetchone()
        missing = await foundation.tables_missing(settings)
        return [
            _server(found),
            Check("durability", "ok", "fsync and synchronous_commit are on")
            if row and row[0] != "off" and row[1] == "on"
            else Check(
                "durability", "finding", f"synchronous_commit, fsync: {row}", "turn both on: accounts and keys live here"
            ),
            Check("tables", "finding", f"not applied: {', '.join(missing)}", "run `restante migrate`")
            if missing
            else Check("tables", "ok", "up to date"),
        ]

    return await _guarded("database", look, "start PostgreSQL, or mend RESTANTE_DATABASE_URL")


async def _provider(settings: Settings) -> list[Check]:
    """The outside provider of the accounts, where one is set."""
    outside = outside_of(settings)
    if outside is None:
        return []

    async def look() -> list[Check]:
        return [Check("OpenID provider", "ok", f"{await provider_keys(outside)} usable keys, at {outside.issuer}")]

    return await _guarded("OpenID provider", look, "start the provider, or mend RESTANTE_OIDC_ISSUER")


def _server(found: int) -> Check:
    text = f"PostgreSQL {found // 10_000}.{found % 10_000}"
    if found < _OLDEST_POSTGRES:
        return Check("database", "finding", text, "use PostgreSQL 15 or newer; 18 is what the tests run on")
    return Check("database", "ok", text)


async def _roles(settings: Settings) -> list[Check]:
    """The roles of the `up` that runs here; elsewhere a deployment asks its own health calls."""
    published = Home(settings.data_dir).published()
    if published is None:
        return []
    checks = []
    for role in ROLES:
        host, _, port = published["admin"][role].removeprefix("http://").rpartition(":")
        ready = await http_status(host.strip("[]"), int(port), health_path(role)) == 200
        log = Home(settings.data_dir).log_of(role)
        checks.append(Check(role, "ok", "ready") if ready else Check(role, "finding", "not ready", f"read {log}"))
    return checks


async def _guarded(what: str, look: Callable[[], Awaitable[list[Check]]], do: str) -> list[Check]:
    try:
        return await look()
    except (DeployError, OSError, psycopg.Error) as error:
        return [Check(what, "unknown", str(error).strip().splitlines()[0], do)]
