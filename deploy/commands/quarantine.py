"""`quarantine`: what nobody could understand, and its way back."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.commands.operate import reached
from deploy.commands.screen import Waiting, printable, say, show_json, show_table
from deploy.commands.service import Json
from deploy.errors import Misconfigured, Refused
from deploy.settings import Settings

if TYPE_CHECKING:
    from deploy.quarantine import SetAside

quarantine = typer.Typer(
    no_args_is_help=True, help="Records that nobody could understand, set aside so that others flow on."
)
_WIDTH = 60


@quarantine.command("list")
def list_(as_json: Json = False) -> None:
    """Everything that was set aside, why, and whether this version understands it."""
    found = _set_aside(_settings())
    if as_json:
        show_json({"set_aside": [_document(one) for one in found]})
    elif found:
        show_table(("record", "since", "set aside by", "why", "now"), [_row(one) for one in found])
    else:
        say("nothing was ever set aside")


@quarantine.command()
def show(
    record: Annotated[str, typer.Argument(metavar="TOPIC/PARTITION/OFFSET", help="As `list` names it.")],
    as_json: Json = False,
) -> None:
    """One record with all it had: key, headers, bytes."""
    one = _found(_set_aside(_settings()), record)
    if as_json:
        show_json(_document(one) | _contents(one, whole=True))
        return
    rows = [(name, printable(str(value))) for name, value in (_document(one) | _contents(one, whole=False)).items()]
    show_table(("what", "is"), rows)


@quarantine.command("replay")
def replay_(
    record: Annotated[str | None, typer.Argument(metavar="[TOPIC/PARTITION/OFFSET]", help="As `list` names it.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All that this version understands and that is not back yet.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Append a record again, now that it is understood; it comes after everything that is in the log by then."""
    if (record is None) is not everything:
        raise Misconfigured("name one record, as `restante quarantine list` shows it, or give --all")
    settings = _settings()
    found = _set_aside(settings)
    wanted = [one for one in found if _can_return(one)] if record is None else [_returnable(_found(found, record))]
    done = asyncio.run(_replayed(settings, wanted, quiet=as_json))
    if as_json:
        show_json({"replayed": [_document(one) for one in done]})
    elif not done:
        say("nothing that is set aside can be replayed by this version")


def _set_aside(settings: Settings) -> list[SetAside]:
    from deploy.quarantine import set_aside

    return asyncio.run(set_aside(settings))


async def _replayed(settings: Settings, wanted: Sequence[SetAside], *, quiet: bool) -> list[SetAside]:
    from deploy.quarantine import replay

    done: list[SetAside] = []
    if not wanted:
        return done
    waiting = None if quiet or len(wanted) < 2 else Waiting()
    async with aclosing(replay(settings, wanted, f"operator/{socket.gethostname()}.{os.getpid()}")) as returned:
        async for one in returned:
            done.append(one)
            if waiting:
                waiting(f"the log: {len(done)} of {len(wanted)} are back")
            elif not quiet:
                say(f"{one.name} is back as {_now(one)}")
    if waiting:
        waiting(None)
        say(f"{len(done)} records are back in the log")
    return done


def _settings() -> Settings:
    settings = reached()
    if settings.kafka is None:
        raise Misconfigured("no Kafka is known. Set RESTANTE_KAFKA, or start `restante up` in the data directory")
    return settings


def _found(found: Sequence[SetAside], name: str) -> SetAside:
    for one in found:
        if one.name == name:
            return one
    raise Refused(f"{printable(name)} was not set aside. `restante quarantine list` shows what was")


def _can_return(one: SetAside) -> bool:
    return one.now is None and not isinstance(one.understood, str)


def _returnable(one: SetAside) -> SetAside:
    if one.now_name is not None:
        raise Refused(f"{one.name} is already back as {_now(one)}")
    if isinstance(one.understood, str):
        raise Refused(f"{one.name} is not understood: {one.understood}. Run the version that wrote it, or leave it")
    return one


def _now(one: SetAside) -> str:
    if one.now_name is not None:
        return one.now_name
    return "not understood" if isinstance(one.understood, str) else f"{type(one.understood).__name__}: replay it"


def _row(one: SetAside) -> tuple[str, str, str, str, str]:
    reasons = "; ".join(dict.fromkeys(one.reasons.values()))
    return one.name, _at(one), ", ".join(one.reasons), printable(reasons), _now(one)


def _at(one: SetAside) -> str:
    return datetime.fromtimestamp(one.record.at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _document(one: SetAside) -> dict[str, Any]:
    understood = one.understood
    known = not isinstance(understood, str)
    return {
        "record": one.name,
        "at": _at(one),
        "reasons": one.reasons,
        "understood_as": type(understood).__name__ if known else None,
        "cannot_return": None if known else understood,
        "replayed_as": one.now_name,
    }


def _contents(one: SetAside, *, whole: bool) -> dict[str, Any]:
    record = one.record
    fields = {} if isinstance(one.understood, str) else {name: str(value) for name, value in asdict(one.understood).items()}
    return {
        "key": None if record.key is None else repr(record.key)[2:-1],
        "headers": {header.name: None if header.value is None else repr(header.value)[2:-1] for header in record.headers},
        "bytes": None if record.value is None else _bytes(record.value, whole),
        "fields": fields,
    }


def _bytes(value: bytes, whole: bool) -> str:
    if whole:
        return value.hex()
    return value[:_WIDTH].hex() + (f"... {len(value)} bytes; --json shows all" if len(value) > _WIDTH else "")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(quarantine, name="quarantine")
