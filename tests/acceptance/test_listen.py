"""`restante listen` as a person in a shell meets it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.people import Device, bodies, phone_of
from tests.acceptance.service import RESTANTE, Service
from tests.eventually import soon


class Shell:
    """A terminal window: one command after the other, and what it has printed so far."""

    def __init__(self, service: Service, home: Path) -> None:
        self.environment = {**service.environment, "XDG_CONFIG_HOME": str(home)}
        self._home = home
        self._running: list[subprocess.Popen[bytes]] = []

    def run(self, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [RESTANTE, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            input=typed,
        )

    def start(self, *arguments: str) -> tuple[subprocess.Popen[bytes], Path]:
        """A command that goes on, and the file that it prints to."""
        printed = self._home / f"printed-{len(self._running)}"
        with printed.open("wb") as out, printed.with_suffix(".err").open("wb") as errors:
            process = subprocess.Popen(
                [RESTANTE, *arguments], env=self.environment, stdout=out, stderr=errors, preexec_fn=_as_in_a_terminal
            )
        self._running.append(process)
        return process, printed

    def close(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()


def _as_in_a_terminal() -> None:
    """Whoever runs the tests in the background has Ctrl-C ignored, and so would what they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def shell(quick: Service, tmp_path: Path, bob: Device) -> Iterator[Shell]:
    one = Shell(quick, tmp_path)
    login = one.run("login", bob.name, "--password-stdin", "--device", "phone", typed=bob.person.password + "\n")
    assert login.returncode == 0, login.stderr
    yield one
    one.close()


@pytest.fixture
def alice(quick: Service) -> Device:
    return phone_of(quick, "alice")


@pytest.fixture
def bob(quick: Service) -> Device:
    return phone_of(quick, "bob")


def test_messages_are_shown_as_they_come_and_acknowledged(shell: Shell, alice: Device, bob: Device) -> None:
    waiting = alice.send(bob, "while you were away")
    process, printed = shell.start("listen")
    soon(lambda: f"{alice.name}: while you were away" in printed.read_text(), 30.0)
    live = alice.send(bob, "are you there?")
    soon(lambda: f"{alice.name}: are you there?" in printed.read_text(), 30.0)
    soon(lambda: {alice.status(one)["status"] for one in (waiting, live)} == {"Delivered"}, 30.0)
    assert len(printed.read_text().splitlines()) == 2
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert "Traceback" not in printed.with_suffix(".err").read_text()
    assert bob.mailbox() == []


def test_objects_for_programs_and_receipts(shell: Shell, alice: Device, bob: Device) -> None:
    _, printed = shell.start("listen", "--json", "--receipts")
    soon(lambda: "nothing more is waiting" in printed.with_suffix(".err").read_text(), 30.0)
    message_id = bob.send(alice, "from bob")
    alice.ack([message_id])
    alice.send(bob, "two\nlines")
    lines = soon(lambda: len(lines := printed.read_text().splitlines()) == 2 and lines, 30.0)
    frames = {frame["type"]: frame for frame in map(json.loads, lines)}
    assert (frames["receipt"]["message_id"], frames["receipt"]["status"]) == (message_id, "Delivered")
    assert (frames["message"]["body"], frames["message"]["from"]) == ("two\nlines", alice.name)


def test_it_stays_through_a_restart_and_gives_way_to_another(
    shell: Shell, quick: Service, alice: Device, bob: Device
) -> None:
    process, printed = shell.start("listen")
    soon(lambda: "nothing more is waiting" in printed.with_suffix(".err").read_text(), 30.0)
    quick.restart("api")
    alice.send(bob, "after the restart")
    soon(lambda: "after the restart" in printed.read_text(), 60.0)
    other, elsewhere = shell.start("listen")
    assert process.wait(30) == 1
    assert "somewhere else" in printed.with_suffix(".err").read_text()
    alice.send(bob, "to the second")
    soon(lambda: "to the second" in elsewhere.read_text(), 30.0)
    assert other.poll() is None
    assert "to the second" not in printed.read_text()


def test_looking_leaves_everything_where_it_is(shell: Shell, alice: Device, bob: Device) -> None:
    alice.send(bob, "one")
    process, printed = shell.start("listen", "--no-ack")
    soon(lambda: "one" in printed.read_text(), 30.0)
    alice.send(bob, "two")
    soon(lambda: "two" in printed.read_text(), 30.0)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert bodies(bob.mailbox()) == ["one", "two"]
