"""What an operator sets, in a service of its own: closed sign-up, a small quota, rates, the public address."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import jwt
import pytest

from tests.acceptance.service import RESTANTE, Service
from tests.eventually import soon

pytestmark = pytest.mark.timeout(420)
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def strict() -> Iterator[Service]:
    running = Service(
        RESTANTE_SIGNUP="closed",
        RESTANTE_MAILBOX_QUOTA="20",
        RESTANTE_RATE_LIMITS="on",
        RESTANTE_PUBLIC_URL="https://mail.example",
    )
    try:
        yield running.start()
    finally:
        running.remove()


def add(service: Service, name: str) -> subprocess.CompletedProcess[str]:
    command = [RESTANTE, "accounts", "add", name, "--password-stdin", "--json"]
    return subprocess.run(
        command, env=service.environment, capture_output=True, text=True, check=False, timeout=120, input=PASSWORD + "\n"
    )


@contextmanager
def emptied(service: Service, bearer: dict[str, str], wrong: dict[str, Any]) -> Iterator[None]:
    """Batches one after the other from four connections: the bucket fills while one looks."""
    enough = threading.Event()

    def ask() -> None:
        with httpx2.Client(base_url=service.url, timeout=60, trust_env=False) as http:
            while not enough.is_set():
                http.post("/messages/batch", json=wrong, headers=bearer)

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for one in asking:
        one.start()
    try:
        yield
    finally:
        enough.set()
        for one in asking:
            one.join()


def refused_for_its_rate(http: httpx2.Client, bearer: dict[str, str]) -> httpx2.Response | None:
    answer = http.post("/messages", json={"to": "alice", "body": "x"}, headers=bearer)
    return answer if answer.status_code == 429 else None


def test_the_settings_act(strict: Service) -> None:
    with httpx2.Client(base_url=strict.url, timeout=30, trust_env=False) as http:
        refused = http.post("/accounts", json={"name": "alice", "password": PASSWORD})
        assert (refused.status_code, refused.json()["code"]) == (403, "signup_closed")
        assert json.loads(add(strict, "alice").stdout)["name"] == "alice"
        again = add(strict, "alice")
        assert (again.returncode, "name_taken" in again.stderr) == (1, True)
        tokens = http.post("/tokens", json={"name": "alice", "password": PASSWORD, "device": "phone"}).json()
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        answers = [http.post("/messages", json={"to": "alice", "body": "x"}, headers=bearer) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [202, 202, 409]
        assert answers[2].json()["code"] == "sender_share_full"
        http.post("/messages/ack", json={"ids": [answers[0].json()["id"]]}, headers=bearer)
        assert http.post("/messages", json={"to": "alice", "body": "x"}, headers=bearer).status_code == 202
        wrong = {"messages": [{"to": "nobody", "body": "x"}] * 500}
        results = [http.post("/messages/batch", json=wrong, headers=bearer).json()["results"] for _ in range(20)]
        assert {result["problem"]["code"] for batch in results for result in batch} == {"recipient_unknown", "rate_limited"}
        with emptied(strict, bearer, wrong):
            limited = soon(lambda: refused_for_its_rate(http, bearer), within=60)
        assert int(limited.headers["Retry-After"]) >= 1
        assert http.get("/openapi.json").json()["servers"] == [{"url": "https://mail.example"}]


def keys(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [RESTANTE, "keys", *arguments]
    return subprocess.run(command, env=service.environment, capture_output=True, text=True, check=False, timeout=120)


class Polling(threading.Thread):
    """Asks for a page with an old token and an old cursor, over and over."""

    def __init__(self, url: str, bearer: dict[str, str], cursor: str) -> None:
        super().__init__()
        self._asked = (url, bearer, cursor)
        self.enough = threading.Event()
        self.answers: list[int] = []

    def run(self) -> None:
        url, bearer, cursor = self._asked
        with httpx2.Client(base_url=url, timeout=30, trust_env=False, headers=bearer) as http:
            while not self.enough.wait(0.02):
                self.answers.append(http.get("/messages/sync", params={"cursor": cursor}).status_code)


def test_no_client_notices_that_keys_change(strict: Service) -> None:
    add(strict, "carol")
    login = {"name": "carol", "password": PASSWORD, "device": "phone"}
    with httpx2.Client(base_url=strict.url, timeout=30, trust_env=False) as http:
        old = http.post("/tokens", json=login).json()
        bearer = {"Authorization": f"Bearer {old['access_token']}"}
        sent = http.post("/messages", json={"to": "carol", "body": "before"}, headers=bearer)
        cursor = http.get("/messages/sync", headers=bearer).json()["cursor"]
        polling = Polling(strict.url, bearer, cursor)
        polling.start()
        try:
            for which in ("token", "cursor", "master"):
                rotated = keys(strict, "rotate", which, "--json")
                assert (rotated.returncode, json.loads(rotated.stdout)["keys"]) == (0, 2), rotated.stderr
            assert json.loads(rotated.stdout)["rewrapped"] >= 1
            fresh = http.post("/tokens", json=login).json()
            assert len(http.get("/.well-known/jwks.json").json()["keys"]) == 2
            retired = [keys(strict, "retire", which).returncode for which in ("token", "master")]
            assert retired == [1, 0], "tokens of the old key live on"
        finally:
            polling.enough.set()
            polling.join()
        assert set(polling.answers) == {200}
        both = [jwt.get_unverified_header(each["access_token"])["kid"] for each in (old, fresh)]
        assert both[0] != both[1]
        assert keys(strict, "retire", "token", "--now").returncode == 0
        assert http.get("/messages/sync", headers=bearer).json()["code"] == "token_invalid"
        strict.restart("api")
        again = {"Authorization": f"Bearer {fresh['access_token']}"}
        page = http.get("/messages/sync", headers=again).json()
        assert [(message["id"], message["body"]) for message in page["messages"]] == [(sent.json()["id"], "before")]
        assert http.get("/messages/sync", params={"cursor": cursor}, headers=again).status_code == 200
