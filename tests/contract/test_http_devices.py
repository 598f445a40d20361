"""The devices of an account: listing, removing, logging out. Tokens end at once and everywhere; removals are finished."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from api.accounts import add_token, use_token
from api.times import rfc3339
from schemas.events import DeviceRegistered, DeviceRemoved
from tests.builders import closed, opened
from tests.edge import PASSWORD, Edge, Person, running
from tests.eventually import eventually

pytestmark = pytest.mark.anyio
UNFINISHED = b"SELECT count(*) FROM accounts.devices WHERE removed_at IS NOT NULL AND removal_recorded_at IS NULL"


def facts(edge: Edge, kind: type[Any]) -> list[Any]:
    found = [recorded.fact for partition in range(edge.log.partitions) for recorded in edge.log.records(partition)]
    return [fact for fact in found if isinstance(fact, kind)]


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def delete(person: Person, path: str) -> httpx2.Response:
    return await person.edge.client.delete(path, headers=person.bearer)


async def remove(person: Person, which: Person) -> httpx2.Response:
    return await delete(person, f"/devices/{which.tokens['device_id']}")


async def refresh(person: Person) -> httpx2.Response:
    return await person.edge.client.post("/tokens/refresh", json={"refresh_token": person.tokens["refresh_token"]})


async def devices(person: Person) -> dict[str, dict[str, Any]]:
    answer = await person.get("/devices")
    assert answer.status_code == 200, answer.text
    return {device["label"]: device for device in answer.json()["devices"]}


async def ids_in(person: Person) -> list[str]:
    return [message["id"] for message in (await person.sync())["messages"]]


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


async def test_logging_out_ends_the_tokens_and_keeps_the_mailbox(edge: Edge, alice: Person, bob: Person) -> None:
    sent = [(await alice.send(bob, f"{n}")).json()["id"] for n in range(3)]
    await bob.post("/messages/ack", {"ids": sent[:1]})
    other = await edge.person("bob", "laptop")
    answer = await delete(bob, "/tokens/current")
    assert (answer.status_code, answer.content) == (204, b"")
    revoked = await bob.get("/messages/sync")
    assert code(revoked) == (401, "token_revoked")
    assert revoked.headers["WWW-Authenticate"].startswith("Bearer")
    assert code(await refresh(bob)) == (401, "token_revoked")
    assert code(await delete(bob, "/tokens/current")) == (401, "token_revoked")
    assert await ids_in(other) == sent[1:], "the other device stays logged in"
    again = await edge.person("bob")
    assert again.tokens["device_id"] == bob.tokens["device_id"]
    assert await ids_in(again) == sent[1:]


async def test_a_long_poll_that_outlives_its_token_gets_nothing(edge: Edge, alice: Person, bob: Person) -> None:
    twin = await edge.person("bob")
    waiting = asyncio.create_task(bob.get("/messages/sync", params={"wait": 20}))
    await eventually(lambda: edge.service.parts.progress.watched)
    await delete(twin, "/tokens/current")
    sent = (await alice.send(bob, "secret")).json()["id"]
    assert code(await waiting) == (401, "token_revoked")
    assert await ids_in(await edge.person("bob")) == [sent]


async def test_a_login_in_the_same_second_is_good(edge: Edge, alice: Person) -> None:
    """The clock of these tests stands still: only a generation can tell the tokens apart."""
    first = alice
    for _ in range(3):
        await delete(first, "/tokens/current")
        second = await edge.person("alice")
        assert (await second.get("/devices")).status_code == 200
        assert code(await first.get("/devices")) == (401, "token_revoked")
        fresh = await refresh(second)
        assert (await Person(edge, "alice", fresh.json()).get("/devices")).status_code == 200
        first = Person(edge, "alice", fresh.json())


async def test_every_login_of_the_device_ends_and_no_other(edge: Edge, alice: Person, bob: Person) -> None:
    twin = await edge.person("alice")
    renewed = Person(edge, "alice", (await refresh(alice)).json())
    await delete(alice, "/tokens/current")
    for ended in (alice, twin, renewed):
        assert code(await ended.get("/devices")) == (401, "token_revoked")
        assert code(await refresh(ended)) == (401, "token_revoked")
    assert (await bob.get("/devices")).status_code == 200


async def waits_for_a_lock(edge: Edge) -> bool:
    waiting = b"SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return await edge.database.tuples(waiting) != [(0,)]


class Held:
    """A function of the accounts that stops in the middle until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, where: str, real: Any) -> None:
        self.reached, self.let_go = asyncio.Event(), asyncio.Event()
        self._real = real
        monkeypatch.setattr(where, self)

    async def __call__(self, *given: Any) -> Any:
        self.reached.set()
        await self.let_go.wait()
        return await self._real(*given)


async def test_logging_out_ends_a_login_that_is_under_way(
    edge: Edge, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch, "api.accounts.add_token", add_token)
    login = asyncio.create_task(edge.person("alice"))
    await held.reached.wait()
    leaving = asyncio.create_task(delete(alice, "/tokens/current"))
    await eventually(lambda: waits_for_a_lock(edge))
    held.let_go.set()
    assert (await leaving).status_code == 204
    ended = await login
    assert code(await ended.get("/devices")) == (401, "token_revoked")
    assert code(await refresh(ended)) == (401, "token_revoked")


async def test_logging_out_ends_a_refresh_that_is_under_way(
    edge: Edge, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch, "api.logins.use_token", use_token)
    refreshing = asyncio.create_task(refresh(alice))
    await held.reached.wait()
    assert (await delete(alice, "/tokens/current")).status_code == 204
    held.let_go.set()
    ended = Person(edge, "alice", (await refreshing).json())
    assert code(await ended.get("/devices")) == (401, "token_revoked")
    assert code(await refresh(ended)) == (401, "token_revoked")


async def test_a_device_that_is_removed_while_it_logs_in_gets_no_tokens(
    edge: Edge, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop = await edge.person("alice", "laptop")
    held = Held(monkeypatch, "api.removals.Removals.finish_of", lambda user: asyncio.sleep(0))
    login = {"name": "alice", "password": PASSWORD, "device": "laptop"}
    logging_in = asyncio.create_task(edge.client.post("/tokens", json=login))
    await held.reached.wait()
    await remove(alice, laptop)
    held.let_go.set()
    assert code(await logging_in) == (401, "token_revoked")


async def test_a_removed_device_is_gone(edge: Edge, alice: Person, bob: Person) -> None:
    laptop = await edge.person("bob", "laptop")
    sent = [(await alice.send(bob, f"{n}")).json()["id"] for n in range(3)]
    await bob.post("/messages/ack", {"ids": sent[:2]})
    answer = await remove(bob, laptop)
    assert (answer.status_code, answer.content) == (204, b"")
    (removed,) = facts(edge, DeviceRemoved)
    assert (str(removed.recipient), str(removed.device_id)) == (bob.tokens["user_id"], laptop.tokens["device_id"])
    assert set(await devices(bob)) == {"phone"}
    assert code(await laptop.get("/messages/sync")) == (401, "token_revoked")
    assert code(await refresh(laptop)) == (401, "token_revoked")
    assert await ids_in(bob) == sent[2:], "its view is freed, and nothing else"
    assert await edge.database.tuples(b"SELECT count(*) FROM owed") == [(0,)]


async def test_removing_again_is_answered_again_and_written_once(edge: Edge, alice: Person) -> None:
    laptop = await edge.person("alice", "laptop")
    for _ in range(3):
        assert (await remove(alice, laptop)).status_code == 204
    assert len(facts(edge, DeviceRemoved)) == 1


async def test_of_removals_at_once_each_is_answered(edge: Edge, alice: Person) -> None:
    laptop = await edge.person("alice", "laptop")
    answers = await asyncio.gather(*(remove(alice, laptop) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {204}
    assert len({fact.event_id for fact in facts(edge, DeviceRemoved)}) == 1


async def test_foreign_unknown_and_misspelt_devices_look_alike(edge: Edge, alice: Person, bob: Person) -> None:
    misspelt = bob.tokens["device_id"].upper()
    said = []
    for device in (bob.tokens["device_id"], str(uuid4()), "x", misspelt):
        answer = await delete(alice, f"/devices/{device}")
        assert code(answer) == (404, "device_unknown")
        said.append({key: value for key, value in answer.json().items() if key != "request_id"})
    assert said == [said[0]] * 4
    assert (await bob.get("/devices")).status_code == 200
    assert facts(edge, DeviceRemoved) == []


async def test_the_device_that_asks_may_remove_itself_and_its_mail_waits_for_the_next(
    edge: Edge, alice: Person, bob: Person
) -> None:
    sent = (await alice.send(bob, "x")).json()["id"]
    assert (await remove(bob, bob)).status_code == 204
    assert code(await bob.get("/devices")) == (401, "token_revoked")
    between = (await alice.send(bob, "y")).json()["id"]
    again = await edge.person("bob")
    assert again.tokens["device_id"] != bob.tokens["device_id"], "the label is a new device's"
    assert await ids_in(again) == [sent, between]
    assert code(await bob.get("/devices")) == (401, "token_revoked")


async def test_without_the_log_nothing_is_answered_but_the_tokens_end(edge: Edge, alice: Person) -> None:
    laptop = await edge.person("alice", "laptop")
    edge.log.away = True
    answer = await remove(alice, laptop)
    assert code(answer) == (503, "log_unavailable")
    assert code(await laptop.get("/devices")) == (401, "token_revoked")
    assert facts(edge, DeviceRemoved) == []
    edge.log.away = False
    assert (await remove(alice, laptop)).status_code == 204
    assert len(facts(edge, DeviceRemoved)) == 1
    assert await edge.database.tuples(UNFINISHED) == [(0,)]


async def cut_short(edge: Edge, owner: Person, device: Person) -> None:
    """A removal whose process died before the log had it."""
    edge.log.away = True
    await remove(owner, device)
    edge.log.away = False
    assert await edge.database.tuples(UNFINISHED) == [(1,)]


async def test_a_login_finishes_what_was_cut_short(edge: Edge, alice: Person) -> None:
    laptop = await edge.person("alice", "laptop")
    await cut_short(edge, alice, laptop)
    again = await edge.person("alice", "laptop")
    assert [str(fact.device_id) for fact in facts(edge, DeviceRemoved)] == [laptop.tokens["device_id"]]
    assert again.tokens["device_id"] != laptop.tokens["device_id"]
    assert await edge.database.tuples(UNFINISHED) == [(0,)]


async def test_a_login_does_not_need_the_log_for_what_was_cut_short(edge: Edge, alice: Person) -> None:
    laptop = await edge.person("alice", "laptop")
    await cut_short(edge, alice, laptop)
    edge.log.away = True
    assert (await (await edge.person("alice")).get("/messages/sync", params={"stale": "ok"})).status_code == 200


async def test_any_process_finishes_what_was_cut_short_when_it_starts(edge: Edge, alice: Person) -> None:
    await cut_short(edge, alice, await edge.person("alice", "laptop"))
    await edge.database.run(b"UPDATE accounts.devices SET removed_at = removed_at - interval '1 minute'")
    async with running(edge.database.url, log=edge.log):
        await eventually(lambda: facts(edge, DeviceRemoved))
        await eventually(lambda: _none_unfinished(edge))


async def _none_unfinished(edge: Edge) -> bool:
    return await edge.database.tuples(UNFINISHED) == [(0,)]


async def test_a_removal_that_the_log_has_and_the_accounts_forgot_is_one_removal(edge: Edge, alice: Person) -> None:
    laptop = await edge.person("alice", "laptop")
    await remove(alice, laptop)
    await edge.database.run(b"UPDATE accounts.devices SET removal_recorded_at = NULL")
    await edge.person("alice", "laptop")
    assert len({fact.event_id for fact in facts(edge, DeviceRemoved)}) == 1
    assert set(await devices(alice)) == {"phone", "laptop"}


async def test_a_device_whose_registration_was_cut_short_is_registered_before_it_is_removed(
    edge: Edge, alice: Person
) -> None:
    edge.log.away = True
    login = {"name": "alice", "password": PASSWORD, "device": "laptop"}
    assert code(await edge.client.post("/tokens", json=login)) == (503, "log_unavailable")
    edge.log.away = False
    laptop = (await devices(alice))["laptop"]["device_id"]
    assert (await delete(alice, f"/devices/{laptop}")).status_code == 204
    of_laptop = [type(fact) for fact in facts(edge, DeviceRegistered | DeviceRemoved) if str(fact.device_id) == laptop]
    assert of_laptop == [DeviceRegistered, DeviceRemoved]
    assert set(await devices(alice)) == {"phone"}
    ((removed,),) = await edge.database.tuples(
        b"SELECT removed_position IS NOT NULL FROM devices WHERE device_id = %(device)s", device=UUID(laptop)
    )
    assert removed


async def test_other_processes_hear_of_ended_tokens(
    edge: Edge, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.listening.LOOK_SECONDS", 60.0)
    async with running(edge.database.url, log=edge.log) as other:
        there = replace(alice, edge=other)
        assert (await there.get("/devices")).status_code == 200
        await delete(alice, "/tokens/current")
        await eventually(lambda: _refused(there), within=5)
        assert (await replace(bob, edge=other).get("/devices")).status_code == 200
        again = await edge.person("alice")
        assert (await replace(again, edge=other).get("/devices")).status_code == 200


async def _refused(person: Person) -> bool:
    return (await person.get("/devices")).status_code == 401


async def test_a_process_that_starts_later_knows(edge: Edge, alice: Person) -> None:
    await delete(alice, "/tokens/current")
    async with running(edge.database.url, log=edge.log) as other:
        assert code(await replace(alice, edge=other).get("/devices")) == (401, "token_revoked")


async def test_what_was_ended_while_a_process_could_not_hear_it_learns_when_it_can_again(edge: Edge, alice: Person) -> None:
    end = b"UPDATE accounts.devices SET generation = generation + 1, revoked_at = now() WHERE device_id = %(device)s"
    cut = b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN restante_revoked'"
    await edge.database.run(end, device=UUID(alice.tokens["device_id"]))
    await edge.database.tuples(cut)
    await eventually(lambda: _refused(alice), within=5)


async def test_an_end_that_nobody_announced_is_found_by_looking(edge: Edge, alice: Person) -> None:
    end = b"UPDATE accounts.devices SET generation = generation + 1, revoked_at = now() WHERE device_id = %(device)s"
    await edge.database.run(end, device=UUID(alice.tokens["device_id"]))
    await eventually(lambda: _refused(alice), within=5)


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
