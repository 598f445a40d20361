"""`verify`, `export`: is the log as it was, and taking a period of it away as files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy.commands.operate import reached
from deploy.commands.screen import Progress, say, show_json, show_table
from deploy.commands.service import Json
from deploy.errors import Misconfigured

Statements = Annotated[
    Path | None, typer.Option(help="The notary's directory. Default: RESTANTE_NOTARY_DIR.", metavar="DIR")
]
Key = Annotated[
    Path | None, typer.Option(help="The notary's public key (PEM). Default: the one beside the statements.", metavar="FILE")
]


def verify(
    statements: Statements = None,
    public_key: Key = None,
    export: Annotated[
        Path | None,
        typer.Option(help="Verify the files of an export; neither Kafka nor PostgreSQL is asked.", metavar="DIR"),
    ] = None,
    anchor: Annotated[
        str | None,
        typer.Option(help="A statement noted earlier, as this command prints it: it must still be there.", metavar="N:HASH"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Hold every record against what the notary signed. Names what was changed, dropped, inserted or moved, and says up to
    where the log is proved. Exit 1 where something was."""
    from deploy.evidence import proving

    if export is not None and statements is not None:
        raise Misconfigured("an export has its own statements. Leave out --statements")

    async def looked(progress: _ByPlace) -> dict[str, Any]:
        if export is not None:
            return await proving.verify_export(export, public_key, anchor, progress)
        return await proving.verify_log(reached(), statements, public_key, anchor, progress)

    with Progress("records") as progress:
        report = asyncio.run(looked(_ByPlace(progress)))
    if as_json:
        show_json(report)
    else:
        _show(report)
    raise typer.Exit(0 if report["clean"] else 1)


def export(
    directory: Annotated[Path, typer.Argument(help="The directory to make; it must not be there.")],
    since: Annotated[
        str | None, typer.Option(help="From this time on, such as 2026-11-23T18:00:00Z.", metavar="TIME")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Up to this time.", metavar="TIME")] = None,
    statements: Statements = None,
    public_key: Key = None,
    as_json: Json = False,
) -> None:
    """Write a period of the log as Avro files with the notary's statements: `restante verify --export` proves them without
    Kafka. The period is widened to the nearest statements."""
    from deploy.evidence import proving, reading

    since_ms, until_ms = (None if given is None else reading.moment_ms(given) for given in (since, until))
    if since_ms is not None and until_ms is not None and since_ms > until_ms:
        raise Misconfigured("--since is after --until. Give them the other way round")
    with Progress("records") as progress:
        made = asyncio.run(
            proving.export_log(
                reached(), directory.resolve(), statements, public_key, since_ms, until_ms, _ByPlace(progress)
            )
        )
    if as_json:
        show_json(made)
    else:
        first, last = made["statements"]
        say(f"{made['records']:,} records and the statements {first} to {last} are in {made['directory']}")
        say(f"`restante verify --export {directory}` proves them; the key's fingerprint is {made['key_fingerprint']}")


class _ByPlace:
    """Adds up the partitions' progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._reached: dict[tuple[str, int], tuple[int, int]] = {}

    def __call__(self, topic: str, partition: int, offset: int, end: int) -> None:
        self._reached[topic, partition] = (offset, end)
        self._progress(*(sum(column) for column in zip(*self._reached.values(), strict=True)))


def _show(report: dict[str, Any]) -> None:
    rate = report["records"] / max(report["seconds"], 0.001)
    last, key = report["last_statement"], report["key"]
    say(f"{report['records']:,} records in {report['seconds']:.1f} s ({rate:,.0f}/s)")
    say(f"key {key['fingerprint']}, {key['source']}")
    say(f"last statement {last['number']} of {last['at']}. Note it elsewhere, to notice should statements be taken away:")
    say(f"  --anchor {last['anchor']}")
    show_table(
        ("topic", "partition", "offsets", "proved below", "not proved (since)"),
        [
            (
                row["topic"],
                str(row["partition"]),
                f"{row['first']} to {row['end'] - 1}",
                str(row["proved"]),
                f"{row['tail']} ({row['tail_since']})" if row["tail"] else "",
            )
            for row in report["partitions"]
            if row["end"] > row["first"]
        ],
        title="What is proved",
    )
    if report["clean"]:
        say("clean: every signed record is as it was when it was signed")
        return
    for found in report["findings"]:
        say(f"{found['kind']}: {found['text']}")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (verify, export):
        app.command()(command)
