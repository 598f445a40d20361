"""`restante rebuild` against a running service: killed, run again, and nobody who syncs notices."""

from __future__ import annotations

import json
import signal
import subprocess
import threading

import psycopg
import pytest

from tests.acceptance.people import Device
from tests.acceptance.service import RESTANTE, Service
from tests.eventually import soon

pytestmark = pytest.mark.timeout(300)
MESSAGES = 400


def run(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RESTANTE, *arguments], env=service.environment, capture_output=True, text=True, check=False, timeout=120
    )


def begun(service: Service) -> bool:
    with psycopg.connect(service.facts["database_url"]) as connection:
        found = connection.execute("SELECT building FROM pointer.projection").fetchone()
    return found == (True,)


def test_killed_run_again_and_dropped_while_devices_sync(service: Service, alice: Device, bob: Device) -> None:
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
        first = subprocess.Popen([RESTANTE, "rebuild"], env=service.environment, stdout=subprocess.DEVNULL)
        soon(lambda: first.poll() is not None or begun(service), 60, "the rebuild has begun")
        first.send_signal(signal.SIGKILL)
        killed = first.wait() == -signal.SIGKILL and begun(service)
        done = run(service, "rebuild", "--json")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["resumed"] == killed is True
        sent.append(alice.send(bob, "after the swap"))
        one = json.loads(run(service, "rebuild", "--partition", "0", "--json").stdout)
        assert one["deleted"] == one["written"]
        compared = run(service, "audit", "--against-projection", "--json")
        assert (compared.returncode, json.loads(compared.stdout)["differences"]) == (0, []), compared.stderr
        dropped = json.loads(run(service, "rebuild", "--drop-old", "--json").stdout)
        assert dropped == {"dropped": said["kept"]}
    finally:
        going.clear()
        reader.join()
    assert not failures and rounds > 3
    assert [message["id"] for message in bob.call("GET", "/messages/sync", params={"limit": 500}).json()["messages"]] == sent
