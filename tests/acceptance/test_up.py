"""`restante up` and the other commands as a person meets them: what they print, their exit codes, their refusals."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.acceptance.service import RESTANTE, STOP_SECONDS, Service
from tests.eventually import soon

pytestmark = pytest.mark.timeout(420)
STATES = ["Created", "Stored", "DeliveryAttempted", "PendingSync", "Delivered", "Read"]


@pytest.fixture
def own() -> Iterator[Service]:
    """A service of one test's own, not started."""
    one = Service()
    try:
        yield one
    finally:
        one.remove()


@pytest.fixture
def person(service: Service, tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has not logged in yet."""
    return {**service.environment, "XDG_CONFIG_HOME": str(tmp_path)}


def restante(environment: dict[str, str], *arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RESTANTE, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=120, input=said
    )


def test_it_says_where_everything_is(service: Service) -> None:
    facts = service.facts
    told = (service.home / "up.out").read_text()
    for address in (facts["url"], facts["kafka"], *facts["admin"].values()):
        assert address in told
    password = re.findall(r"postgresql://restante:(.+)@127", facts["database_url"])
    assert password and password[0] not in told


def test_status(service: Service) -> None:
    done = restante(service.environment, "status", "--json")
    ready = {"api": True, "processor": True, "projector": True, "notary": True}
    assert json.loads(done.stdout) == {"running": True, **service.facts, "ready": ready}
    assert done.returncode == 0
    assert service.url in restante(service.environment, "status").stdout


def test_a_second_up_in_the_directory_is_refused(service: Service) -> None:
    done = restante(service.environment, "up")
    assert done.returncode == 3
    assert "runs already" in done.stderr and str(service.facts["pid"]) in done.stderr
    assert service.healthy()


def test_the_story(service: Service) -> None:
    done = restante(service.environment, "demo", "--json")
    assert done.returncode == 0, done.stderr
    assert [event["state"] for event in json.loads(done.stdout)["events"]] == STATES
    told = restante(service.environment, "demo")
    assert told.returncode == 0 and "PendingSync" in told.stdout and "restante.lifecycle/" in told.stdout


def test_a_persons_commands(person: dict[str, str]) -> None:
    for name in ("shell-ann", "shell-ben"):
        assert restante(person, "login", name, "--create", "--password-stdin", said="password1\n").returncode == 0
    sent = restante(person, "send", "shell-ben", "-", "--as", "shell-ann", "--json", said="see you\non Friday")
    assert sent.returncode == 0, sent.stderr
    got = json.loads(restante(person, "sync", "--ack", "--json").stdout)
    assert [(message["from"], message["body"]) for message in got["messages"]] == [("shell-ann", "see you\non Friday")]
    assert json.loads(restante(person, "sync", "--json").stdout)["messages"] == []
    trail = restante(person, "trail", json.loads(sent.stdout)["id"])
    assert trail.returncode == 0 and "Delivered" in trail.stdout
    unknown = restante(person, "trail", "11111111-1111-4111-8111-111111111111")
    assert unknown.returncode == 1 and "does not know message" in unknown.stderr
    assert restante(person, "login", "shell-ann", "--password-stdin", said="wrong one\n").returncode == 1


@pytest.mark.parametrize("command", ["topics --check", "topics", "migrate --check", "migrate", "doctor"])
def test_what_it_stands_on_is_sound(service: Service, command: str) -> None:
    done = restante(service.environment, *command.split())
    assert done.returncode == 0, done.stdout + done.stderr


def test_another_number_of_partitions_is_a_finding(service: Service) -> None:
    done = restante({**service.environment, "RESTANTE_PARTITIONS": "4"}, "topics", "--check")
    assert done.returncode == 1 and "partitions" in done.stderr


def test_a_default_port_that_is_taken_gives_another_and_ctrl_c_stops_in_time(service: Service, own: Service) -> None:
    """The shared service has taken the default ports or found them taken."""
    own.start()
    assert own.url != service.url and own.url in (own.home / "up.out").read_text()
    assert set(own.facts["admin"].values()).isdisjoint(service.facts["admin"].values())
    supervisor = psutil.Process(own.facts["pid"])
    below, begun = supervisor.children(recursive=True), time.monotonic()
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(STOP_SECONDS) == 130
    assert time.monotonic() - begun < STOP_SECONDS
    assert psutil.wait_procs(below, timeout=0)[1] == []
    assert not (own.data / "up.json").exists()


def test_a_set_port_that_is_taken_stops_the_start(own: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        done = restante({**own.environment, "RESTANTE_PORT": str(port)}, "up")
    assert done.returncode == 3
    assert re.search(rf"RESTANTE_PORT: port {port} .*is taken", done.stderr)
    assert not (own.data / "up.json").exists()


def test_a_stop_while_it_starts_leaves_nothing(own: Service) -> None:
    with subprocess.Popen([RESTANTE, "up"], env=own.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as up:
        soon(lambda: (own.data / "logs" / "postgres.log").exists(), 60, "the servers are being started")
        below = psutil.Process(up.pid).children(recursive=True)
        up.send_signal(signal.SIGTERM)
        assert up.wait(STOP_SECONDS) == 0
    assert psutil.wait_procs(below, timeout=0)[1] == []


@pytest.mark.long
def test_a_supervisor_that_is_killed_takes_all_with_it(own: Service) -> None:
    with subprocess.Popen([RESTANTE, "up"], env=own.environment, stdout=subprocess.DEVNULL) as up:
        soon(lambda: (own.data / "up.json").exists(), 120, "it is up")
        below = psutil.Process(up.pid).children(recursive=True)
        up.kill()
    assert psutil.wait_procs(below, timeout=10)[1] == []
    assert restante(own.environment, "status").returncode == 1, "up.json is still there, but nobody holds the directory"
    own.start()
    assert restante(own.environment, "demo").returncode == 0
