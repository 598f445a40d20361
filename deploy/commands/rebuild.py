"""`rebuild`: the projection made anew from the log, while everything runs."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from deploy.commands.operate import reached
from deploy.commands.screen import Progress, say, show_json
from deploy.commands.service import Json
from deploy.errors import Misconfigured
from deploy.settings import Settings

DropOld = Annotated[
    bool,
    typer.Option("--drop-old", help="Drop the schema from before the last rebuild, or what an unfinished one has made."),
]


def both_reached() -> Settings:
    """The settings, with Kafka and PostgreSQL."""
    settings = reached()
    for what, variable, value in (
        ("Kafka", "RESTANTE_KAFKA", settings.kafka),
        ("database", "RESTANTE_DATABASE_URL", settings.database_url),
    ):
        if value is None:
            raise Misconfigured(f"no {what} is known. Set {variable}, or start `restante up` in the data directory")
    return settings


def rebuild(
    partition: Annotated[int | None, typer.Option(help="Only this partition, in place.", min=0)] = None,
    drop_old: DropOld = False,
    as_json: Json = False,
) -> None:
    """Make the projection anew from the log, beside the live one, while everything runs; then put it in its place.

    May be stopped or killed at any time: run again, it goes on from where it was. The schema that it replaces is kept until
    `--drop-old`. Accounts are not touched.
    """
    if drop_old and partition is not None:
        raise Misconfigured("--partition replaces rows and keeps no old schema: leave --drop-old out")
    settings = both_reached()
    if drop_old:
        _drop_old(settings, as_json)
    elif partition is None:
        _whole(settings, as_json)
    else:
        _one(settings, partition, as_json)


def _whole(settings: Settings, as_json: bool) -> None:
    from deploy.wiring.rebuild import run_rebuild

    began = time.monotonic()
    with Progress("records") as progress:
        done = run_rebuild(settings, lambda tally: progress(tally.records, tally.due))
    records, seconds = done.tally.records, time.monotonic() - began
    if as_json:
        said = {"live": done.live, "kept": done.kept, "resumed": done.resumed}
        show_json({**said, "records": records, "refused": done.tally.refused, "seconds": round(seconds, 3)})
        return
    say(f"folded {records:,} records in {seconds:.1f} s; live is now the schema {done.live}")
    if done.tally.refused:
        say(f"{done.tally.refused} records could not be understood, as before: they are in restante.quarantine")
    say(f"{done.kept} is kept as it was; `restante rebuild --drop-old` drops it")


def _one(settings: Settings, partition: int, as_json: bool) -> None:
    from deploy.wiring.rebuild import run_replace

    began = time.monotonic()
    with Progress("records") as progress:
        done = run_replace(settings, partition, lambda tally: progress(tally.records, tally.due))
    said = {"partition": partition, "records": done.tally.records, "deleted": done.deleted, "written": done.written}
    if as_json:
        show_json({**said, "refused": done.tally.refused, "seconds": round(time.monotonic() - began, 3)})
        return
    say(f"folded {done.tally.records:,} records of partition {partition} in {time.monotonic() - began:.1f} s")
    say(f"{done.deleted:,} rows went and {done.written:,} came, in one transaction")


def _drop_old(settings: Settings, as_json: bool) -> None:
    from deploy.wiring.rebuild import run_drop_other

    dropped = run_drop_other(settings)
    if as_json:
        show_json({"dropped": dropped})
    else:
        say(f"dropped the schema {dropped}" if dropped else "there is no schema but the live one")


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(rebuild)
