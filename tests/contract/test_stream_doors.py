"""GET /messages/stream until a gateway takes over: refusals before the upgrade, the token in the first frame."""

from __future__ import annotations

import json
from typing import Any

import pytest
from structlog.testing import capture_logs
from websockets.exceptions import InvalidStatus

from api.limits import LIMITS, Limit, Limits
from api.web import Web
from schemas.metrics import REGISTRY
from tests.contract.stream_rig import DEVICE, USER, Rig, Socket, streaming
from tests.eventually import eventually
from tests.socket_rig import BINARY, PING, TEXT, Raw, close_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


async def refused(rig: Rig, query: str = "", **more: Any) -> tuple[int, dict[str, Any], Any]:
    """Status, problem and headers of a refusal before the upgrade."""
    with pytest.raises(InvalidStatus) as caught:
        await rig.site.client(query, **more)
    answer = caught.value.response
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = json.loads(answer.body or b"")
    assert (problem["status"], problem["request_id"]) == (answer.status_code, answer.headers["X-Request-Id"])
    assert not rig.gateway.served
    return answer.status_code, problem, answer.headers


async def test_a_good_token_in_the_header_opens_the_door(rig: Rig) -> None:
    async with rig.site.client("?receipts_from=7", token="good") as client:
        assert client.subprotocol == "restante.v1"
        assert client.response is not None
        assert client.response.headers["X-Request-Id"]
        await client.send('{"type":"ping","n":1}')
        assert json.loads(await client.recv()) == {"type": "pong", "n": 1}
    ((who, receipts_from),) = rig.gateway.served
    assert (who.user, who.device, receipts_from) == (USER, DEVICE, 7)


@pytest.mark.parametrize(
    ("token", "code"), [("old", "token_expired"), ("ended", "token_revoked"), ("other", "token_invalid")]
)
async def test_a_bad_token_in_the_header_is_401(rig: Rig, token: str, code: str) -> None:
    status, problem, headers = await refused(rig, token=token)
    assert (status, problem["code"], headers["WWW-Authenticate"]) == (401, code, 'Bearer error="invalid_token"')


@pytest.mark.parametrize(
    "origin",
    ["https://evil.test", "null", "http://127.0.0.1", "http://127.0.0.1:1", "file://", "http://[", "", "http://a:x", "\xff"],
)
async def test_pages_of_other_sites_are_403(rig: Rig, origin: str) -> None:
    async with Raw(rig.site.port) as raw:
        head = await raw.upgrade(f"Origin: {origin}", "Authorization: Bearer good")
    assert head.startswith(b"HTTP/1.1 403 "), head


@pytest.mark.parametrize("origin", ["http://restante.test", "https://restante.test", "https://Chat.example"])
async def test_own_pages_may_connect(origin: str) -> None:
    async with streaming(web=Web(public_url="https://chat.example/start")) as rig, Raw(rig.site.port) as raw:
        assert (await raw.upgrade(f"Origin: {origin}")).startswith(b"HTTP/1.1 101 ")


async def test_a_public_url_is_one_origin(rig: Rig) -> None:
    async with streaming(web=Web(public_url="https://chat.example:8443/start")) as rig:
        for origin in ("https://chat.example", "http://chat.example:8443"):
            assert (await refused(rig, origin=origin))[:1] == (403,)


@pytest.mark.parametrize("offered", [None, ["other"], ["restante.v2", "soap"]])
async def test_without_the_subprotocol_it_is_400(rig: Rig, offered: Any) -> None:
    status, problem, _ = await refused(rig, token="good", subprotocols=offered)
    assert (status, problem["code"]) == (400, "subprotocol_missing")


async def test_the_subprotocol_may_be_one_of_several(rig: Rig) -> None:
    async with rig.site.client(token="good", subprotocols=["other", "restante.v1"]) as client:
        assert client.subprotocol == "restante.v1"


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("?token=secret", 422, "invalid_request"),
        ("?receipts_from=1&receipts_from=2", 422, "invalid_request"),
        ("?receipts_from=" + "x" * 4097, 422, "invalid_request"),
        ("?receipts_from=%FF", 400, "malformed"),
        ("?receipts_from=mine", 400, "bad_cursor"),
    ],
)
async def test_what_is_asked_is_checked(rig: Rig, query: str, status: int, code: str) -> None:
    assert (await refused(rig, query, token="good"))[1]["code"] == code
    assert (await refused(rig, query, token="good"))[0] == status


async def test_while_the_log_is_away_no_session_begins(rig: Rig) -> None:
    rig.log.away = True
    status, problem, headers = await refused(rig, token="good")
    assert (status, problem["code"]) == (503, "log_unavailable")
    assert int(headers["Retry-After"]) >= 1
    async with rig.site.client() as client:
        await client.send('{"type":"authenticate","token":"good"}')
        assert await close_of(client) == (1011, "log_unavailable")


async def test_a_process_that_stops_takes_nobody(rig: Rig) -> None:
    rig.phase.drain()
    status, problem, headers = await refused(rig, token="good")
    assert (status, problem["code"]) == (503, "gateway_restart")
    assert int(headers["Retry-After"]) >= 1


async def test_a_token_that_comes_when_the_process_stops_is_told_so(rig: Rig) -> None:
    async with rig.site.client() as client:
        rig.phase.drain()
        await client.send('{"type":"authenticate","token":"good"}')
        assert await close_of(client) == (1012, "gateway_restart")


async def test_connecting_counts_as_a_call() -> None:
    one = Limit(amount=1, seconds=600, each="account", meaning="")
    async with streaming(limits=Limits(table={**LIMITS, "requests": one})) as rig:
        async with rig.site.client(token="good"):
            pass
        status, problem, headers = await refused_again(rig)
        assert (status, problem["code"]) == (429, "rate_limited")
        assert int(headers["Retry-After"]) >= 600
        async with rig.site.client() as client:
            await client.send('{"type":"authenticate","token":"good"}')
            assert await close_of(client) == (4429, "rate_limited")


async def refused_again(rig: Rig) -> tuple[int, dict[str, Any], Any]:
    rig.gateway.served.clear()
    return await refused(rig, token="good")


async def test_calls_are_counted_by_address_before_anything_is_looked_at() -> None:
    one = Limit(amount=1, seconds=600, each="address", meaning="")
    async with streaming(limits=Limits(table={**LIMITS, "address_requests": one})) as rig:
        assert (await refused(rig, token="other"))[0] == 401
        assert (await refused(rig, token="other"))[0] == 429


@pytest.mark.parametrize("path", ["/messages/sync", "/", "/messages/stream/"])
async def test_other_paths_take_no_websocket(rig: Rig, path: str) -> None:
    async with Raw(rig.site.port) as raw:
        head = await raw.upgrade(path=path)
        assert head.startswith(b"HTTP/1.1 404 ")
        assert b"application/problem+json" in head
        assert json.loads(await raw.reader.read())["code"] == "not_found"


@pytest.mark.parametrize(
    ("path", "key", "line"),
    [
        ("/messages/stream", None, "X: y"),
        ("/messages/stream", "short", "X: y"),
        ("/messages/stream?x=" + "y" * 8160, "AAAAAAAAAAAAAAAAAAAAAA==", "X: y"),
        ("/messages/stream", "AAAAAAAAAAAAAAAAAAAAAA==", "X: " + "y" * 9000),
    ],
)
async def test_a_broken_handshake_is_a_problem(rig: Rig, path: str, key: str | None, line: str) -> None:
    async with Raw(rig.site.port) as raw:
        head = await raw.upgrade(line, path=path, key=key)
        assert head.startswith(b"HTTP/1.1 400 "), head
        problem = json.loads(await raw.reader.read())
    assert (problem["code"], problem["status"]) == ("malformed", 400)
    assert b"application/problem+json" in head
    assert b"nosniff" in head


async def test_the_first_frame_may_bring_the_token(rig: Rig) -> None:
    async with rig.site.client("?receipts_from=now", origin=f"http://127.0.0.1:{rig.site.port}") as client:
        assert not rig.gateway.served
        await client.send('{"type":"authenticate","token":"good"}')
        await client.send('{"type":"ping","n":1}')
        assert json.loads(await client.recv())["n"] == 1
    ((who, receipts_from),) = rig.gateway.served
    assert (who.user, receipts_from) == (USER, None)


@pytest.mark.parametrize(
    ("opcode", "first", "code", "reason"),
    [
        (TEXT, b'{"type":"authenticate","token":"old"}', 4401, "token_expired"),
        (TEXT, b'{"type":"authenticate","token":"ended"}', 4401, "token_revoked"),
        (TEXT, b'{"type":"authenticate","token":"other"}', 4401, "token_invalid"),
        (TEXT, b'{"type":"authenticate"}', 4401, "token_missing"),
        (TEXT, b'{"type":"authenticate","token":""}', 4401, "token_missing"),
        (TEXT, b'{"type":"ack","n":1,"ids":["00000000-0000-0000-0000-000000000000"]}', 4401, "token_missing"),
        (TEXT, b'{"type":"ping","n":1}', 4401, "token_missing"),
        (TEXT, b'{"type":"nothing"}', 4401, "token_missing"),
        (TEXT, b"good", 4400, "malformed"),
        (TEXT, b"[]", 4400, "malformed"),
        (TEXT, b"", 4400, "malformed"),
        (TEXT, b"\xff", 1007, "malformed"),
        (BINARY, b'{"type":"authenticate","token":"good"}', 1003, "unsupported_media_type"),
        (TEXT, b" " * 65_537, 1009, "body_too_large"),
    ],
)
async def test_any_other_first_frame_is_the_last(rig: Rig, opcode: int, first: bytes, code: int, reason: str) -> None:
    async with rig.site.raw() as raw:
        raw.say(opcode, first)
        assert await raw.closed() == (code, reason)
        assert await raw.ended()
    assert not rig.gateway.served


async def test_a_receipt_cursor_is_checked_once_we_know_whose_it_must_be(rig: Rig) -> None:
    async with rig.site.client("?receipts_from=mine") as client:
        await client.send('{"type":"authenticate","token":"good"}')
        assert await close_of(client) == (4400, "bad_cursor")


async def test_who_brings_no_token_does_not_stay(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.stream.TOKEN_SECONDS", 0.05)
    async with rig.site.raw() as raw:
        raw.say(PING, b"alive")
        assert await raw.closed() == (4401, "token_missing")


async def test_a_fault_of_ours_is_1011_and_a_line_without_what_was_sent(rig: Rig) -> None:
    async def fail(socket: Socket, seen: Any) -> None:
        raise RuntimeError(str(await socket.receive()))

    rig.gateway.play = fail
    with capture_logs() as lines:
        async with rig.site.client() as client:
            await client.send('{"type":"authenticate","token":"good"}')
            await client.send('{"type":"authenticate","token":"secret"}')
            assert await close_of(client) == (1011, "internal_error")
    (line,) = [line for line in lines if line["event"] == "internal_error"]
    assert (line["route"], line["error"]) == ("/messages/stream", "RuntimeError")
    assert "secret" not in json.dumps(lines)


async def test_a_fault_before_the_upgrade_is_500_and_a_line(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(address: str) -> None:
        raise RuntimeError("s3cret")

    monkeypatch.setattr("api.stream.address_of", fail)
    with capture_logs() as lines:
        status, problem, _ = await refused(rig, token="good")
    assert (status, problem["code"]) == (500, "internal_error")
    assert [line["request_id"] for line in lines] == [problem["request_id"]]
    assert "s3cret" not in json.dumps([lines, problem])


async def test_sockets_and_answers_are_counted(rig: Rig) -> None:
    def count(status: str) -> float:
        labels = {"route": "/messages/stream", "method": "GET", "status": status}
        return REGISTRY.get_sample_value("restante_http_requests_total", labels) or 0.0

    before = {status: count(status) for status in ("101", "401")}
    open_before = REGISTRY.get_sample_value("restante_sockets")
    await refused(rig, token="other")
    async with rig.site.client(token="good"):
        await eventually(lambda: REGISTRY.get_sample_value("restante_sockets") == (open_before or 0) + 1)
    await eventually(lambda: REGISTRY.get_sample_value("restante_sockets") == open_before)
    assert {status: count(status) - before[status] for status in before} == {"101": 1, "401": 1}
