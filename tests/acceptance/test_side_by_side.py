"""Two services on one machine, each in its own data directory: nothing of the one is known to the other."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import httpx2
import pytest

from tests.acceptance.answers import good, personal, problem
from tests.acceptance.people import bodies, ids, phone_of
from tests.acceptance.service import RESTANTE, Service

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def other() -> Iterator[Service]:
    """A service beside the one that all share."""
    running = Service()
    try:
        yield running.start()
    finally:
        running.remove()


def test_two_services_do_not_mix(service: Service, other: Service) -> None:
    here, there = service.facts, other.facts
    assert {here[name] for name in ("url", "kafka", "database_url", "data_dir")}.isdisjoint(map(str, there.values()))
    assert set(here["admin"].values()).isdisjoint(there["admin"].values())

    alice = phone_of(service, "alice")
    same = {"name": alice.name, "password": alice.person.password}
    problem(other.request("POST", "/tokens", json={**same, "device": "phone"}), "bad_credentials")
    good(other.request("POST", "/accounts", json=same), 201)
    login = personal(other.request("POST", "/tokens", json={**same, "device": "phone"}))
    assert login["user_id"] != alice.person.user_id

    problem(other.request("GET", "/messages/sync", token=alice.token), "token_invalid")
    problem(service.request("GET", "/messages/sync", token=login["access_token"]), "token_invalid")

    message_id = alice.send(alice, "here")
    page = good(other.request("GET", "/messages/sync", token=login["access_token"]))
    assert page["messages"] == []
    problem(other.request("GET", f"/messages/{message_id}", token=login["access_token"]), "message_unknown")
    cursor = alice.page()["cursor"]
    query = {"cursor": cursor}
    problem(other.request("GET", "/messages/sync", token=login["access_token"], params=query), "bad_cursor")

    content = {"to": alice.name, "body": "there"}
    good(other.request("POST", "/messages", token=login["access_token"], json=content), 202)
    there_now = good(other.request("GET", "/messages/sync", token=login["access_token"]))
    assert bodies(there_now["messages"]) == ["there"]
    assert ids(alice.mailbox()) == [message_id]

    assert other.stop() == 0
    assert service.healthy(), "one ends, the other goes on"
    other.start()
    again = personal(other.request("POST", "/tokens", json={**same, "device": "phone"}))
    assert again["device_id"] == login["device_id"], "data stay"
    kept = good(other.request("GET", "/messages/sync", token=again["access_token"]))
    assert bodies(kept["messages"]) == ["there"]
    old_token = other.request("GET", "/messages/sync", token=login["access_token"])
    assert bodies(good(old_token)["messages"]) == ["there"], "and so do the keys"


def test_a_second_up_in_one_directory_says_so_and_stops(service: Service) -> None:
    second = subprocess.run(
        [RESTANTE, "up"], env=service.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert second.returncode == 3
    assert str(service.data) in second.stdout + second.stderr
    assert service.healthy()


def test_clients_find_the_service_of_their_directory(service: Service, other: Service) -> None:
    for one in (service, other):
        shown = subprocess.run(
            [RESTANTE, "status", "--json"], env=one.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert shown.returncode == 0, shown.stderr
        assert one.url in json.dumps(json.loads(shown.stdout))
    assert httpx2.get(other.url + "/health", trust_env=False).status_code == 200
    assert os.path.realpath(other.facts["data_dir"]) == os.path.realpath(other.data)
