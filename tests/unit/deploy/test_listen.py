"""`restante listen` against a small server that speaks the stream as the contract says. The end is always a 4409: exit 1."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from deploy import cli
from deploy.client import Problem, Service

TOKENS = {"access_token": "a1", "refresh_token": "r1", "expires_in": 900, "user_id": "u", "device_id": "d"}
FRESH = {**TOKENS, "access_token": "a2", "refresh_token": "r2"}
READY = {"type": "ready", "session": "s", "window": 256, "heartbeat_seconds": 25, "ack_timeout_seconds": 15}

Session = Callable[["Talk"], None]


class Talk:
    """The server's side of one session."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection

    def say(self, *frames: dict[str, Any]) -> None:
        for frame in frames:
            self.connection.send(json.dumps(frame))

    def hear(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(self.connection.recv(10))
        return frame

    def confirm(self) -> list[str]:
        """Take an acknowledgement and confirm it."""
        frame = self.hear()
        assert frame["type"] == "ack"
        self.say({"type": "acked", "n": frame["n"], "acknowledged": frame["ids"], "already": [], "unknown": []})
        ids: list[str] = frame["ids"]
        return ids

    def close(self, code: int, reason: str = "") -> None:
        self.connection.close(code, reason)


class Stream:
    """Plays one session after the other; after the last one the device is connected elsewhere."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.refusals: list[tuple[int, dict[str, Any]]] = []
        self.asked: list[Request] = []
        self.failures: list[BaseException] = []
        self.calls: list[tuple[str, str, Any]] = []
        self.answers: dict[str, list[Any]] = {}

    def then(self, session: Session) -> Session:
        self.sessions.append(session)
        return session

    def serve(self, connection: ServerConnection) -> None:
        talk = Talk(connection)
        try:
            if self.sessions:
                self.sessions.pop(0)(talk)
            talk.close(4409, "replaced")
        except BaseException as failure:
            self.failures.append(failure)

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        self.asked.append(request)
        if not self.refusals:
            return None
        status, document = self.refusals.pop(0)
        answer = connection.respond(status, json.dumps(document))  # type: ignore[arg-type]
        answer.headers["Retry-After"] = "0"
        return answer

    def call(self, service: Service, method: str, path: str, body: Any = None, **_: Any) -> Any:
        """In place of HTTP."""
        self.calls.append((method, path, body))
        answer = self.answers[path].pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stream]:
    script = Stream()
    with serve(
        script.serve,
        "127.0.0.1",
        0,
        compression=None,
        subprotocols=[Subprotocol("restante.v1")],
        process_request=script.admit,
    ) as server:
        port = server.socket.getsockname()[1]
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        monkeypatch.setenv("RESTANTE_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        monkeypatch.setattr("random.uniform", lambda low, high: 0.0)
        monkeypatch.setattr("deploy.listening._PAUSE_OF_TOO_MANY", 0.0)
        monkeypatch.setattr(Service, "call", lambda self, *given, **named: script.call(self, *given, **named))
        yield script
        server.shutdown()
        serving.join(10)
    assert script.failures == []
    assert script.sessions == [], "it did not come back for these"


def log_in(stream: Stream, monkeypatch: pytest.MonkeyPatch, **tokens: Any) -> None:
    stream.answers["/tokens"] = [{**TOKENS, **tokens}]
    monkeypatch.setattr("sys.stdin", io.StringIO("password1\n"))
    assert cli.run(["login", "alice", "--password-stdin"]) == 0
    stream.calls.clear()


@pytest.fixture
def alice(stream: Stream, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Stream:
    log_in(stream, monkeypatch)
    capsys.readouterr()
    return stream


def message(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "type": "message",
        "id": f"m{number}",
        "from": "bob",
        "from_id": "b",
        "body": f"text {number}",
        "content_type": "text/plain",
        "stored_at": "2026-01-01T00:00:00Z",
        "position": number,
        "status": "Stored",
        "cursor": f"c{number}",
        **fields,
    }


def authorizations(stream: Stream) -> list[str]:
    return [request.headers["Authorization"] for request in stream.asked]


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines without their times."""
    return [line.split("  ", 1)[1] for line in capsys.readouterr().out.splitlines()]


def test_it_shows_the_mailbox_and_what_comes_and_acknowledges_it(alice: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    @alice.then
    def session(talk: Talk) -> None:
        talk.say(READY, message(1), message(2))
        acked = talk.confirm()
        while len(acked) < 2:
            acked += talk.confirm()
        talk.say({"type": "caught_up", "cursor": "c2"}, {"type": "something new"}, message(3, **{"from": None}))
        assert (acked, talk.confirm()) == (["m1", "m2"], ["m3"])

    assert cli.run(["listen"]) == 1
    assert shown(capsys) == ["bob: text 1", "bob: text 2", "(erased): text 3"]
    assert authorizations(alice) == ["Bearer a1"]
    assert "receipts_from" not in alice.asked[0].path


def test_a_message_is_harmless_to_a_terminal(alice: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    @alice.then
    def session(talk: Talk) -> None:
        binary = message(3, body_base64="AAEC", content_type="image/png")
        del binary["body"]
        talk.say(READY, message(1, body="\x1b[2Jcl\x07ear\x9b"), message(2, body="two\nlines"), binary)
        talk.confirm()

    assert cli.run(["listen"]) == 1
    said = capsys.readouterr().out
    assert "bob: \ufffd[2Jcl\ufffdear\ufffd\n" in said
    assert "bob: two\n    lines\n" in said
    assert "bob: (image/png, 3 bytes)\n" in said


def test_a_body_that_does_not_open_is_shown_as_that(alice: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    @alice.then
    def session(talk: Talk) -> None:
        broken = message(1, problem={"title": "The body does not open"})
        del broken["body"], broken["content_type"]
        talk.say(READY, broken)
        assert talk.confirm() == ["m1"]

    assert cli.run(["listen"]) == 1
    assert shown(capsys) == ["bob: (The body does not open: m1)"]


def test_one_object_a_line_for_programs(alice: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    sent = [message(1, body="two\nlines, \x1b"), message(2)]

    @alice.then
    def session(talk: Talk) -> None:
        talk.say(READY, *sent)
        talk.confirm()

    assert cli.run(["listen", "--json"]) == 1
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == sent


@pytest.mark.parametrize("code", [1011, 1012, 4408, 4413, 4429, 1001])
def test_it_comes_back_and_tells_nothing_twice(alice: Stream, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    @alice.then
    def first(talk: Talk) -> None:
        talk.say(READY, message(1))
        talk.confirm()
        talk.say(message(2))
        assert talk.hear()["ids"] == ["m2"]
        talk.close(code, "why")

    @alice.then
    def second(talk: Talk) -> None:
        talk.say(READY, message(2), message(3))
        acked = talk.confirm()
        while len(acked) < 2:
            acked += talk.confirm()
        assert acked == ["m2", "m3"], "what nobody confirmed is acknowledged again"

    assert cli.run(["listen"]) == 1
    assert shown(capsys) == ["bob: text 1", "bob: text 2", "bob: text 3"]


def test_it_comes_back_when_the_connection_breaks(alice: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    @alice.then
    def first(talk: Talk) -> None:
        talk.say(READY)
        talk.connection.socket.shutdown(socket.SHUT_RDWR)

    alice.refusals = [(503, {"code": "log_unavailable"}), (502, {})]

    assert cli.run(["listen"]) == 1
    assert len(alice.asked) == 4


def test_a_device_that_is_connected_elsewhere_gives_way(alice: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["listen"]) == 1
    assert len(alice.asked) == 1
    assert "somewhere else" in capsys.readouterr().err


def test_a_token_that_ends_is_renewed(alice: Stream) -> None:
    alice.answers["/tokens/refresh"] = [FRESH, {**FRESH, "access_token": "a3", "refresh_token": "r3"}]

    @alice.then
    def first(talk: Talk) -> None:
        talk.say(READY)
        talk.close(4401, "token_expired")

    @alice.then
    def second(talk: Talk) -> None:
        talk.say(READY)
        alice.refusals = [(401, {"code": "token_expired"})]
        talk.close(1012)

    assert cli.run(["listen"]) == 1
    assert authorizations(alice) == ["Bearer a1", "Bearer a2", "Bearer a2", "Bearer a3"]
    assert [body["refresh_token"] for _, _, body in alice.calls] == ["r1", "r2"]


def test_a_login_that_was_ended_is_told(alice: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    alice.answers["/tokens/refresh"] = [Problem(401, {"code": "token_revoked"}, None)]

    @alice.then
    def session(talk: Talk) -> None:
        talk.say(READY)
        talk.close(4401, "token_revoked")

    assert cli.run(["listen"]) == 1
    assert "restante login" in capsys.readouterr().err


def test_a_token_that_no_renewal_helps_is_told(alice: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    alice.answers["/tokens/refresh"] = [FRESH]
    alice.refusals = [(401, {"code": "token_expired"})] * 2
    assert cli.run(["listen"]) == 1
    assert "token_expired" in capsys.readouterr().err


def test_a_token_is_renewed_on_the_live_session(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    log_in(stream, monkeypatch, expires_in=11)  # it counts as expired 10 s early
    stream.answers["/tokens/refresh"] = [FRESH]

    @stream.then
    def session(talk: Talk) -> None:
        talk.say(READY)
        assert talk.hear() == {"type": "authenticate", "token": "a2"}
        talk.say({"type": "authenticated", "expires_at": "2026-01-01T00:00:00Z"})

    assert cli.run(["listen"]) == 1


def test_tokens_that_another_command_renewed_are_taken(alice: Stream, tmp_path: Path) -> None:
    """A refresh token that two commands use looks stolen to the service."""

    @alice.then
    def session(talk: Talk) -> None:
        talk.say(READY)
        (file,) = tmp_path.rglob("alice.json")
        file.write_text(json.dumps({**json.loads(file.read_text()), "access_token": "a2", "refresh_token": "r2"}))
        talk.close(4401, "token_expired")

    assert cli.run(["listen"]) == 1
    assert authorizations(alice) == ["Bearer a1", "Bearer a2"]
    assert alice.calls == []


def test_receipts_go_on_where_they_were(alice: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    alice.answers["/receipts?cursor=now&limit=1"] = [{"receipts": [], "cursor": "r/0", "has_more": False}]
    receipt = {"type": "receipt", "message_id": "x", "to": "bob", "status": "Read", "at": "2026-01-01T00:00:00Z"}

    @alice.then
    def first(talk: Talk) -> None:
        talk.say(READY, {**receipt, "cursor": "r/1"})
        talk.close(1012)

    assert cli.run(["listen", "--receipts"]) == 1
    assert shown(capsys) == ["bob: Read x"]
    assert [request.path.partition("?")[2] for request in alice.asked] == ["receipts_from=r%2F0", "receipts_from=r%2F1"]


def test_looking_without_taking_never_acknowledges(alice: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    alice.answers["/messages/sync?wait=30"] = [{"messages": [message(1)], "cursor": "c/1", "has_more": False}]
    busy = Problem(503, {"code": "log_unavailable"}, 0.0)
    gone = Problem(401, {"code": "token_revoked"}, None)
    alice.answers["/messages/sync?wait=30&cursor=c%2F1"] = [busy, {"messages": [], "cursor": "c/1"}, gone]
    assert cli.run(["listen", "--no-ack"]) == 1
    assert shown(capsys) == ["bob: text 1"]
    assert {method for method, _, _ in alice.calls} == {"GET"}
    assert alice.asked == []


def test_looking_brings_no_receipts(alice: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["listen", "--no-ack", "--receipts"]) == 2
    assert "--no-ack" in capsys.readouterr().err


def test_where_nobody_answers_it_says_so(
    alice: Stream, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        monkeypatch.setenv("RESTANTE_URL", f"http://127.0.0.1:{bound.getsockname()[1]}")
        log_in(alice, monkeypatch)
    assert cli.run(["listen"]) == 3
    assert "does not answer" in capsys.readouterr().err
