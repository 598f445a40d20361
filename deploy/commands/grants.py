"""`grants`: one Kafka principal and one database role for each process role, with what it needs and no more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from deploy.commands.operate import Check, reached
from deploy.commands.screen import say, show_json
from deploy.commands.service import Json
from deploy.errors import Misconfigured, Refused
from deploy.settings import Settings

PasswordFile = Annotated[
    Path | None,
    typer.Option("--passwords", help='TOML file: tables [kafka] and [database] with lines such as api = "...".'),
]


def grants(check: Check = False, as_json: Json = False, passwords: PasswordFile = None) -> None:
    """Give each role its own principal in Kafka and role in PostgreSQL, with the rights that it needs and no others. Run it
    as a super user of both. Safe to repeat; rights that are too much are taken away."""
    settings = reached()
    if settings.kafka is None and settings.database_url is None:
        raise Misconfigured("neither Kafka nor a database is known. Set RESTANTE_KAFKA, RESTANTE_DATABASE_URL or both")
    if check and passwords:
        raise Misconfigured("--check changes nothing, so it takes no --passwords. Leave one of them out")
    lines = asyncio.run(_differences(settings) if check else _mend(settings, passwords))
    if as_json:
        show_json({"differences" if check else "done": lines})
    else:
        for part, done in lines.items():
            for line in done:
                say(f"{part}: {line}")
    if check and any(lines.values()):
        raise Refused("rights are not as they should be. Run `restante grants` as a super user")
    if not any(lines.values()) and not as_json:
        say("rights are as they should be")


async def _differences(settings: Settings) -> dict[str, list[str]]:
    from deploy import granting

    lines = {}
    if settings.kafka:
        lines["kafka"] = await granting.kafka_differences(settings)
    if settings.database_url:
        lines["database"] = await granting.database_differences(settings)
    return lines


async def _mend(settings: Settings, file: Path | None) -> dict[str, list[str]]:
    from deploy import granting

    passwords = granting.read_passwords(file) if file else granting.Passwords()
    lines = {}
    if settings.kafka:
        lines["kafka"] = await granting.mend_kafka(settings, passwords)
    if settings.database_url:
        lines["database"] = await granting.mend_database(settings, passwords)
    return lines


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(grants)
