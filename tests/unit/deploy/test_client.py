"""A person's client against a small server that answers as the contract says."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy import cli

Answer = tuple[int, Any, dict[str, str]]


class Scripted:
    """Answers by method and path, in order; keeps what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[tuple[str, Any, dict[str, str]]] = []

    def on(self, call: str, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        self.answers.setdefault(call, []).append((status, body, headers or {}))


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Scripted]:
    script = Scripted()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            call = f"{self.command} {self.path}"
            script.asked.append((call, json.loads(sent) if sent else None, dict(self.headers)))
            status, body, headers = script.answers[call].pop(0)
            text = b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = _do

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        monkeypatch.setenv("RESTANTE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        yield script
        server.shutdown()


TOKENS = {
    "access_token": "a1",
    "refresh_token": "r1",
    "expires_in": 900,
    "user_id": "u",
    "device_id": "d",
    "token_type": "Bearer",
}
STORED = {"id": "m1", "to": "bob", "status": "Stored", "stored_at": "2026-01-01T00:00:00Z"}


def log_in(service: Scripted, monkeypatch: pytest.MonkeyPatch, **tokens: Any) -> None:
    service.on("POST /tokens", 200, {**TOKENS, **tokens})
    monkeypatch.setattr("sys.stdin", io.StringIO("password1\n"))
    assert cli.run(["login", "alice", "--password-stdin", "--device", "laptop"]) == 0


def test_tokens_are_kept_private(service: Scripted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log_in(service, monkeypatch)
    assert service.asked[0][1] == {"name": "alice", "password": "password1", "device": "laptop"}
    (file,) = tmp_path.rglob("alice.json")
    assert file.stat().st_mode & 0o777 == 0o600
    assert "password1" not in file.read_text()


def test_send_says_stored(service: Scripted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    log_in(service, monkeypatch)
    service.on("POST /messages", 202, STORED)
    assert cli.run(["send", "bob", "hello", "--json"]) == 0
    _, body, headers = service.asked[-1]
    assert body == {"to": "bob", "body": "hello", "content_type": "text/plain"}
    assert headers["Authorization"] == "Bearer a1"
    assert json.loads(capsys.readouterr().out.split("\n", 1)[1]) == STORED


def test_a_repeat_after_an_unknown_outcome_has_the_same_key(service: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(service, monkeypatch)
    problem = {"title": "The log is away", "code": "log_unavailable", "outcome": "unknown"}
    service.on("POST /messages", 503, problem, {"Retry-After": "0"})
    service.on("POST /messages", 202, STORED)
    monkeypatch.setattr("deploy.client.time.sleep", lambda seconds: None)
    assert cli.run(["send", "bob", "hello"]) == 0
    first, second = (headers["Idempotency-Key"] for call, _, headers in service.asked if call == "POST /messages")
    assert first == second


def test_expired_tokens_are_renewed_and_kept(service: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(service, monkeypatch, expires_in=0)
    service.on("POST /tokens/refresh", 200, {**TOKENS, "access_token": "a2", "refresh_token": "r2"})
    for _ in range(2):
        service.on("GET /messages/sync?limit=100", 200, {"messages": [], "pending": 0, "has_more": False, "cursor": "c"})
        assert cli.run(["sync", "--json"]) == 0
    calls = [(call, headers.get("Authorization")) for call, _, headers in service.asked[1:]]
    assert calls == [("POST /tokens/refresh", None), *[("GET /messages/sync?limit=100", "Bearer a2")] * 2]


def test_a_problem_is_told_with_what_to_do(
    service: Scripted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log_in(service, monkeypatch)
    service.on("POST /messages", 404, {"title": "No such recipient", "detail": "bbo", "code": "recipient_unknown"})
    assert cli.run(["send", "bbo", "hello"]) == 1
    said = capsys.readouterr().err
    assert "No such recipient: bbo (recipient_unknown)" in said and "check the name" in said


def test_sync_shows_all_pages_and_acknowledges_what_it_showed(
    service: Scripted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log_in(service, monkeypatch)
    message = {"from": "bob", "body": "hi", "content_type": "text/plain", "stored_at": "2026-01-01T00:00:00Z"}
    for number, more in ((1, True), (2, False)):
        path = "GET /messages/sync?limit=1" + ("" if number == 1 else "&cursor=c1")
        page = {
            "messages": [{**message, "id": f"m{number}"}],
            "cursor": f"c{number}",
            "has_more": more,
            "pending": 3 - number,
        }
        service.on(path, 200, page)
        service.on("POST /messages/ack", 200, {"acknowledged": [f"m{number}"], "already": [], "unknown": []})
    assert cli.run(["sync", "--ack", "--all", "--limit", "1"]) == 0
    assert [body["ids"] for call, body, _ in service.asked if call == "POST /messages/ack"] == [["m1"], ["m2"]]
    assert "bob: hi    m1" in capsys.readouterr().out
