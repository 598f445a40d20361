"""What an operator sets, in a service of its own: closed sign-up, a small quota, rates, the public address."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import httpx2
import pytest

from tests.acceptance.service import RESTANTE, Service

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
        limited = http.post("/messages", json={"to": "alice", "body": "x"}, headers=bearer)
        while limited.status_code != 429:  # the bucket fills while we look
            http.post("/messages/batch", json=wrong, headers=bearer)
            limited = http.post("/messages", json={"to": "alice", "body": "x"}, headers=bearer)
        assert int(limited.headers["Retry-After"]) >= 1
        assert http.get("/openapi.json").json()["servers"] == [{"url": "https://mail.example"}]
