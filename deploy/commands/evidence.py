"""`trail`, `audit`, `inbox`, `what-if`: the log as evidence. Each command reads the log itself; none changes anything."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any
from uuid import UUID

import typer

from deploy.commands.comparison import hold_against_projection
from deploy.commands.operate import reached
from deploy.commands.screen import Progress, say, show_json, show_table
from deploy.commands.service import Json
from deploy.errors import Misconfigured
from schemas.partitions import partition_for, recipient_key
from schemas.topics import QUARANTINE

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
        async with reading.opened(settings) as reader:
            partitions = len(await reader.bounds())
            chosen = partition or ([] if who is None else [partition_for(who, partitions)])
            todo = await reading.stretches(reader, partitions=chosen, since_ms=since_ms, until_ms=until_ms)
            only = None if who is None else frozenset([recipient_key(who)])
            async with reading.opened(settings, QUARANTINE) as quarantine:
                aside = await auditing.set_aside(quarantine)
            asked = auditing.Asked(only=only, now_ms=now_ms, stuck_after_ms=1000 * stuck_after, aside=aside)
            return auditing.document(
                reader, await auditing.audit(reader, partitions, todo, asked, progress), time.monotonic() - began
            )

    with Progress("records") as progress, auditing.few_collections():
        report = asyncio.run(looked(progress))
    if as_json:
        show_json(report)
    else:
        _show_audit(report)
    raise typer.Exit(0 if report["clean"] else 1)


def _show_audit(report: dict[str, Any]) -> None:
    per_second = report["records"] / max(report["seconds"], 0.001)
    say(f"{report['records']:,} records in {report['seconds']:.1f} s ({per_second:,.0f}/s), topic {report['topic_id']}")
    show_table(("state", "messages"), [(state, f"{count:,}") for state, count in report["messages"].items()])
    show_table(
        ("partition", "offsets", "MessageStored", "distinct", "rejected repeats", "in one state"),
        [
            (
                str(row["partition"]),
                f"{row['start']} to {row['end']}",
                *(f"{row[name]:,}" for name in ("stored", "distinct", "repeats")),
                f"{sum(row['states'].values()):,}",
            )
            for row in report["conservation"]
        ],
        title="Conservation",
    )
    show_table(
        ("from and to", "messages", "p50 ms", "p99 ms"),
        [
            (name, str(row["count"]), *(str("" if row[at] is None else row[at]) for at in ("p50", "p99")))
            for name, row in report["latencies_ms"].items()
        ],
        title="Times between states",
    )
    if any(row["start"] for row in report["conservation"]):
        say("a part of the log: what came before it was not read, and what only that could disprove was believed")
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


def trail(
    message_id: Annotated[str, typer.Argument(metavar="ID")],
    scan: Annotated[bool, typer.Option("--scan", help="Read the whole log, without the database.")] = False,
    as_json: Json = False,
) -> None:
    """Show every record about a message: state, place in the log, time, writer and what the writer went by."""
    from deploy.evidence import trail as trails

    try:
        wanted = UUID(message_id)
    except ValueError as error:
        raise Misconfigured(f"{message_id!r} is no message id") from error
    with Progress("records") as progress:
        document = asyncio.run(trails.trail(reached(), wanted, scan=scan, progress=progress))
    if as_json:
        show_json(document)
    else:
        _show_trail(document)


def _show_trail(document: dict[str, Any]) -> None:
    rows = [
        (row["at"], row["record"], ", ".join(row["proves"]), row["by"], _place(row), _flat(row.get("evidence", {})))
        for row in document["records"]
    ]
    rows += [
        (row["at"], "Receipt", f"told the sender {row['tells']}", row["by"], _place(row), "") for row in document["receipts"]
    ]
    title = f"Message {document['id']} from {document['from_id']} to {document['to_id']}: {document['status']}"
    show_table(("at", "record", "proves", "by", "place in the log", "evidence"), rows, title=title)


def _place(row: dict[str, Any]) -> str:
    return f"{row['log']['topic']}/{row['log']['partition']}@{row['log']['offset']}"


def _flat(evidence: dict[str, Any]) -> str:
    sessions = [f"session {one['session']} epoch {one['epoch']}" for one in evidence.get("sessions", ())]
    return ", ".join([*(f"{name} {value}" for name, value in evidence.items() if name != "sessions"), *sessions])


def inbox(
    user: Annotated[str, typer.Option(help="The account: its name or its id.", metavar="NAME")],
    at: Annotated[str, typer.Option(help="The moment, such as 2026-11-23T18:00:00Z.", metavar="TIME")],
    as_json: Json = False,
) -> None:
    """Show what each of an account's devices could see at a moment, and what it had acknowledged by then, from the log."""
    from deploy.evidence import inbox as inboxes
    from deploy.evidence import reading

    with Progress("records") as progress:
        document = asyncio.run(inboxes.inbox(reached(), user, reading.moment_ms(at), progress))
    if as_json:
        show_json(document)
    else:
        _show_inbox(document)


def _show_inbox(document: dict[str, Any]) -> None:
    gone = f", erased at {document['erased_at']}" if document["erased_at"] else ""
    log = document["log"]
    say(f"{document['user_id']} at {document['at']}{gone} (partition {log['partition']} up to offset {log['end']})")
    for row in document["unreadable"]:
        say(f"not readable, left out: the records {row['offset']} to {row['end'] - 1}")
    for device in document["devices"]:
        state = f"removed at {device['removed_at']}" if device["removed_at"] else f"since {device['registered_at']}"
        waiting, done = device["waiting"], device["acknowledged"]
        say(f"device {device['device_id']}, {state}: {len(waiting)} waiting, {len(done)} acknowledged")
        rows = [("waiting", row["id"], row["stored_at"], f"from {row['from_id']}") for row in waiting]
        rows += [
            (f"{'read' if row['read_at'] else 'acknowledged'}", row["id"], row["read_at"] or row["at"], "") for row in done
        ]
        show_table(("state", "message", "since", "sender"), rows)


def what_if(
    policy: Annotated[
        str, typer.Option(help="A policy's name, or a Python file that defines `decide`.", metavar="FILE|NAME")
    ],
    since: Since = None,
    as_json: Json = False,
) -> None:
    """Put the recorded facts before another policy: how many pushes and pendings would have come out otherwise."""
    from deploy.evidence import reading, whatif

    since_ms = None if since is None else reading.moment_ms(since)
    with Progress("records") as progress:
        document = asyncio.run(whatif.what_if(reached(), policy, since_ms, progress))
    if as_json:
        show_json(document)
    else:
        _show_what_if(document)


def _show_what_if(document: dict[str, Any]) -> None:
    otherwise, undecided = document["decided_otherwise"], document["undecided"]
    say(f"{otherwise:,} of {document['messages']:,} messages would be decided otherwise; {undecided:,} are undecided")
    names = ("DeliveryAttempted", "PendingSync", "nothing", "pushes")
    show_table(
        ("", "recorded", "would be"),
        [(name, *(str(document[side].get(name, 0)) for side in ("recorded", "would_be"))) for name in names],
        title=f"Policy {document['policy']} against the log",
    )
    if not document["examples"]:
        return
    show_table(
        ("message", "partition@offset", "was", "would be"),
        [
            (
                row["message_id"],
                f"{row['log']['partition']}@{row['log']['offset']}",
                *(f"{row[side]['decision']}, {row[side]['pushes']} pushes" for side in ("was", "would_be")),
            )
            for row in document["examples"]
        ],
        title="Examples",
    )


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (trail, audit, inbox):
        app.command()(command)
    app.command("what-if")(what_if)
