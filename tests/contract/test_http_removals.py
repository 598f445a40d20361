"""Removing a device: its tokens and its view end, and what was cut short is finished by whoever comes next."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from schemas.events import DeviceRegistered, DeviceRemoved
from tests.contract.device_calls import Held, code, delete, devices, facts, ids_in, refresh, remove
from tests.edge import PASSWORD, Edge, Person, running
from tests.eventually import eventually

pytestmark = pytest.mark.anyio
UNFINISHED = b"SELECT count(*) FROM accounts.devices WHERE removed_at IS NOT NULL AND removal_recorded_at IS NULL"


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
