"""`login`, `send`, `sync`: a person's client in the shell. They speak HTTP only (`listen` is elsewhere)."""

from __future__ import annotations

import socket
import sys
import uuid
from typing import Annotated, Any

import typer

from deploy import client
from deploy.client import Login, Service
from deploy.commands.screen import printable, say, show_json
from deploy.commands.service import Json
from deploy.errors import Misconfigured
from deploy.settings import given_settings, machine_environment, read_settings

As = Annotated[
    str | None, typer.Option("--as", help="Act for this account; else for the one that logged in last.", metavar="NAME")
]


def the_service() -> Service:
    """The service that the settings name, or the one that `up` runs."""
    settings = read_settings(given_settings())
    return Service(client.service_url(settings), settings.url_ca)


def the_login(name: str | None) -> Login:
    """The account to act for."""
    return client.logged_in(the_service(), client.tokens_directory(machine_environment()), name)


def login(
    name: str,
    create: Annotated[bool, typer.Option("--create", help="Make the account first.")] = False,
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")] = False,
    device: Annotated[str | None, typer.Option(help="This device's label; the same label is the same mailbox view.")] = None,
    as_json: Json = False,
) -> None:
    """Log in, and keep the tokens in the configuration directory (~/.config/restante), readable by you only."""
    service = the_service()
    password = ask_password(password_stdin, confirm=create)
    if create:
        client.sign_up(service, name, password)
    label = device or f"shell on {socket.gethostname()}"[:64]
    made = client.log_in(service, client.tokens_directory(machine_environment()), name, password, label)
    if as_json:
        show_json(
            {"name": name, "user_id": made.tokens["user_id"], "device_id": made.tokens["device_id"], "url": service.url}
        )
    else:
        say(f"{name} is logged in at {service.url} as device “{label}”")


def ask_password(from_stdin: bool, *, confirm: bool) -> str:
    """A password from the terminal, or the first line of standard input. Misconfigured where there is neither."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise Misconfigured("there is no terminal to ask for the password. Give it with --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=confirm))


def send(
    to: str,
    body: Annotated[str, typer.Argument(help="The text, or - to read it from standard input.")],
    key: Annotated[
        str | None, typer.Option(help="Idempotency key; by default each command is a message of its own.")
    ] = None,
    content_type: Annotated[str, typer.Option(help="Media type of the text.")] = "text/plain",
    name: As = None,
    as_json: Json = False,
) -> None:
    """Send a message. Once this says Stored, the log has it for good."""
    text = sys.stdin.read() if body == "-" else body
    stored = the_login(name).send(to, {"body": text, "content_type": content_type}, key or str(uuid.uuid4()))
    if as_json:
        show_json(stored)
    else:
        say(f"{stored['status']} for {stored['to']} at {stored['stored_at']}: {stored['id']}")


def sync(
    ack: Annotated[bool, typer.Option("--ack", help="Acknowledge what was shown: it leaves this device's mailbox.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Go on to the end of the mailbox, not only the first page.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Messages a page.")] = 100,
    name: As = None,
    as_json: Json = False,
) -> None:
    """Show this device's mailbox, oldest first. Reading never acknowledges."""
    who = the_login(name)
    shown: list[dict[str, Any]] = []
    query, pages = f"?limit={limit}", 0
    while True:
        page = who.call("GET", f"/messages/sync{query}")
        pages += 1
        for message in page["messages"]:
            _show(message, as_json)
        shown += page["messages"]
        if ack and page["messages"]:
            who.call("POST", "/messages/ack", {"ids": [message["id"] for message in page["messages"]]})
        if not (everything and page["has_more"]):
            break
        query = f"?limit={limit}&cursor={page['cursor']}"
    if as_json:
        show_json(
            {
                "messages": shown,
                "pending": page["pending"],
                "has_more": page["has_more"],
                "acknowledged": len(shown) if ack else 0,
            }
        )
    else:
        done = f", acknowledged {len(shown)}" if ack else ""
        say(f"{len(shown)} shown{done}; {page['pending']} were waiting when the last page was made")


def _show(message: dict[str, Any], as_json: bool) -> None:
    if as_json:
        return
    if "body" in message:
        text = printable(message["body"])
    elif "problem" in message:
        text = f"({message['problem']['title']})"
    else:
        text = f"({printable(message['content_type'])}, base64) {message['body_base64']}"
    say(f"{message['stored_at']}  {message['from'] or '(erased)'}: {text}    {message['id']}")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (login, send, sync):
        app.command()(command)
