"""DELETE /accounts/me: the account ends everywhere, its senders hear of it, and whatever dies in between is finished."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import ANY
from uuid import UUID

import httpx2
import pytest

from api.accounts import add_token, use_token
from producers.memory import MemoryLog
from projections.apply import apply
from schemas.events import AccountErased, MessagesErased
from schemas.metrics import REGISTRY
from tests.builders import delivered, entry
from tests.contract.device_calls import Held, code, delete, facts, refresh, waits_for_a_lock
from tests.contract.test_http_receipts import receipts, told
from tests.edge import PARTITIONS, PASSWORD, Edge, Person, running
from tests.eventually import eventually
from tests.integration.tables import empty, everything
from tests.memory_processor import MemoryProcessor

pytestmark = pytest.mark.anyio


@pytest.fixture
async def processor() -> AsyncIterator[MemoryProcessor]:
    async with MemoryLog(PARTITIONS) as log, MemoryProcessor(log) as running:
        yield running


@pytest.fixture
async def edge(database_url: str, processor: MemoryProcessor) -> AsyncIterator[Edge]:
    """One with a processor."""
    async with running(database_url, log=processor.log, committed=processor.committed) as made:
        made.fold.start()
        yield made


@pytest.fixture
def another(edge: Edge, processor: MemoryProcessor, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """One more API process, which looks often."""
    monkeypatch.setattr("api.sweep.EVERY_SECONDS", 0.1)
    return partial(running, edge.database.url, log=edge.log, committed=processor.committed)


async def erase(person: Person) -> httpx2.Response:
    return await delete(person, "/accounts/me")


async def status(person: Person, message: str) -> str:
    answer = await person.get(f"/messages/{message}")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["status"])


async def sent(sender: Person, recipient: Person, count: int) -> list[str]:
    return [(await sender.send(recipient, f"{n}")).json()["id"] for n in range(count)]


async def test_the_account_is_gone_for_everybody(edge: Edge, alice: Person, bob: Person) -> None:
    laptop = await edge.person("bob", "laptop")
    await alice.send(bob)
    await bob.send(alice)
    answer = await erase(bob)
    assert (answer.status_code, answer.content) == (204, b"")
    for device in (bob, laptop):
        assert code(await device.get("/messages/sync")) == (401, "token_revoked")
        assert code(await refresh(device)) == (401, "token_invalid")
    login = {"name": "bob", "password": PASSWORD, "device": "phone"}
    assert code(await edge.client.post("/tokens", json=login)) == (401, "bad_credentials")
    assert code(await edge.client.post("/accounts", json={"name": "bob", "password": PASSWORD})) == (409, "name_taken")
    assert code(await alice.send(bob)) == (404, "recipient_unknown")
    assert code(await alice.get("/presence/bob")) == (404, "presence_unknown")
    (fact,) = facts(edge, AccountErased)
    assert str(fact.recipient) == bob.tokens["user_id"]


async def test_nothing_personal_stays_but_the_name(edge: Edge, alice: Person, bob: Person) -> None:
    await edge.person("bob", "laptop")
    await alice.send(bob)
    await erase(bob)
    user = UUID(bob.tokens["user_id"])
    found = await edge.database.tuples(
        b"SELECT name, password_hash, wrapped_key FROM accounts.accounts WHERE user_id = %(user)s", user=user
    )
    assert found == [("bob", None, None)]
    rows = b"SELECT DISTINCT label, last_seen_at FROM accounts.devices WHERE user_id = %(user)s"
    assert await edge.database.tuples(rows, user=user) == [("", None)]
    assert await edge.database.tuples(b"SELECT count(*) FROM accounts.refresh_tokens") == [(1,)], "alice's"
    for table in (b"mailbox", b"owed", b"untold"):
        await eventually(partial(_none, edge, b"SELECT count(*) FROM " + table))


async def test_senders_hear_what_became_of_their_messages(edge: Edge, alice: Person, bob: Person) -> None:
    carol = await edge.person("carol")
    had, read, *left = await sent(alice, bob, 5)
    await bob.post("/messages/ack", {"ids": [had]})
    await bob.post("/messages/read", {"ids": [read]})
    (other,) = await sent(carol, bob, 1)
    await erase(bob)
    page = await receipts(alice)
    assert sorted(told(page)[2:]) == sorted((message, "Erased") for message in left), "complete as soon as it is answered"
    assert [word for _, word in told(page)[:2]] == ["Delivered", "Read"]
    assert {receipt["to"] for receipt in page["receipts"]} == {None}
    assert told(await receipts(carol)) == [(other, "Erased")]
    assert [await status(alice, message) for message in (had, read, *left)] == ["Delivered", "Read", *["Erased"] * 3]


async def test_many_messages_are_told_in_pages(
    edge: Edge, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.erasures.MAX_ENTRIES", 3)
    ids = await sent(alice, bob, 8)
    await erase(bob)
    assert [len(fact.entries) for fact in facts(edge, MessagesErased)] == [3, 3, 2]
    assert sorted(told(await receipts(alice))) == sorted((message, "Erased") for message in ids)


async def test_what_it_sent_stays_without_its_name(edge: Edge, alice: Person, bob: Person) -> None:
    await bob.send(alice, "from bob")
    await erase(bob)
    (message,) = (await alice.sync())["messages"]
    assert (message["body"], message["from"], message["from_id"]) == ("from bob", None, bob.tokens["user_id"])
    assert (await alice.get(f"/messages/{message['id']}")).json()["from"] is None


async def test_other_processes_forget_the_account(
    edge: Edge, alice: Person, bob: Person, another: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.listening.LOOK_SECONDS", 60.0)
    async with another() as other:
        there = replace(alice, edge=other)
        assert (await there.send(bob)).status_code == 202
        assert (await replace(bob, edge=other).get("/messages/sync")).status_code == 200

        async def forgotten() -> bool:
            refused = code(await there.send(bob)) == (404, "recipient_unknown")
            return refused and code(await replace(bob, edge=other).get("/devices")) == (401, "token_revoked")

        await erase(bob)
        await eventually(forgotten, within=5)
        directory = other.service.gateway._common.keys
        assert await directory.keys_of(UUID(bob.tokens["user_id"])) is None


BACK = b"SELECT count(*) FROM accounts.accounts WHERE wrapped_key IS NOT NULL AND name = 'bob'"
UNFINISHED = b"SELECT count(*) FROM accounts.accounts WHERE erased_at < now() AND erasure_recorded_at IS NULL"


class Crash(Exception):
    """The process dies."""


def dies(*given: Any, **named: Any) -> Any:
    raise Crash


async def finishes(edge: Edge, another: Callable[[], Any]) -> None:
    """Some other process finishes what was left half done some time ago."""
    await edge.database.run(b"UPDATE accounts.accounts SET erased_at = erased_at - interval '1 minute'")
    async with another():
        await eventually(lambda: facts(edge, MessagesErased))
        await eventually(lambda: _none(edge, b"SELECT count(*) FROM untold"))
        await eventually(lambda: _none(edge, UNFINISHED))


async def _none(edge: Edge, counting: bytes) -> bool:
    return await edge.database.tuples(counting) == [(0,)]


@pytest.mark.parametrize(
    "after",
    [
        pytest.param("api.erasures.Erasures._record", id="the commit"),
        pytest.param("api.accounts.Accounts.erasure_recorded", id="AccountErased"),
        pytest.param("api.erasures.Erasures._tell", id="all but the senders"),
        pytest.param("api.erasures.new_id", id="some of the senders"),
    ],
)
async def test_a_crash_after_any_step_is_finished_by_any_process(
    edge: Edge, alice: Person, bob: Person, another: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    ids = await sent(alice, bob, 5)
    with monkeypatch.context() as dying:
        dying.setattr("api.erasures.MAX_ENTRIES", 2)
        dying.setattr(after, one_then_dies() if after.endswith("new_id") else dies)
        assert (await erase(bob)).status_code == 500
    assert code(await alice.send(bob)) == (404, "recipient_unknown")
    await finishes(edge, another)
    assert len({fact.event_id for fact in facts(edge, AccountErased)}) == 1
    assert sorted(told(await receipts(alice))) == sorted((message, "Erased") for message in ids)
    assert [await status(alice, message) for message in ids] == ["Erased"] * 5


def one_then_dies() -> Callable[[], UUID]:
    ids = iter([UUID(int=1)])

    def make() -> UUID:
        for one in ids:
            return one
        raise Crash

    return make


async def test_without_the_log_nothing_changes(edge: Edge, alice: Person, bob: Person) -> None:
    edge.log.away = True
    assert code(await erase(bob)) == (503, "log_unavailable")
    edge.log.away = False
    assert (await bob.get("/devices")).status_code == 200
    assert (await alice.send(bob)).status_code == 202
    assert (await erase(bob)).status_code == 204


async def test_a_log_that_goes_away_after_the_commit_hears_of_it_later(
    edge: Edge, alice: Person, bob: Person, another: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (message,) = await sent(alice, bob, 1)
    real = edge.service.erasures._accounts.erase

    async def and_away(user: UUID) -> dict[UUID, int]:
        ended = await real(user)
        edge.log.away = True
        return ended

    with monkeypatch.context() as patched:
        patched.setattr(edge.service.erasures._accounts, "erase", and_away)
        assert (await erase(bob)).status_code == 204
    assert facts(edge, AccountErased) == []
    edge.log.away = False
    await finishes(edge, another)
    assert told(await receipts(alice)) == [(message, "Erased")]


async def test_a_message_that_comes_after_the_erasure_ends_as_erased_and_is_counted(
    edge: Edge, alice: Person, bob: Person, another: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def late() -> float:
        return REGISTRY.get_sample_value("restante_messages_too_late_total") or 0.0

    before = late()
    async with another() as deaf:
        there = replace(alice, edge=deaf)
        await there.send(bob)
        monkeypatch.setattr(deaf.service.revocations, "erase", lambda user, age=0.0: None)
        await erase(bob)
        (message,) = await sent(there, bob, 1)
        assert await status(alice, message) == "Erased"
        assert late() == before + 1
        await eventually(lambda: told_of(alice, message))
        await edge.service.erasures._tell(UUID(bob.tokens["user_id"]))
        assert told(await receipts(alice))[1:] == [(message, "Erased")]
        trail = (await alice.get(f"/messages/{message}/trail")).json()
        assert [event["state"] for event in trail["events"]] == ["Created", "Stored", "Erased"]


async def told_of(person: Person, message: str) -> bool:
    return (message, "Erased") in told(await receipts(person))


async def test_an_acknowledgement_that_comes_after_the_erasure_is_told_to_nobody(
    edge: Edge, alice: Person, bob: Person
) -> None:
    (message,) = await sent(alice, bob, 1)
    await erase(bob)
    late = replace(entry(1), message_id=UUID(message), sender=UUID(alice.tokens["user_id"]))
    await edge.log.append(delivered(late, recipient=UUID(bob.tokens["user_id"])))
    assert told(await receipts(alice)) == [(message, "Erased")]
    assert await status(alice, message) == "Erased"


async def test_the_log_gives_the_same_projection_without_the_key(edge: Edge, alice: Person, bob: Person) -> None:
    had, *_ = await sent(alice, bob, 4)
    await bob.post("/messages/ack", {"ids": [had]})
    await erase(bob)
    await eventually(lambda: _none(edge, b"SELECT count(*) FROM untold"))
    await edge.fold.stop()
    before = await everything(edge.database)
    assert (len(before["messages"]), len(before["erased"]), before.pop("receipts")) == (4, 1, ANY)
    await empty(edge.database)
    async with edge.database.transaction() as transaction:
        for partition in range(edge.log.partitions):
            await apply(transaction, edge.log.records(partition))
    after = await everything(edge.database)
    del after["receipts"]  # of another topic
    assert after == before


async def test_an_account_that_a_backup_brings_back_is_erased_again(
    edge: Edge, alice: Person, bob: Person, another: Callable[[], Any]
) -> None:
    user = UUID(bob.tokens["user_id"])
    backup = b"SELECT password_hash, wrapped_key FROM accounts.accounts WHERE user_id = %(user)s"
    ((password_hash, key),) = await edge.database.tuples(backup, user=user)
    await erase(bob)
    await edge.database.run(
        b"UPDATE accounts.accounts SET erased_at = NULL, erasure_recorded_at = NULL, password_hash = %(hash)s,"
        b" wrapped_key = %(key)s WHERE user_id = %(user)s",
        hash=password_hash,
        key=key,
        user=user,
    )
    count = len(facts(edge, AccountErased))
    async with another():
        await eventually(lambda: _none(edge, BACK))
        await eventually(lambda: _none(edge, UNFINISHED))
    assert len(facts(edge, AccountErased)) == count, "the log knows already"
    assert (await alice.get("/devices")).status_code == 200


async def test_of_erasures_at_once_each_is_answered(edge: Edge, alice: Person, bob: Person) -> None:
    ids = await sent(alice, bob, 3)
    answers = await asyncio.gather(*(erase(bob) for _ in range(3)))
    assert {answer.status_code for answer in answers} <= {204, 401}
    assert 204 in {answer.status_code for answer in answers}
    assert sorted(told(await receipts(alice))) == sorted((message, "Erased") for message in ids)


async def test_a_login_under_way_gets_nothing_that_lives(edge: Edge, bob: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch, "api.accounts.add_token", add_token)
    login = asyncio.create_task(edge.person("bob"))
    await held.reached.wait()
    leaving = asyncio.create_task(erase(bob))
    await eventually(lambda: waits_for_a_lock(edge))
    held.let_go.set()
    assert (await leaving).status_code == 204
    dead = await login
    assert code(await dead.get("/devices")) == (401, "token_revoked")
    assert code(await refresh(dead)) == (401, "token_invalid")


async def test_a_login_that_comes_too_late_leaves_nothing_behind(
    edge: Edge, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = edge.service.logins._passwords.matches

    async def and_erased(known: str | None, password: str) -> bool:
        matches = await real(known, password)
        await erase(bob)
        return matches

    monkeypatch.setattr(edge.service.logins._passwords, "matches", and_erased)
    login = {"name": "bob", "password": PASSWORD, "device": "a new one"}
    assert code(await edge.client.post("/tokens", json=login)) == (401, "bad_credentials")
    assert await edge.database.tuples(b"SELECT count(*) FROM accounts.devices WHERE label <> ''") == [(0,)]


async def test_a_refresh_under_way_gets_nothing_that_lives(edge: Edge, bob: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch, "api.logins.use_token", use_token)
    refreshing = asyncio.create_task(refresh(bob))
    await held.reached.wait()
    assert (await erase(bob)).status_code == 204
    held.let_go.set()
    assert code(await refreshing) == (401, "token_revoked")
    assert await edge.database.tuples(b"SELECT count(*) FROM accounts.refresh_tokens") == [(0,)]
