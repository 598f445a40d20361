"""Logging out: the tokens of a device end at once and in every process, and its mailbox stays."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID

import pytest

from api.accounts import add_token, use_token
from tests.contract.device_calls import Held, code, delete, ids_in, refresh, waits_for_a_lock
from tests.edge import Edge, Person, running
from tests.eventually import eventually

pytestmark = pytest.mark.anyio


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
