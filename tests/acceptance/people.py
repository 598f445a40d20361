"""People with devices: what a client does, so that a test can say who does it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import psycopg
from argon2 import PasswordHasher

from tests.acceptance.answers import good, personal
from tests.acceptance.service import Service

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Person:
    """An account."""

    service: Service
    name: str
    password: str
    user_id: str

    def logs_in_for_nothing(self) -> Person:
        """The same, whose logins cost no time from now on: the database keeps its password hashed with little effort."""
        cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(self.password)
        with psycopg.connect(self.service.facts["database_url"]) as connection:
            connection.execute("UPDATE accounts.accounts SET password_hash = %s WHERE user_id = %s", (cheap, self.user_id))
        return self

    def device(self, label: str = "phone") -> Device:
        """Log in on a device; the same label is the same device."""
        login = {"name": self.name, "password": self.password, "device": label}
        tokens = personal(self.service.request("POST", "/tokens", json=login))
        return Device(self.service, self, tokens["access_token"], tokens["device_id"], tokens["refresh_token"])


@dataclass(frozen=True, slots=True)
class Device:
    """A client that is logged in. Methods that give an answer leave judging it to the test; the others insist on success."""

    service: Service
    person: Person
    token: str
    device_id: str
    refresh_token: str

    @property
    def name(self) -> str:
        """The account's name, for `to`."""
        return self.person.name

    def call(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Any call with this device's token."""
        return self.service.request(method, path, token=self.token, **options)

    def post(self, to: Device | str, body: str | None = None, *, key: str | None = None, **fields: Any) -> httpx2.Response:
        """POST /messages; `fields` join or replace those of the request."""
        content = {"to": to if isinstance(to, str) else to.name, **({} if body is None else {"body": body}), **fields}
        return self.call("POST", "/messages", json=content, headers={"Idempotency-Key": key} if key else {})

    def send(self, to: Device | str, body: str | None = None, **fields: Any) -> str:
        """Send a message and give its id."""
        return str(good(self.post(to, body, **fields), 202)["id"])

    def batch(self, messages: Sequence[dict[str, Any]], **options: Any) -> httpx2.Response:
        """POST /messages/batch."""
        return self.call("POST", "/messages/batch", json={"messages": list(messages)}, **options)

    def send_all(self, to: Device, bodies: Sequence[str]) -> list[str]:
        """Send many messages to one recipient in their order and give their ids."""
        ids: list[str] = []
        for start in range(0, len(bodies), 500):
            answer = good(self.batch([{"to": to.name, "body": body} for body in bodies[start : start + 500]]), 202)
            assert answer["rejected"] == 0, answer
            ids += [result["id"] for result in answer["results"]]
        return ids

    def page(self, **parameters: Any) -> dict[str, Any]:
        """One page of GET /messages/sync."""
        return personal(self.call("GET", "/messages/sync", params=parameters))

    def mailbox(self, limit: int = 500, cursor: str | None = None) -> list[Message]:
        """All that is in the mailbox, page by page, nothing acknowledged."""
        return list(itertools.chain.from_iterable(page["messages"] for page in self.pages(limit, cursor)))

    def pages(self, limit: int = 500, cursor: str | None = None) -> list[dict[str, Any]]:
        """The pages from a cursor on until there is no more."""
        pages = [self.page(limit=limit, **({"cursor": cursor} if cursor else {}))]
        while pages[-1]["has_more"]:
            pages.append(self.page(limit=limit, cursor=pages[-1]["cursor"]))
        return pages

    def ack(self, ids: Sequence[str]) -> dict[str, Any]:
        """Acknowledge by ids."""
        return personal(self.call("POST", "/messages/ack", json={"ids": list(ids)}))

    def ack_up_to(self, cursor: str) -> int:
        """Acknowledge all that a cursor has passed and give their number."""
        answer = personal(self.call("POST", "/messages/ack", json={"up_to": cursor}))
        assert answer.keys() == {"acknowledged_count"}
        return int(answer["acknowledged_count"])

    def read(self, ids: Sequence[str]) -> dict[str, Any]:
        """Say that these messages were read."""
        return personal(self.call("POST", "/messages/read", json={"ids": list(ids)}))

    def drain(self, limit: int = 500) -> list[Message]:
        """Sync, process, ack, repeat until the mailbox is empty; all that came, repeats included."""
        came: list[Message] = []
        while messages := self.page(limit=limit)["messages"]:
            came += messages
            self.ack([message["id"] for message in messages])
        return came

    def receipts(self, **parameters: Any) -> dict[str, Any]:
        """One page of GET /receipts."""
        return personal(self.call("GET", "/receipts", params=parameters))

    def presence(self, name: str) -> dict[str, Any]:
        """GET /presence/{name}."""
        return personal(self.call("GET", f"/presence/{name}"))

    def devices(self) -> list[dict[str, Any]]:
        """GET /devices."""
        found: list[dict[str, Any]] = personal(self.call("GET", "/devices"))["devices"]
        return found

    def status(self, message_id: str) -> dict[str, Any]:
        """GET /messages/{id}."""
        return personal(self.call("GET", f"/messages/{message_id}"))

    def trail(self, message_id: str) -> dict[str, Any]:
        """GET /messages/{id}/trail."""
        return personal(self.call("GET", f"/messages/{message_id}/trail"))


def person(service: Service, called: str = "someone") -> Person:
    """A new account under a name that is free."""
    name, password = f"{called}-{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
    answer = good(service.request("POST", "/accounts", json={"name": name, "password": password}), 201)
    return Person(service, name, password, answer["user_id"])


def phone_of(service: Service, called: str = "someone") -> Device:
    """The device of somebody new."""
    return person(service, called).device()


def bodies(messages: Sequence[Message]) -> list[str]:
    """Their texts."""
    return [message["body"] for message in messages]


def ids(messages: Sequence[Message]) -> list[str]:
    """Their ids."""
    return [message["id"] for message in messages]


def pending_because(device: Device, message_id: str) -> str | None:
    """Why a message waits for a sync, once it does; it stays in the trail."""
    events = device.trail(message_id)["events"]
    return next((event["reason"] for event in events if event["state"] == "PendingSync"), None)
