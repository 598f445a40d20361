"""GET /presence/{name}: for those who have sent each other a message, and for nobody else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx2
import pytest

from api.times import rfc3339
from schemas.events import EndReason, SessionClosed, SessionOpened
from tests.builders import SESSION, closed, opened
from tests.edge import Edge, Person
from tests.eventually import eventually

pytestmark = pytest.mark.anyio


async def presence(asker: Person, name: str) -> httpx2.Response:
    return await asker.get(f"/presence/{name}")


def refused(answer: httpx2.Response) -> dict[str, Any]:
    """The answer to whoever may not know, but for what differs with each request."""
    assert (answer.status_code, answer.json()["code"]) == (404, "presence_unknown")
    return {key: value for key, value in answer.json().items() if key != "request_id"}


def connected(person: Person) -> SessionOpened:
    return opened(device=UUID(person.tokens["device_id"]), recipient=UUID(person.tokens["user_id"]))


def disconnected(person: Person) -> SessionClosed:
    fact = closed(device=UUID(person.tokens["device_id"]), reason=EndReason.CLIENT_CLOSED)
    return replace(fact, recipient=UUID(person.tokens["user_id"]))


@pytest.fixture
async def friends(alice: Person, bob: Person) -> None:
    await alice.send(bob)
    await bob.send(alice)


async def test_who_has_not_exchanged_messages_learns_nothing(edge: Edge, alice: Person, bob: Person) -> None:
    answers = [await presence(alice, name) for name in ("bob", "nobody", "alice", "No Name", "bob%00", "a" * 300)]
    await alice.send(bob)
    answers += [await presence(alice, "bob"), await presence(bob, "alice")]
    assert [refused(answer) for answer in answers] == [refused(answers[0])] * 8
    await bob.send(alice)
    assert (await presence(alice, "bob")).status_code == (await presence(bob, "alice")).status_code == 200


@pytest.mark.usefixtures("friends")
async def test_the_answer(edge: Edge, alice: Person) -> None:
    answer = await presence(alice, "bob")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json() == {"name": "bob", "online": False, "last_seen_at": "2026-09-21T14:13:20.000Z"}


@pytest.mark.usefixtures("friends")
async def test_online_is_a_live_session_and_last_seen_is_when_it_ended(edge: Edge, alice: Person, bob: Person) -> None:
    await edge.log.append(connected(bob))
    edge.clock.now += 100
    assert (await presence(alice, "bob")).json() == {
        "name": "bob",
        "online": True,
        "last_seen_at": "2026-09-21T14:15:00.000Z",
    }
    ended = await edge.log.append(disconnected(bob))
    assert (await presence(alice, "bob")).json() == {"name": "bob", "online": False, "last_seen_at": rfc3339(ended.at_ms)}


@pytest.mark.usefixtures("friends")
async def test_one_device_of_several_is_enough(edge: Edge, alice: Person, bob: Person) -> None:
    laptop = await edge.person("bob", "laptop")
    await edge.log.append(connected(bob))
    await edge.log.append(replace(connected(laptop), session_id=UUID(int=SESSION.int + 7)))
    await edge.log.append(disconnected(bob))
    assert (await presence(alice, "bob")).json()["online"]
    await edge.client.delete(f"/devices/{laptop.tokens['device_id']}", headers=bob.bearer)
    assert not (await presence(alice, "bob")).json()["online"], "a removed device has no session"


@pytest.mark.usefixtures("friends")
async def test_an_erased_account_is_nobodys(edge: Edge, alice: Person) -> None:
    await edge.database.run(b"UPDATE accounts.accounts SET erased_at = now() WHERE name = 'bob'")
    refused(await presence(alice, "bob"))


async def test_it_is_complete_on_both_sides_or_says_that_it_is_not(
    edge: Edge, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two partitions either may be the one that is behind."""
    monkeypatch.setattr("api.freshness.PATIENCE_SECONDS", 0.2)
    await edge.fold.stop()
    await alice.send(bob)
    assert (await presence(alice, "bob")).json()["code"] == "projection_behind"
    assert (await presence(bob, "alice")).json()["code"] == "projection_behind"
    edge.fold.start()
    await eventually(lambda: _unknown(alice, "bob"))
    await bob.send(alice)
    monkeypatch.setattr("api.freshness.PATIENCE_SECONDS", 5.0)
    assert (await presence(alice, "bob")).status_code == 200
    edge.log.away = True
    assert (await presence(alice, "bob")).json()["code"] == "log_unavailable"


async def test_an_outage_does_not_tell_unknown_names_from_known_ones(edge: Edge, alice: Person, bob: Person) -> None:
    edge.log.away = True
    codes = [(await presence(alice, name)).json()["code"] for name in ("bob", "nobody")]
    assert codes == ["log_unavailable"] * 2


async def _unknown(asker: Person, name: str) -> bool:
    return (await presence(asker, name)).status_code == 404


async def test_without_a_token_nothing_is_said(edge: Edge, bob: Person) -> None:
    assert (await edge.client.get("/presence/bob")).status_code == 401
