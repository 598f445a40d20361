"""What an operator asks of the log, on the running service: the life of a message, an audit, mailboxes of the past, other
policies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy import cli
from tests.acceptance.people import Device, person
from tests.acceptance.service import Service
from tests.eventually import soon

Asked = Callable[..., Any]


@pytest.fixture
def asked(service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Asked:
    """Runs a command in this process, which saves its start, and gives what it answers as JSON."""
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)

    def ask(*arguments: str) -> Any:
        capsys.readouterr()
        code = cli.run([*arguments, "--json"])
        said = capsys.readouterr()
        assert code == 0, said
        return json.loads(said.out)

    return ask


def test_a_trail_has_every_record_whether_found_by_the_projection_or_by_a_scan(
    asked: Asked, alice: Device, bob: Device
) -> None:
    message = alice.send(bob, "for the record")
    bob.drain()
    bob.read([message])
    soon(lambda: len(alice.receipts(limit=500)["receipts"]) > 1, what="the sender is told")
    trail = asked("trail", message)
    assert [(row["record"], row["proves"]) for row in trail["records"]] == [
        ("MessageStored", ["Created", "Stored"]),
        ("PendingSync", ["DeliveryAttempted", "PendingSync"]),
        ("MessagesDelivered", ["Delivered"]),
        ("MessagesRead", ["Read"]),
    ]
    assert [row["tells"] for row in trail["receipts"]] == ["Delivered", "Read"]
    told = bob.trail(message)["events"]
    assert [row["log"] for row in trail["records"]] == [told[0]["log"], *[told[at]["log"] for at in (3, 4, 5)]]
    assert trail["records"][1]["evidence"]["reason"] == "no_session"
    assert asked("trail", message, "--scan") == trail
    assert "for the record" not in json.dumps(trail)


def test_an_inbox_of_the_past_is_what_a_client_saw_then(service: Service, asked: Asked, alice: Device) -> None:
    bob = person(service, "bob")
    phone, laptop = bob.device("phone"), bob.device("laptop")
    seen: list[tuple[str, dict[str, list[str]]]] = []

    def look() -> None:
        """What both devices see, and a moment at which that is so: when the next fact is appended, it is later."""
        pages = {device.device_id: [message["id"] for message in device.mailbox()] for device in (phone, laptop)}
        seen.append((phone.page()["as_of"], pages))

    sent = [alice.send(bob.name, f"number {number}") for number in range(4)]
    look()
    phone.ack(sent[:2])
    look()
    laptop.read(sent[1:3])
    look()
    phone.drain()
    look()
    for at, pages in seen:
        inbox = asked("inbox", "--user", bob.name, "--at", at)
        devices = {device["device_id"]: device for device in inbox["devices"]}
        for device_id, ids in pages.items():
            assert [row["id"] for row in devices[device_id]["waiting"]] == ids, at
    read = [row["id"] for row in devices[laptop.device_id]["acknowledged"] if row["read_at"]]
    assert read == sent[1:3]
    assert asked("inbox", "--user", inbox["user_id"], "--at", seen[-1][0]) == inbox


def test_another_policy_is_held_against_the_log(asked: Asked, alice: Device, bob: Device, tmp_path: Path) -> None:
    alice.send_all(bob, ["one", "two"])
    file = tmp_path / "mine.py"
    file.write_text("def decide(here, recorded, producer):\n    return []\n")
    same = asked("what-if", "--policy", "push-if-there/1")
    other = asked("what-if", "--policy", str(file))
    assert other["would_be"] == {"nothing": other["messages"], "pushes": 0}
    assert other["messages"] >= same["messages"] >= 2
    assert asked("what-if", "--policy", "never-push", "--since", "2999-01-01")["messages"] == 0


def test_nothing_is_wrong_in_the_log_of_a_service_that_was_used(asked: Asked, alice: Device, bob: Device) -> None:
    message = alice.send(bob, "counted")
    bob.drain()
    report = asked("audit", "--stuck-after", "86400")  # other tests leave readers that never acknowledge
    assert report["clean"], report["examples"]
    assert report["records"] > 0
    for row in report["conservation"]:
        assert row["stored"] == row["distinct"] + row["repeats"]
        assert row["distinct"] == sum(row["states"].values())
    mine = asked("audit", "--user", bob.name)
    assert mine["messages"]["Delivered"] == 1
    since = alice.status(message)["delivered_at"]
    later = asked("audit", "--user", bob.name, "--since", since)
    assert (later["messages"]["Delivered"], later["allowed"]["earlier"]) == (0, 1)
