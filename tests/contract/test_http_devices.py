"""The devices of an account: which there are, what waits for each, and when it was last seen."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from api.times import rfc3339
from tests.builders import closed, opened
from tests.contract.device_calls import code, delete, devices, ids_in, remove
from tests.edge import PASSWORD, Edge, Person, running
from tests.eventually import eventually

pytestmark = pytest.mark.anyio


async def test_devices_are_listed_oldest_first(edge: Edge, alice: Person) -> None:
    laptop = await edge.person("alice", "laptop")
    edge.clock.now += 1.5
    answer = await alice.get("/devices")
    assert answer.headers["Cache-Control"] == "no-store"
    phone, other = answer.json()["devices"]
    assert set(phone) == {"device_id", "label", "created_at", "last_seen_at", "pending", "current"}
    assert (phone["device_id"], phone["label"], phone["current"]) == (alice.tokens["device_id"], "phone", True)
    assert (other["device_id"], other["label"], other["current"]) == (laptop.tokens["device_id"], "laptop", False)
    assert phone["pending"] == other["pending"] == 0


async def test_nobody_sees_the_devices_of_others(alice: Person, bob: Person) -> None:
    assert [device["device_id"] for device in (await devices(bob)).values()] == [bob.tokens["device_id"]]


async def test_pending_counts_each_devices_own_mailbox(edge: Edge, alice: Person, bob: Person) -> None:
    await edge.person("bob", "laptop")
    sent = [(await alice.send(bob, f"{n}")).json()["id"] for n in range(3)]
    await bob.post("/messages/ack", {"ids": sent[:2]})
    await edge.person("bob", "tablet")
    pending = {label: device["pending"] for label, device in (await devices(bob)).items()}
    assert pending == {"phone": 1, "laptop": 3, "tablet": 1}


async def test_pending_is_exact_to_ten_thousand(edge: Edge, bob: Person) -> None:
    fill = (
        "INSERT INTO {table} ({key_column}, position, message_id, sender, stored_at_ms, sealed)"
        " SELECT %(key)s, n, gen_random_uuid(), %(key)s, 0, '' FROM generate_series(%(first)s::int, %(last)s::int) AS n"
    )
    shared = fill.format(table="mailbox", key_column="account").encode()
    own = fill.format(table="owed", key_column="device_id").encode()
    await edge.database.run(shared, key=UUID(bob.tokens["user_id"]), first=1, last=9_000)
    await edge.database.run(own, key=UUID(bob.tokens["device_id"]), first=9_001, last=9_999)
    assert (await devices(bob))["phone"]["pending"] == 9_999
    await edge.database.run(own, key=UUID(bob.tokens["device_id"]), first=10_000, last=10_050)
    assert (await devices(bob))["phone"]["pending"] == 10_000


async def test_the_listing_is_complete_or_says_that_it_is_not(
    edge: Edge, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.freshness.PATIENCE_SECONDS", 0.2)
    await edge.fold.stop()
    await alice.send(bob, "late")
    assert code(await bob.get("/devices")) == (503, "projection_behind")
    edge.fold.start()
    assert await eventually(lambda: _pending(bob)) == 1
    edge.log.away = True
    assert code(await bob.get("/devices")) == (503, "log_unavailable")


async def _pending(person: Person) -> int:
    answer = await person.get("/devices")
    return int(answer.json()["devices"][0]["pending"]) if answer.status_code == 200 else 0


async def test_a_new_device_starts_with_what_no_device_acknowledged_also_from_before_the_first(edge: Edge) -> None:
    alice = await edge.person("alice")
    await edge.client.post("/accounts", json={"name": "bob", "password": PASSWORD})
    nobody_there = Person(edge, "bob")
    early = [(await alice.send(nobody_there, f"{n}")).json()["id"] for n in range(2)]
    phone = await edge.person("bob", "phone")
    assert await ids_in(phone) == early
    await phone.post("/messages/ack", {"ids": early[:1]})
    late = (await alice.send(phone, "late")).json()["id"]
    laptop = await edge.person("bob", "laptop")
    assert await ids_in(laptop) == [early[1], late]


async def test_last_seen_is_the_last_call_and_written_for_the_others(edge: Edge, alice: Person) -> None:
    laptop = await edge.person("alice", "laptop")
    edge.clock.now += 100
    await laptop.get("/messages/sync")
    edge.clock.now += 50
    seen = {label: device["last_seen_at"] for label, device in (await devices(alice)).items()}
    assert seen == {"phone": "2026-09-21T14:15:50.000Z", "laptop": "2026-09-21T14:15:00.000Z"}
    await edge.service.seen.write()
    async with running(edge.database.url, log=edge.log, clock=edge.clock) as other:
        listed = await devices(replace(alice, edge=other))
        assert listed["laptop"]["last_seen_at"] == "2026-09-21T14:15:00.000Z"


async def test_a_connected_device_is_seen_now_and_then_when_its_session_ended(edge: Edge, alice: Person) -> None:
    user, device = UUID(alice.tokens["user_id"]), UUID(alice.tokens["device_id"])
    laptop = await edge.person("alice", "laptop")
    await edge.log.append(opened(device=device, recipient=user))
    edge.clock.now += 100
    await edge.service.seen.write()
    assert (await devices(laptop))["phone"]["last_seen_at"] == "2026-09-21T14:15:00.000Z"
    ended = await edge.log.append(replace(closed(device=device), recipient=user))
    seen = (await devices(laptop))["phone"]["last_seen_at"]
    assert seen == rfc3339(ended.at_ms)


async def test_postgresql_away_is_said(edge: Edge, alice: Person) -> None:
    await edge.database.__aexit__(None, None, None)
    assert code(await delete(alice, "/tokens/current")) == (503, "directory_unavailable")
    assert code(await remove(alice, alice)) == (503, "directory_unavailable")
