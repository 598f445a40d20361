"""What browsers are told, and which calls are refused for the name or the page that they come with."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from ipaddress import ip_network

import httpx2
import pytest

from api.limits import LIMITS, Limit, Limits
from api.proxies import Proxies
from api.web import NOTHING, Web
from tests.contract.stream_rig import streaming
from tests.edge import Edge, Person, running
from tests.socket_rig import Raw

pytestmark = pytest.mark.anyio
APP = "https://app.example"


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def test_every_answer_has_the_headers(edge: Edge, alice: Person) -> None:
    answers = [
        await alice.send(alice, "x"),
        await alice.sync() and await alice.get("/messages/sync"),
        await edge.client.get("/nothing"),
        await edge.client.get("/messages/sync"),
        await edge.client.post("/accounts", content=b"{", headers={"Content-Type": "application/json"}),
        await edge.client.request("OPTIONS", "/messages"),
        await edge.client.request("BREW", "/messages"),
        await edge.client.get("/messages/stream"),
        await edge.client.get("/health"),
        await edge.client.get("/openapi.json"),
        await edge.admin.get("/metrics"),
        await edge.admin.get("/health"),
    ]
    for answer in answers:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers.get_list("Content-Security-Policy") == [NOTHING.decode()]
        assert "Strict-Transport-Security" not in answer.headers
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_the_page_runs_nothing_and_is_framed_by_nobody(edge: Edge) -> None:
    answer = await edge.client.get("/")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    (policy,) = answer.headers.get_list("Content-Security-Policy")
    (style,) = re.findall(r"<style>(.*)</style>", answer.text)
    assert f"style-src 'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'" in policy
    for rule in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"):
        assert rule in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script|style=| on\w+=", answer.text)
    assert "<code>/messages/{id}/trail</code>" in answer.text


async def test_docs_can_be_off(database_url: str) -> None:
    async with running(database_url, docs=False) as edge:
        for path in ("/", "/openapi.json"):
            assert code(await edge.client.get(path)) == (404, "not_found")


async def test_over_https_browsers_are_told_to_stay_there(database_url: str) -> None:
    web = Web(proxies=Proxies([ip_network("127.0.0.1")]))
    async with running(database_url, web=web) as edge:
        for proto, told in (("https", True), ("http", False)):
            answer = await edge.client.get("/nothing", headers={"X-Forwarded-Proto": proto})
            assert ("Strict-Transport-Security" in answer.headers) is told


async def test_limits_count_the_address_that_the_proxy_names(database_url: str) -> None:
    """httpx2 calls from 127.0.0.1."""
    few = Limits(table={**LIMITS, "address_requests": Limit(amount=2, seconds=60, each="address", meaning="")})

    async def asked(edge: Edge, *chain: str) -> list[int]:
        paths = ["/devices", "/nothing"]
        answers = [await edge.client.get(paths[at % 2], headers={"X-Forwarded-For": who}) for at, who in enumerate(chain)]
        return [answer.status_code for answer in answers]

    async with running(database_url, web=Web(proxies=Proxies([ip_network("127.0.0.1")])), limits=few) as edge:
        assert await asked(edge, "203.0.113.1", "203.0.113.1", "203.0.113.1", "203.0.113.2") == [401, 404, 429, 404]
        assert await asked(edge, "6.6.6.6, 203.0.113.1") == [429]
    few = Limits(table={**LIMITS, "address_requests": Limit(amount=2, seconds=60, each="address", meaning="")})
    async with running(database_url, limits=few) as edge:
        assert await asked(edge, "203.0.113.1", "203.0.113.2", "203.0.113.3") == [401, 404, 429]


SERVED = (
    "mail.example",
    "MAIL.example.:8443",
    "a.b.wide.example",
    "localhost:8080",
    "127.0.0.1:8080",
    "[::1]:8080",
    "public.example",
)
FOREIGN = (
    "wide.example",
    "evil.example",
    "mail.example.evil.example",
    "mail.example:x",
    "mail.example/",
    "evil@mail.example",
    "",
)


async def test_only_the_hosts_that_are_ours_are_served(database_url: str) -> None:
    web = Web(hosts=("mail.example", "*.wide.example"), public_url="https://public.example/start")
    async with running(database_url, web=web) as edge:
        for host in SERVED:
            assert (await edge.client.get("/health/live", headers={"Host": host})).status_code == 200, host
        for host in FOREIGN:
            assert code(await edge.client.get("/health/live", headers={"Host": host})) == (421, "host_unknown"), host
            assert (await edge.admin.get("/health/live", headers={"Host": host})).status_code == 200


async def test_names_without_a_dot_are_nobodys_on_the_web(database_url: str) -> None:
    async with running(database_url, web=Web(hosts=(), bare=True)) as edge:
        for host, status in (("x", 200), ("restante:8080", 200), ("127.0.0.1", 200), ("evil.example", 421), (".", 421)):
            assert (await edge.client.get("/health/live", headers={"Host": host})).status_code == status, host


async def test_foreign_pages_may_not_call(edge: Edge, alice: Person) -> None:
    asked = {"Origin": APP, "Access-Control-Request-Method": "POST"}
    for answer in (
        await edge.client.request("OPTIONS", "/messages", headers=asked),
        await edge.client.get("/health", headers={"Origin": APP}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_pages_of_named_sites_may(database_url: str) -> None:
    async with running(database_url, web=Web(origins=(APP,))) as edge:
        asked = {"Origin": APP, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        answer = await edge.client.request("OPTIONS", "/messages", headers=asked)
        assert answer.status_code == 204
        assert answer.headers["Access-Control-Allow-Origin"] == APP
        assert answer.headers["Access-Control-Allow-Methods"] == "POST, OPTIONS"
        assert "authorization" in answer.headers["Access-Control-Allow-Headers"]
        plain = await edge.client.get("/devices", headers={"Origin": APP})
        assert (plain.status_code, plain.headers["Access-Control-Allow-Origin"]) == (401, APP)
        assert "Access-Control-Allow-Credentials" not in plain.headers
        for origin in ("https://evil.example", "https://app.example.evil.example", "http://app.example", "null"):
            other = await edge.client.request("OPTIONS", "/messages", headers={**asked, "Origin": origin})
            assert [name for name in other.headers if name.startswith("access-control")] == []
            assert other.headers["Vary"] == "origin", "caches keep the answers apart"


@pytest.mark.parametrize(("line", "status"), [(f"Origin: {APP}", 101), ("Origin: https://evil.example", 403)])
async def test_the_same_sites_may_open_sockets(line: str, status: int) -> None:
    async with streaming(web=Web(origins=(APP,))) as rig, Raw(rig.site.port) as raw:
        assert (await raw.upgrade(line)).startswith(f"HTTP/1.1 {status} ".encode())


async def test_a_socket_names_its_host_too_and_refusals_have_the_headers() -> None:
    async with streaming(web=Web(hosts=("mail.example",))) as rig, Raw(rig.site.port) as raw:
        head = await raw.upgrade()
        assert head.startswith(b"HTTP/1.1 421 ")
        assert b"x-content-type-options: nosniff\r\n" in head.lower()
