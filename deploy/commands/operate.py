"""`topics`, `migrate`, `doctor`: making and checking what the service stands on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated

import typer

from deploy.commands.screen import out, say, show_json, show_table
from deploy.commands.service import Json
from deploy.errors import Misconfigured, Refused
from deploy.local.home import Home
from deploy.settings import Settings, given_settings, read_settings

Check = Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 where something differs.")]


def reached() -> Settings:
    """The settings, with the addresses of the `up` that runs in the data directory where none are given."""
    settings = read_settings(given_settings())
    published = Home(settings.data_dir).published() or {}
    return replace(
        settings,
        kafka=settings.kafka or published.get("kafka"),
        database_url=settings.database_url or published.get("database_url"),
    )


def topics(check: Check = False, as_json: Json = False) -> None:
    """Create the topics, or verify that they are as durable as the promise needs. Safe to repeat."""
    from deploy import foundation

    settings = reached()
    if settings.kafka is None:
        raise Misconfigured("no Kafka is known. Set RESTANTE_KAFKA, or start `restante up` in the data directory")
    if not check:
        asyncio.run(foundation.make_topics(settings))
    findings = asyncio.run(foundation.topic_findings(settings))
    if as_json:
        show_json({"findings": findings})
    _report(findings, as_json, "topics are as they should be")


def migrate(check: Check = False, as_json: Json = False) -> None:
    """Bring the database's tables up to date, or say what is missing. Safe to repeat."""
    from deploy import foundation

    settings = reached()
    if settings.database_url is None:
        raise Misconfigured("no database is known. Set RESTANTE_DATABASE_URL, or start `restante up` in the data directory")
    done = asyncio.run(foundation.tables_missing(settings) if check else foundation.make_tables(settings))
    if as_json:
        show_json({"pending" if check else "applied": done})
    elif check and not done:
        say("tables are up to date")
    elif not check:
        say(f"applied {', '.join(done)}" if done else "tables were up to date")
    if check and done:
        raise Refused(f"not applied yet: {', '.join(done)}. Run `restante migrate`")


def doctor(as_json: Json = False) -> None:
    """Check settings, Kafka and its topics, the database, programs and versions, and say what to do."""
    from deploy import examination

    settings = reached()
    with out.status("looking") if out.is_terminal and not as_json else _Quiet():
        results = asyncio.run(examination.examine(settings))
    if as_json:
        show_json(
            {"checks": [{"what": one.what, "verdict": one.verdict, "found": one.found, "do": one.do} for one in results]}
        )
    else:
        show_table(
            ("what", "verdict", "found", "what to do"), [(one.what, one.verdict, one.found, one.do or "") for one in results]
        )
    raise typer.Exit(examination.exit_code(results))


class _Quiet:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def _report(findings: list[str], as_json: bool, fine: str) -> None:
    if findings:
        raise Refused(
            "\n".join(findings) + "\nRun `restante topics` for what is missing; what is weaker must be altered in Kafka"
        )
    if not as_json:
        say(fine)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (topics, migrate, doctor):
        app.command()(command)
