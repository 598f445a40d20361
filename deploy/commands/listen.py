"""`listen`: messages as they come, for a person in the shell."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.text import Text

from deploy.client import Login, Problem
from deploy.commands.person import As, the_login
from deploy.commands.screen import errors, out, printable
from deploy.errors import DeployError, Misconfigured, Refused

Frame = Mapping[str, Any]
_WAIT = 30


def listen(
    ack: Annotated[
        bool,
        typer.Option(
            help="Acknowledge what was shown: it leaves this device's mailbox. Without, it is looked at and stays."
        ),
    ] = True,
    receipts: Annotated[
        bool, typer.Option("--receipts", help="Show also what becomes of the messages that you have sent.")
    ] = False,
    name: As = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")] = False,
) -> None:
    """Show the mailbox, then every message as it comes, until Ctrl-C."""
    if receipts and not ack:
        raise Misconfigured("--receipts come over the stream, which needs acknowledgements: leave out --no-ack")
    login, tell = the_login(name), _tell_json if as_json else _tell
    if ack:
        from deploy.listening import Listener  # the other commands need no WebSocket, and start faster without

        asyncio.run(Listener(login, tell, _note, receipts).run())
    else:
        _look(login, tell)


def _look(login: Login, tell: Callable[[Frame], None]) -> None:
    """By long polls with a cursor: the stream gives nothing more to whoever does not acknowledge."""
    cursor, answered = "", False
    while True:
        try:
            page = login.call(
                "GET", f"/messages/sync?wait={_WAIT}" + (f"&cursor={quote(cursor, safe='')}" if cursor else "")
            )
        except DeployError as error:
            pause = _pause_after(error, answered)
            _note(f"not connected ({error}), again in {pause:.1f} s")
            time.sleep(pause)
            continue
        for message in page["messages"]:
            tell({"type": "message", **message})
        cursor, answered = page["cursor"], True


def _pause_after(error: DeployError, answered: bool) -> float:
    """Seconds until it is worth to ask again; raises the error where it is not."""
    busy = isinstance(error, Problem) and (error.status == 429 or error.status >= 500)
    away = answered and not isinstance(error, Refused | Misconfigured)
    if not busy and not away:
        raise error
    least = (error.retry_after if isinstance(error, Problem) else None) or 1.0
    return least + random.uniform(0.0, 2.0)  # noqa: S311 - no secret


def _tell_json(frame: Frame) -> None:
    sys.stdout.write(json.dumps(frame, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _tell(frame: Frame) -> None:
    if frame["type"] == "receipt":
        _line(frame["at"], frame["to"], f"{frame['status']} {frame['message_id']}", style="green")
    else:
        _line(frame["stored_at"], frame["from"], _content(frame), style="bold cyan")


def _content(message: Frame) -> str:
    if "body" in message:
        return printable(message["body"])
    if "problem" in message:
        return f"({message['problem']['title']}: {message['id']})"
    size = len(base64.b64decode(message["body_base64"]))
    return f"({printable(message['content_type'])}, {size:,} bytes)"


def _line(at: str, who: str | None, what: str, style: str) -> None:
    """A line for a person, in his own time; coloured on a terminal, plain elsewhere."""
    when, who = datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d %H:%M:%S"), who or "(erased)"
    if out.is_terminal:
        out.print(Text.assemble((when, "dim"), "  ", (f"{who}:", style), " ", what))
    else:
        print(f"{when}  {who}: {what}", flush=True)


def _note(line: str) -> None:
    errors.print(Text(line, "dim"))


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(listen)
