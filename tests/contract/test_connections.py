"""Connections that take too long, say too much, take nothing, or are one too many, against a real server."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast, get_args

import pytest
from starlette.routing import Route

from api import bounds
from api.access import ANYONE
from api.app import App
from api.calls import Answer, Call
from api.limits import Limits
from api.problems import PROBLEMS, Code
from api.resource import Edge, Operation, Resource
from api.web import Web
from tests.contract.stream_rig import Rig
from tests.eventually import eventually
from tests.socket_rig import Raw, Site, close_of, listening

pytestmark = pytest.mark.anyio
LARGE = 4_000_000


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """POST /echo tells how long the body was and which headers came, GET /large gives a lot."""
    edge = Edge(cast(Any, None), Limits(on=False), cast(Any, None), Web())

    async def echo(call: Call) -> Answer:
        length = len(await call.raw_body(1_000_000))
        return Answer(200, b"%d of %d headers" % (length, len(call.scope["headers"])))

    async def large(call: Call) -> Answer:
        return Answer(200, b"x" * LARGE)

    def resource(method: str, path: str, handler: Any) -> Route:
        row = Operation(method=method, path=path, handler=handler, summary="", access=ANYONE, rate=None, answers={200: None})
        return Route(path, Resource(edge, path, [row]))

    app = App(routes=[resource("POST", "/echo", echo), resource("GET", "/large", large)])
    app.router.default = Resource(edge, "unmatched", [])
    async with listening(app) as made:
        yield made


def head(first: str = "POST /echo HTTP/1.1", *lines: str) -> bytes:
    return "\r\n".join([first, "Host: x", "Content-Type: application/json", *lines, "", ""]).encode()


async def reply(raw: Raw) -> tuple[int, dict[str, str], bytes]:
    said = (await raw.reader.readuntil(b"\r\n\r\n")).decode()
    status = int(said.split(" ")[1])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in said.splitlines()[1:])}
    return status, headers, await raw.reader.readexactly(int(headers["content-length"]))


async def refusal(raw: Raw) -> tuple[int, str]:
    """Status and code of an answer after which the connection ends, within a deadline."""
    async with asyncio.timeout(10):
        status, headers, body = await reply(raw)
        problem = json.loads(body)
        assert headers["content-type"] == "application/problem+json"
        assert headers["connection"] == "close"
        assert headers["x-content-type-options"] == "nosniff"
        assert (problem["status"], problem["request_id"]) == (status, headers["x-request-id"])
        assert await raw.ended()
    return status, problem["code"]


async def echoed(raw: Raw, said: bytes) -> None:
    status, _, body = await reply(raw)
    assert (status, body.split(b" ")[0]) == (200, said)


@pytest.mark.parametrize(
    ("sent", "refused"),
    [
        (head("GET /" + "x" * 9_000 + " HTTP/1.1"), (414, "url_too_long")),
        (b"GET /" + b"x" * 50_000, (414, "url_too_long")),
        (head("GET / HTTP/1.1", "X: " + "y" * 40_000), (431, "headers_too_large")),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 300_000, (431, "headers_too_large")),
        (head("GET / HTTP/1.1", *["X: y"] * 200), (431, "headers_too_large")),
        (b"GET / HTTP/1.1\r\n\r\n", (400, "malformed")),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", (400, "malformed")),
        (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", (400, "malformed")),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", (400, "malformed")),
        (head("POST /echo HTTP/1.1", "Transfer-Encoding: chunked") + b"zz\r\n", (400, "malformed")),
        (
            head("POST /echo HTTP/1.1", "Transfer-Encoding: chunked") + b"1;" + b"x" * 700_000,
            (431, "headers_too_large"),
        ),
        (
            head("POST /echo HTTP/1.1", "Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n" + b"X: y\r\n" * 200,
            (431, "headers_too_large"),
        ),
    ],
    ids=lambda value: repr(value)[:30] if isinstance(value, bytes) else value[1],
)
async def test_what_is_too_large_or_no_http_is_refused(site: Site, sent: bytes, refused: tuple[int, str]) -> None:
    async with Raw(site.port) as raw:
        raw.writer.write(sent)
        assert await refusal(raw) == refused


async def test_what_comes_after_the_body_is_no_header(site: Site) -> None:
    async with Raw(site.port) as raw:
        raw.writer.write(head("POST /echo HTTP/1.1", "Transfer-Encoding: chunked"))
        raw.writer.write(b"2\r\n{}\r\n0\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n")
        status, _, body = await reply(raw)
        assert (status, body) == (200, b"2 of 3 headers")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_SECONDS", "BODY_SECONDS", "LINGER_SECONDS", "STALLED_SECONDS"):
        monkeypatch.setattr(bounds, name, 0.2)


@pytest.mark.usefixtures("short")
async def test_a_request_that_does_not_come_in_time_is_408(site: Site) -> None:
    async with AsyncExitStack() as stack:
        halves = [b"POST /echo HT", head("POST /echo HTTP/1.1", "Content-Length: 5")[:-2]]
        halves += [head("POST /echo HTTP/1.1", f"Content-Length: {length}") + b"{" for length in (5, 100_000)]
        raws = [await stack.enter_async_context(Raw(site.port)) for _ in halves]
        for raw, half in zip(raws, halves, strict=True):
            raw.writer.write(half)
        assert [await refusal(raw) for raw in raws] == [(408, "request_timeout")] * 4


@pytest.mark.usefixtures("short")
async def test_drops_do_not_buy_time(site: Site) -> None:
    async def drip(raw: Raw) -> None:
        while True:
            raw.writer.write(b"x")
            await asyncio.sleep(0.05)

    async with Raw(site.port) as slow, Raw(site.port) as blank:
        slow.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")
        dripping = asyncio.create_task(drip(slow))
        try:
            assert await refusal(slow) == (408, "request_timeout")
        finally:
            dripping.cancel()
        blank.writer.write(b"\r\n")
        async with asyncio.timeout(10):
            assert await blank.ended()


@pytest.mark.usefixtures("short")
async def test_who_says_nothing_is_hung_up_on(site: Site) -> None:
    async with Raw(site.port) as raw, asyncio.timeout(10):
        assert await raw.reader.read() == b""


@pytest.mark.usefixtures("short")
async def test_the_rest_of_a_refused_body_is_taken_but_not_for_long(site: Site) -> None:
    async with Raw(site.port) as raw, asyncio.timeout(10):
        raw.writer.write(head("POST /echo HTTP/1.1", "Content-Length: 99999999"))
        status, _, body = await reply(raw)
        assert (status, json.loads(body)["code"]) == (413, "body_too_large")
        assert await raw.ended()


async def test_a_connection_goes_on_after_a_body_that_came_late(site: Site) -> None:
    async with Raw(site.port) as raw, asyncio.timeout(10):
        raw.writer.write(head("POST /nothing HTTP/1.1", "Content-Length: 10"))
        assert (await reply(raw))[0] == 404
        raw.writer.write(b"x" * 10 + head("POST /echo HTTP/1.1", "Content-Length: 3") + b"123")
        await echoed(raw, b"3")


@pytest.mark.usefixtures("short")
async def test_an_answer_that_nobody_takes_is_dropped(site: Site) -> None:
    async with Raw(site.port, receive_buffer=4096) as raw, asyncio.timeout(10):
        raw.writer.write(head("GET /large HTTP/1.1"))
        await raw.reader.readuntil(b"\r\n\r\n")
        raw.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        await eventually(lambda: _gone(raw))


def _gone(raw: Raw) -> bool:
    """Whether the kernel knows that the peer has reset the connection: writing fails then."""
    raw.writer.write(b"x")
    return raw.writer.transport.is_closing()


async def test_requests_sent_ahead_are_answered_up_to_a_point(site: Site) -> None:
    one = head("POST /echo HTTP/1.1", "Content-Length: 1") + b"1"
    async with Raw(site.port) as raw, asyncio.timeout(10):
        raw.writer.write(one * bounds.PIPELINED)
        for _ in range(bounds.PIPELINED):
            await echoed(raw, b"1")
        raw.writer.write(one * 1_000)
        assert await raw.ended()


async def test_connections_are_counted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.doors, "_most", 3)
    async with Raw(site.port) as one, Raw(site.port), Raw(site.port):
        one.writer.write(head("POST /echo HTTP/1.1", "Content-Length: 1") + b"1")
        await echoed(one, b"1")
        async with Raw(site.port) as many:
            assert await refusal(many) == (503, "overloaded")
        one.writer.write(head("POST /echo HTTP/1.1", "Content-Length: 1") + b"1")
        await echoed(one, b"1")


async def test_one_address_has_half_of_them(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.doors, "_most", 4)
    async with Raw(site.port), Raw(site.port):
        await eventually(lambda: site.doors._crowds == {"127.0.0.1"})
        async with Raw(site.port) as third:
            assert await refusal(third) == (503, "overloaded")
    await eventually(lambda: not site.doors._crowds)
    async with Raw(site.port) as again:
        again.writer.write(head("POST /echo HTTP/1.1", "Content-Length: 1") + b"1")
        await echoed(again, b"1")


async def test_strangers_are_few_and_those_with_a_token_do_not_count(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "STRANGERS_EACH", 2)
    async with rig.site.client() as one, rig.site.client(), Raw(rig.site.port) as third:
        assert (await third.upgrade()).startswith(b"HTTP/1.1 429 ")
        async with rig.site.client(token="good"):
            await eventually(lambda: len(rig.gateway.served) == 1)
        await one.send('{"type":"authenticate","token":"good"}')
        await eventually(lambda: len(rig.gateway.served) == 2)
        async with rig.site.client() as room:
            await room.send("no frame")
            assert (await close_of(room))[0] == 4400
    async with rig.site.client(), rig.site.client():
        pass


def test_the_page_shows_the_table() -> None:
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", Path("docs/limits.md").read_text(encoding="utf-8"), re.MULTILINE)
    for row in bounds.TABLE:
        assert row in rows
    codes = {word for row in rows for word in re.findall(r"`(\w+)`", row[2]) if "_" in word}
    assert codes - {"has_more"} <= set(PROBLEMS) == set(get_args(Code))
