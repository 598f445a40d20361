"""`restante rebuild` against a running service: killed, run again, and nobody who syncs notices."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from deploy import cli
from tests.acceptance.people import Device
from tests.acceptance.service import RESTANTE, Service
from tests.eventually import soon

pytestmark = pytest.mark.timeout(300)
MESSAGES = 400


@pytest.fixture
def ask(service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs a command in this process, which saves its start, and gives what it answers."""
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)

    def asked(*arguments: str) -> Any:
        capsys.readouterr()
        code = cli.run([*arguments, "--json"])
        said = capsys.readouterr()
        assert code == 0, said.err
        return json.loads(said.out)

    return asked


def begun(service: Service) -> bool:
    with psycopg.connect(service.facts["database_url"]) as connection:
        found = connection.execute("SELECT building FROM pointer.projection").fetchone()
    return found == (True,)


def killed_in_the_middle(service: Service) -> bool:
    process = subprocess.Popen([RESTANTE, "rebuild"], env=service.environment, stdout=subprocess.DEVNULL)
    soon(lambda: process.poll() is not None or begun(service), 60, "the rebuild has begun")
    process.kill()
    process.wait()
    return begun(service)


def test_killed_run_again_and_dropped_while_devices_sync(
    service: Service, alice: Device, bob: Device, ask: Callable[..., Any]
) -> None:
    sent = alice.send_all(bob, [f"message {number}" for number in range(MESSAGES)])
    going, failures, rounds = threading.Event(), [], 0

    def sync() -> None:
        nonlocal rounds
        while going.is_set():
            answer = bob.call("GET", "/messages/sync", params={"limit": 500})
            ids = [message["id"] for message in answer.json()["messages"]] if answer.status_code == 200 else []
            if ids[:MESSAGES] != sent[:MESSAGES]:
                failures.append((answer.status_code, len(ids), answer.text[:200]))
            rounds += 1

    going.set()
    reader = threading.Thread(target=sync)
    reader.start()
    try:
        while not killed_in_the_middle(service):
            ask("rebuild", "--drop-old")  # it was quicker than we were
        said = ask("rebuild")
        assert said["resumed"]
        sent.append(alice.send(bob, "after the swap"))
        one = ask("rebuild", "--partition", "0")
        assert one["deleted"] == one["written"]
        assert ask("audit", "--against-projection")["differences"] == []
        assert ask("rebuild", "--drop-old") == {"dropped": said["kept"]}
    finally:
        going.clear()
        reader.join()
    assert not failures and rounds > 3
    assert [message["id"] for message in bob.call("GET", "/messages/sync", params={"limit": 500}).json()["messages"]] == sent
