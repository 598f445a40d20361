"""`audit`: the log as evidence. Each command reads the log itself; none changes anything."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import typer

from deploy.commands.comparison import hold_against_projection
from deploy.commands.operate import reached
from deploy.commands.screen import Progress, say, show_json, show_table
from deploy.commands.service import Json
from deploy.errors import Misconfigured
from schemas.partitions import partition_for, recipient_key

Since = Annotated[str | None, typer.Option(help="From this time on, such as 2026-11-23T18:00:00Z.", metavar="TIME")]
Until = Annotated[str | None, typer.Option(help="Up to this time, exclusively.", metavar="TIME")]
Partition = Annotated[list[int] | None, typer.Option(help="Only this partition; may be given several times.", min=0)]
User = Annotated[str | None, typer.Option(help="Only this account: its name or its id.", metavar="NAME")]


def audit(
    since: Since = None,
    until: Until = None,
    partition: Partition = None,
    user: User = None,
    stuck_after: Annotated[int, typer.Option(help="Seconds that a message may wait to be decided or acknowledged.")] = 600,
    against_projection: Annotated[
        bool, typer.Option("--against-projection", help="Fold the whole log and hold the tables against it, row by row.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Judge every record of the log by the ones before it, and count the messages. Exit 1 where something is wrong."""
    from deploy.evidence import auditing, reading

    if against_projection:
        if since or until or partition or user:
            raise Misconfigured("--against-projection compares everything at one moment: leave the other options out")
        raise typer.Exit(hold_against_projection(as_json))
    settings = reached()
    since_ms, until_ms = (None if given is None else reading.moment_ms(given) for given in (since, until))
    now_ms = auditing.now_ms() if until_ms is None else until_ms

    async def looked(progress: Progress) -> dict[str, Any]:
        began = time.monotonic()
        who = None if user is None else await reading.account(settings, user)
        async with reading.lifecycle(settings) as reader:
            partitions = len(await reader.bounds())
            chosen = partition or ([] if who is None else [partition_for(who, partitions)])
            todo = await reading.stretches(reader, partitions=chosen, since_ms=since_ms, until_ms=until_ms)
            only = None if who is None else frozenset([recipient_key(who)])
            asked = auditing.Asked(only=only, now_ms=now_ms, stuck_after_ms=1000 * stuck_after)
            return auditing.document(
                reader, await auditing.audit(reader, partitions, todo, asked, progress), time.monotonic() - began
            )

    with Progress("records") as progress:
        report = asyncio.run(looked(progress))
    if as_json:
        show_json(report)
    else:
        _show_audit(report)
    raise typer.Exit(0 if report["clean"] else 1)


def _show_audit(report: dict[str, Any]) -> None:
    per_second = report["records"] / max(report["seconds"], 0.001)
    say(f"{report['records']:,} records in {report['seconds']:.1f} s ({per_second:,.0f}/s), topic {report['topic_id']}")
    show_table(
        ("partition", "offsets", "MessageStored", "distinct", "rejected repeats", *report["messages"]),
        [
            (
                str(row["partition"]),
                f"{row['start']} to {row['end']}",
                *(str(row[name]) for name in ("stored", "distinct", "repeats")),
                *(str(row["states"].get(state, 0)) for state in report["messages"]),
            )
            for row in report["conservation"]
        ],
        title="Messages by state",
    )
    show_table(
        ("from and to", "messages", "p50 ms", "p99 ms"),
        [
            (name, str(row["count"]), *(str("" if row[at] is None else row[at]) for at in ("p50", "p99")))
            for name, row in report["latencies_ms"].items()
        ],
        title="Times between states",
    )
    allowed = {name: count for name, count in report["allowed"].items() if count}
    if allowed:
        say("odd but allowed: " + ", ".join(f"{name} {count}" for name, count in allowed.items()))
    if report["clean"]:
        say("clean: nothing is wrong")
        return
    show_table(
        ("finding", "times", "what it is", "what to do"),
        [(kind, str(row["count"]), row["means"], row["do"]) for kind, row in report["findings"].items()],
        title="Findings",
    )
    show_table(
        ("finding", "partition@offset", "message", "what is wrong there"),
        [
            (one["kind"], f"{one['log']['partition']}@{one['log']['offset']}", one.get("message_id", ""), one["text"])
            for one in report["examples"]
        ],
        title="Where",
    )


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (audit,):
        app.command()(command)
