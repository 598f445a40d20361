"""Every route by every kind of caller. What tokens must do follows from the route table; what a route gives to whom is said
below, and a route of which nothing is said fails."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from starlette.routing import Route, WebSocketRoute

from api.app import create_admin_app, create_app
from api.resource import Operation, Resource
from projections.database import Connection
from tests.edge import PASSWORD, Edge, Person

pytestmark = pytest.mark.anyio

Key = tuple[str, str]
STATEMENTS: ContextVar[list[None]] = ContextVar("statements that PostgreSQL was asked in this context")
REFUSED = {
    "nobody": "token_missing",
    "garbage": "token_invalid",
    "expired": "token_expired",
    "logged out": "token_revoked",
    "erased": "token_revoked",
}
"""Callers without a good token, and what they are told where one is needed."""


@dataclass(frozen=True)
class Things:
    """What a call can name: the recipient's or the sender's, or nobody's."""

    name: str
    message: str = field(default_factory=lambda: str(uuid4()))
    device: str = field(default_factory=lambda: str(uuid4()))
    cursor: str = "A" * 36
    receipts: str = "A" * 36
    refresh_token: str = "A" * 43
    fresh: Iterator[int] = field(default_factory=itertools.count)


@dataclass(frozen=True)
class Asked:
    """One way to call a route: the path, query and body made of things, and what each caller with a good token is told: a
    status, a problem code, or `unknown`, which is 200 with the thing among the unknown ones."""

    path: Callable[[Things], str]
    stranger: int | str
    sender: int | str
    recipient: int | str
    other_device: int | str
    body: Callable[[Things], Any] = lambda things: None

    def of(self, caller: str) -> int | str:
        said: int | str = getattr(self, caller.replace(" ", "_"))
        return said


def alike(path: str | Callable[[Things], str], said: int | str, body: Callable[[Things], Any] = lambda _: None) -> Asked:
    """The same for everybody."""
    return Asked(path if callable(path) else lambda _: path, said, said, said, said, body)


def ids(things: Things) -> Any:
    return {"ids": [things.message]}


def message(things: Things) -> Any:
    return {"to": things.name, "body": "x"}


SAID: Mapping[Key, list[Asked]] = {
    ("POST", "/messages"): [alike("/messages", 202, message)],
    ("POST", "/messages/batch"): [alike("/messages/batch", 202, lambda things: {"messages": [message(things)]})],
    ("GET", "/messages/sync"): [
        alike("/messages/sync", 200),
        Asked(lambda things: f"/messages/sync?cursor={things.cursor}", "bad_cursor", "bad_cursor", 200, "bad_cursor"),
    ],
    ("POST", "/messages/ack"): [
        Asked(
            lambda things: "/messages/ack",
            *("bad_cursor", "bad_cursor", 200, "bad_cursor"),
            body=lambda things: {"up_to": things.cursor},
        ),
        Asked(lambda things: "/messages/ack", "unknown", "unknown", 200, 200, ids),
    ],
    ("POST", "/messages/read"): [Asked(lambda things: "/messages/read", "unknown", "unknown", 200, 200, ids)],
    ("POST", "/messages/status"): [Asked(lambda things: "/messages/status", "unknown", 200, 200, 200, ids)],
    ("GET", "/messages/{id}"): [Asked(lambda things: f"/messages/{things.message}", "message_unknown", 200, 200, 200)],
    ("GET", "/messages/{id}/trail"): [
        Asked(lambda things: f"/messages/{things.message}/trail", "message_unknown", 200, 200, 200)
    ],
    ("GET", "/receipts"): [
        alike("/receipts", 200),
        Asked(lambda things: f"/receipts?cursor={things.receipts}", "bad_cursor", 200, "bad_cursor", "bad_cursor"),
    ],
    ("GET", "/messages/stream"): [alike("/messages/stream", "upgrade_required")],
    ("POST", "/accounts"): [
        alike("/accounts", 201, lambda things: {"name": f"{things.name}.{next(things.fresh)}", "password": PASSWORD})
    ],
    ("GET", "/accounts/me"): [alike("/accounts/me", 200)],
    ("DELETE", "/accounts/me"): [  # the other device comes last, and belongs to the account that the recipient has erased
        Asked(lambda things: "/accounts/me", 204, 204, 204, "token_revoked")
    ],
    ("POST", "/tokens"): [
        alike("/tokens", "bad_credentials", lambda things: {"name": things.name, "password": "a" * 8, "device": "phone"})
    ],
    ("POST", "/tokens/refresh"): [
        alike("/tokens/refresh", "token_invalid", lambda things: {"refresh_token": things.refresh_token[::-1]})
    ],
    ("DELETE", "/tokens/current"): [alike("/tokens/current", 204)],
    ("GET", "/devices"): [alike("/devices", 200)],
    ("DELETE", "/devices/{device_id}"): [
        Asked(lambda things: f"/devices/{things.device}", "device_unknown", "device_unknown", 204, 204)
    ],
    ("GET", "/presence/{name}"): [
        Asked(lambda things: f"/presence/{things.name}", "presence_unknown", 200, "presence_unknown", "presence_unknown")
    ],
    **{
        ("GET", path): [alike(path, 200)]
        for path in (
            "/",
            "/.well-known/jwks.json",
            "/openapi.json",
            "/health",
            "/health/live",
            "/health/ready",
        )
    },
}
ADMIN: Mapping[Key, list[Asked]] = {
    ("GET", path): [alike(path, 200)] for path in ("/metrics", "/health", "/health/live", "/health/ready")
}


@dataclass
class World:
    """A message from a sender to a recipient, and all who may call. `theirs` are things that exist."""

    theirs: Things
    callers: dict[str, dict[str, str]]
    people: dict[str, Person]
    private: list[str]


async def world(edge: Edge, number: int) -> World:
    """A new one. Time passes with each: the clock goes on by more than the life of an access token."""
    early = await edge.person(f"bob{number}")
    edge.clock.now += 1000
    sender, stranger = await edge.person(f"alice{number}"), await edge.person(f"mallory{number}")
    recipient, other, left, spare = [
        await edge.person(f"bob{number}", device) for device in ("phone", "laptop", "left", "spare")
    ]
    await edge.client.delete("/tokens/current", headers=left.bearer)
    erased = await edge.person(f"erin{number}")
    await edge.client.delete("/accounts/me", headers=erased.bearer)
    sent = (await sender.send(recipient, "for bob only")).json()["id"]
    await recipient.send(sender)
    theirs = Things(
        recipient.name,
        sent,
        spare.tokens["device_id"],
        (await recipient.sync())["cursor"],
        (await sender.get("/receipts")).json()["cursor"],
        recipient.tokens["refresh_token"],
    )
    people = {"stranger": stranger, "sender": sender, "recipient": recipient, "other device": other}
    callers = {
        "nobody": {},
        "garbage": {"Authorization": "Bearer a.b.c"},
        "expired": early.bearer,
        "logged out": left.bearer,
        "erased": erased.bearer,
        **{name: person.bearer for name, person in people.items()},
    }
    private = [sent, "for bob only", *(person.tokens["device_id"] for person in (recipient, other, left, spare))]
    return World(theirs, callers, people, private)


@pytest.fixture(autouse=True)
def _count_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    within = Connection._within

    def counted(connection: Connection) -> Any:
        if (counts := STATEMENTS.get(None)) is not None:
            counts.append(None)
        return within(connection)

    monkeypatch.setattr(Connection, "_within", counted)


def rows_of(app: Any) -> dict[Key, Operation]:
    """Every row of the route table behind an application; whatever else is routed fails."""
    rows: dict[Key, Operation] = {}
    for route in app.routes:
        if isinstance(route, WebSocketRoute):
            continue
        assert isinstance(route, Route), f"{route} stands beside the route table"
        assert isinstance(route.app, Resource), f"{route} stands beside the route table"
        rows.update({(row.method, route.path): row for row in route.app.operations})
    sockets = {("GET", route.path) for route in app.routes if isinstance(route, WebSocketRoute)}
    assert sockets == {key for key, row in rows.items() if row.access.caller == "socket"}
    return rows


def told(answer: httpx2.Response) -> int | str:
    """A problem code, or the status of what is none."""
    return answer.json()["code"] if answer.status_code >= 400 and answer.content else answer.status_code


def shape(answer: httpx2.Response, things: Things) -> Any:
    """All of an answer but what differs with each request, and what was named in it."""
    said = answer.json() if answer.content else {}
    said.pop("request_id", None)
    headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
    return answer.status_code, str(said).replace(things.message, "*").replace(things.device, "*"), headers


async def seen(people: Mapping[str, Person]) -> list[Any]:
    """What those whom it concerns can see."""
    said: list[Any] = []
    for person in (people["recipient"], people["other device"], people["sender"]):
        page, devices = await person.sync(), (await person.get("/devices")).json()["devices"]
        said.append([(one["id"], one["body"]) for one in page["messages"]])
        said.append([(one["device_id"], one["pending"]) for one in devices])
    return said


class Asking:
    """One way to call one route."""

    def __init__(self, client: httpx2.AsyncClient, key: Key, row: Operation, asked: Asked, here: World) -> None:
        self.client = client
        self.key = key
        self.row = row
        self.asked = asked
        self.here = here

    async def call(self, caller: str, things: Things) -> httpx2.Response:
        path, body, headers = self.asked.path(things), self.asked.body(things), self.here.callers[caller]
        return await self.client.request(self.key[0], path, json=body, headers=headers)

    async def bad_tokens(self) -> None:
        for caller, code in REFUSED.items():
            answer = await self.call(caller, self.here.theirs)
            expected = code if self.row.access.caller == "account" else self.asked.of("stranger")
            assert told(answer) == expected, (*self.key, caller)
            if expected == code:
                assert answer.headers["WWW-Authenticate"].startswith("Bearer"), (*self.key, caller)

    async def good_tokens(self) -> None:
        for caller in ("stranger", "sender", "recipient", "other device"):
            answer, expected = await self.call(caller, self.here.theirs), self.asked.of(caller)
            assert told(answer) == (200 if expected == "unknown" else expected), (*self.key, caller)
            if expected == "unknown":
                assert answer.json()["unknown"] == [self.here.theirs.message], (*self.key, caller)
            if caller == "stranger":
                self.shows_nothing(answer)

    def shows_nothing(self, answer: httpx2.Response) -> None:
        """A stranger is shown no more than what he has named."""
        given = str(self.asked.body(self.here.theirs)) + self.asked.path(self.here.theirs)
        found = [one for one in self.here.private if one in answer.text and one not in given]
        assert not found, (*self.key, found)

    async def looks_alike(self) -> None:
        """Who may not know cannot tell what is there from what is not."""
        missing = Things("n" * len(self.here.theirs.name))
        for caller in ("stranger", "sender", "recipient", "other device"):
            expected = self.asked.of(caller)
            if isinstance(expected, str) and expected not in REFUSED.values():
                await self.call(caller, self.here.theirs)  # from now on names are remembered
                there, nowhere = await self.looked_at(caller, self.here.theirs), await self.looked_at(caller, missing)
                assert there == nowhere, (*self.key, caller)

    async def looked_at(self, caller: str, things: Things) -> Any:
        """An answer as it looks to the caller, and how much PostgreSQL was asked for it."""
        asked: list[None] = []
        STATEMENTS.set(asked)
        return shape(await self.call(caller, things), things), len(asked)


async def every(edge: Edge, admin: bool) -> None:
    app, said, client = (
        (create_admin_app(edge.service), ADMIN, edge.admin) if admin else (create_app(edge.service), SAID, edge.client)
    )
    rows = rows_of(app)
    assert set(rows) == set(said), "say here what each route gives to whom"
    here = await world(edge, 0)
    for number, (key, row) in enumerate(sorted(rows.items(), key=lambda one: one[0][0] != "GET"), 1):
        here = await world(edge, number) if key[0] != "GET" else here
        for asked in said[key]:
            asking = Asking(client, key, row, asked, here)
            before = await seen(here.people)
            await asking.bad_tokens()
            await asking.looks_alike()
            if row.access.caller == "account":
                assert await seen(here.people) == before, key
            await asking.good_tokens()


async def test_every_route_of_the_public_port(edge: Edge) -> None:
    await every(edge, admin=False)


async def test_every_route_of_the_admin_port(edge: Edge) -> None:
    await every(edge, admin=True)


async def test_a_route_that_names_things_of_others_is_tried_with_them(edge: Edge) -> None:
    for key, row in rows_of(create_app(edge.service)).items():
        refusals = {asked.stranger for asked in SAID[key] if isinstance(asked.stranger, str)}
        assert row.access.otherwise in {None, *refusals} or row.access.caller == "socket", key


async def test_the_page_shows_the_table(edge: Edge) -> None:
    rows = {**rows_of(create_app(edge.service)), **rows_of(create_admin_app(edge.service))}
    tokens = {"anyone": "no", "account": "yes", "socket": "yes, or in the first frame"}
    lines = [
        f"| `{method} {path}` | {tokens[row.access.caller]} | {row.access.what} | "
        f"{'`' + row.access.otherwise + '`' if row.access.otherwise else ''} |"
        for (method, path), row in sorted(rows.items(), key=lambda one: (one[1].access.caller, one[0][1], one[0][0]))
    ]
    page = (Path(__file__).parents[2] / "SECURITY.md").read_text(encoding="utf-8")
    assert "\n".join(lines) in page, "\n" + "\n".join(lines)
