"""`demo`: the story this service was made for, played against a running one, with the real answers."""

from __future__ import annotations

import secrets
import tempfile
import time
from pathlib import Path
from typing import Any

import typer

from deploy import client
from deploy.client import Login, Service
from deploy.commands.person import the_service
from deploy.commands.screen import out, say, show_json, show_table
from deploy.commands.service import Json
from deploy.errors import Refused

_DECIDED_WITHIN = 15.0


def demo(as_json: Json = False) -> None:
    """Play the story: send to someone offline, come back, sync, acknowledge, read, and print the trail that proves it."""
    service = the_service()
    tell = (lambda line: None) if as_json else say
    tell(f"The service is {service.url}")
    with tempfile.TemporaryDirectory(prefix="restante-demo-") as directory:
        trail = _play(service, Path(directory), tell)
    if as_json:
        show_json(trail)
    else:
        _show_trail(trail)


def _play(service: Service, directory: Path, tell: Any) -> dict[str, Any]:
    tag = secrets.token_hex(3)
    alice, bob = f"alice-{tag}", f"bob-{tag}"
    passwords = {name: secrets.token_urlsafe(16) for name in (alice, bob)}
    for name, password in passwords.items():
        client.sign_up(service, name, password)
    tell(f"1. {alice} and {bob} have signed up; {bob} has no device yet, nobody could be further away")
    sender = client.log_in(service, directory, alice, passwords[alice], "laptop")
    stored = sender.send(bob, {"body": "Are you coming on Friday?", "content_type": "text/plain"}, secrets.token_hex(8))
    tell(f"2. {alice} sends; {stored['status']} at {stored['stored_at']}: the log has {stored['id']} for good")
    status = _wait_decided(sender, stored["id"])
    tell(f"3. the processor looked for a session of {bob}, found none, and said so: {status}")
    receiver = client.log_in(service, directory, bob, passwords[bob], "phone")
    page = receiver.call("GET", "/messages/sync")
    _expect(
        [message["id"] for message in page["messages"]] == [stored["id"]], "the mailbox does not hold exactly that message"
    )
    message = page["messages"][0]
    tell(f"4. {bob} comes back, syncs, and gets from {message['from']}: “{message['body']}”")
    acked = receiver.call("POST", "/messages/ack", {"ids": [stored["id"]]})
    tell(f"5. {bob} acknowledges: {len(acked['acknowledged'])} acknowledged, durable in the log")
    receiver.call("POST", "/messages/read", {"ids": [stored["id"]]})
    tell(f"6. {bob} reads it; {alice} asks and sees: {sender.call('GET', client.message_path(stored['id']))['status']}")
    empty = receiver.call("GET", "/messages/sync")
    _expect(not empty["messages"], "the mailbox is not empty after the acknowledgement")
    tell(f"7. {bob}'s mailbox is empty. What happened, with its place in the log:")
    trail: dict[str, Any] = receiver.call("GET", client.message_path(stored["id"], "/trail"))
    return trail


def _wait_decided(sender: Login, message_id: str) -> str:
    """Ask until the processor's decision shows in the message's status; Refused (exit 1) where it does not come."""
    deadline = time.monotonic() + _DECIDED_WITHIN
    while True:
        status = str(sender.call("GET", client.message_path(message_id))["status"])
        if status not in ("Created", "Stored"):
            return status
        if time.monotonic() > deadline:
            raise Refused(f"no decision within {_DECIDED_WITHIN:.0f} s. Does the processor run? See `restante status`")
        time.sleep(0.05)


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Refused(f"the story went wrong: {otherwise}. See `restante doctor`")


def _show_trail(document: dict[str, Any]) -> None:
    """The events of a trail as a table."""
    rows = [
        (
            event["state"],
            event["at"],
            event["by"],
            f"{event['log']['topic']}/{event['log']['partition']}@{event['log']['offset']}",
            event.get("reason") or "",
        )
        for event in document["events"]
    ]
    show_table(("state", "at", "by", "place in the log", "reason"), rows, title=f"Trail of {document['id']}")
    for attempt in document.get("attempts", []):
        out.print(f"pushed at {attempt['pushed_at']} to device {attempt['device_id']}: {attempt['result']}")


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(demo)
