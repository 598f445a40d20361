"""What an operator sets: who may sign up, how often and how much may be sent, and where the service is found."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest

from api.limits import LIMITS, Limit, Limits
from api.secrets import make_key
from deploy import cli
from producers.log import LogUnavailable
from projections.errors import DatabaseUnavailable
from tests.edge import MASTER_KEY, PASSWORD, Edge, Person, running

pytestmark = pytest.mark.anyio


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def said(answer: httpx2.Response) -> list[str | None]:
    """The problem of each message of a batch."""
    return [result.get("problem", {}).get("code") for result in answer.json()["results"]]


async def sign_up(edge: Edge, name: str) -> httpx2.Response:
    return await edge.client.post("/accounts", json={"name": name, "password": PASSWORD})


async def add_account(name: str, *options: str) -> int:
    return await asyncio.to_thread(cli.run, ["accounts", "add", name, *options])


async def test_where_sign_up_is_closed_the_operator_makes_accounts(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    (tmp_path / "password").write_text(PASSWORD + "\n", encoding="utf-8")
    (tmp_path / "short").write_text("short\n", encoding="utf-8")
    given = ("--password-file", str(tmp_path / "password"), "--json")
    monkeypatch.setenv("RESTANTE_DATABASE_URL", database_url)
    monkeypatch.setenv("RESTANTE_MASTER_KEY", MASTER_KEY)
    async with running(database_url, signup=False) as edge:
        assert code(await sign_up(edge, "alice")) == (403, "signup_closed")
        assert await add_account("alice", *given) == 0
        made = json.loads(capsys.readouterr().out)
        assert await add_account("bob", *given) == 0
        alice, bob = await edge.person("alice"), await edge.person("bob")
        assert made == {"user_id": alice.tokens["user_id"], "name": "alice"}
        assert (await bob.send(alice, "sealed under a key that the API opens")).status_code == 202
        assert await alice.bodies() == ["sealed under a key that the API opens"]
    assert await add_account("alice", *given) == 1
    assert "name_taken" in capsys.readouterr().err
    assert await add_account("Not A Name", *given) == 2
    assert await add_account("carol", "--password-file", str(tmp_path / "short")) == 2
    assert await add_account("carol", "--password-file", str(tmp_path / "nothing")) == 2
    assert await add_account("carol", *given, "--password-stdin") == 2
    monkeypatch.setenv("RESTANTE_MASTER_KEY", make_key())
    assert await add_account("carol", *given) == 1
    monkeypatch.setenv("RESTANTE_MASTER_KEY", "x")
    assert await add_account("carol", *given) == 2
    monkeypatch.setenv("RESTANTE_MASTER_KEY", MASTER_KEY)
    monkeypatch.setenv("RESTANTE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    assert await add_account("carol", *given) == 3


async def test_the_description_names_the_public_address(database_url: str) -> None:
    async with running(database_url, public_url="https://mail.example") as edge:
        assert (await edge.client.get("/openapi.json")).json()["servers"] == [{"url": "https://mail.example"}]
    async with running(database_url) as edge:
        assert "servers" not in (await edge.client.get("/openapi.json")).json()


async def test_guessing_ends_for_names_that_exist_and_names_that_do_not(database_url: str) -> None:
    few = Limit(amount=2, seconds=300, each="name and address", meaning="")
    async with running(database_url, limits=Limits(table={**LIMITS, "wrong_passwords": few})) as edge:
        await edge.person("alice")
        await edge.person("bob")
        for name in ("alice", "nobody"):
            login = {"name": name, "password": "wrong password", "device": "phone"}
            answers = await asyncio.gather(*(edge.client.post("/tokens", json=login) for _ in range(6)))
            assert sorted(answer.status_code for answer in answers) == [401, 401, 429, 429, 429, 429]
            right = await edge.client.post("/tokens", json={**login, "password": PASSWORD})
            assert code(right) == (429, "rate_limited")
        assert (await edge.person("bob")).tokens


async def people(edge: Edge, count: int) -> list[Person]:
    return list(await asyncio.gather(*(edge.person(f"p{number}") for number in range(count))))


async def test_a_mailbox_holds_its_quota_and_acknowledgements_free_room(database_url: str) -> None:
    async with running(database_url, mailbox_quota=10) as edge:
        bob, *senders = await people(edge, 13)
        taken = [await sender.send(bob, "x", key=f"k{at}") for at, sender in enumerate(senders[:10])]
        assert [answer.status_code for answer in taken] == [202] * 10
        assert code(await senders[10].send(bob)) == (409, "mailbox_full")
        assert code(await senders[11].send(bob, key="new")) == (409, "mailbox_full")
        again = await senders[0].send(bob, "x", key="k0")
        assert (again.status_code, again.json()["id"]) == (202, taken[0].json()["id"])
        await bob.post("/messages/ack", {"ids": [answer.json()["id"] for answer in taken[:2]]})
        assert (await senders[10].send(bob)).status_code == 202
        assert (await senders[11].send(bob, key="new")).status_code == 202
        assert code(await senders[0].send(bob)) == (409, "mailbox_full")
        assert (await bob.sync())["pending"] == 10


async def test_a_mailbox_holds_its_bytes_and_one_sender_a_tenth_of_them(database_url: str) -> None:
    async with running(database_url, mailbox_quota=1_000, mailbox_bytes=200_000) as edge:
        bob, *senders = await people(edge, 5)
        large = "x" * 60_000
        sent = [await sender.send(bob, large) for sender in senders]
        assert [answer.status_code for answer in sent] == [202, 202, 202, 409]
        assert code(sent[3]) == (409, "mailbox_full")
        assert code(await senders[0].send(bob, "x" * 7_000)) == (409, "sender_share_full")
        assert (await senders[0].send(bob, "x" * 5_000)).status_code == 202
        page = await bob.sync()
        await bob.post("/messages/ack", {"ids": [page["messages"][0]["id"]]})
        assert (await senders[3].send(bob, large)).status_code == 202
        batch = await senders[0].post("/messages/batch", {"messages": [{"to": bob.name, "body": large}] * 2})
        assert said(batch) == ["mailbox_full", "mailbox_full"]


async def test_one_sender_holds_a_tenth(database_url: str) -> None:
    async with running(database_url, mailbox_quota=30) as edge:
        bob, alice, carol = await people(edge, 3)
        sent = [await alice.send(bob, str(at)) for at in range(4)]
        assert [answer.status_code for answer in sent] == [202, 202, 202, 409]
        assert code(sent[3]) == (409, "sender_share_full")
        assert (await carol.send(bob)).status_code == 202
        assert (await alice.send(carol)).status_code == 202
        await bob.post("/messages/ack", {"ids": [sent[0].json()["id"]]})
        assert (await alice.send(bob)).status_code == 202
        assert code(await alice.send(bob)) == (409, "sender_share_full")


async def test_parallel_posts_fill_a_mailbox_exactly(database_url: str) -> None:
    async with running(database_url, mailbox_quota=10) as edge:
        bob, *senders = await people(edge, 31)
        keys = [None if at % 2 else f"k{at}" for at in range(30)]
        for left in (10, 4):
            asked = [sender.send(bob, "x", key=key) for sender, key in zip(senders, keys, strict=True)]
            answers = await asyncio.gather(*asked)
            taken = [answer for answer in answers if answer.status_code == 202]
            assert len([answer for answer in taken if "idempotency-replayed" not in answer.headers]) == left
            assert {answer.status_code for answer in answers} == {202, 409}
            page = await bob.sync()
            assert page["pending"] == 10
            await bob.post("/messages/ack", {"ids": [message["id"] for message in page["messages"][:4]]})


async def test_parallel_posts_of_one_sender_keep_to_the_share(database_url: str) -> None:
    async with running(database_url, mailbox_quota=50) as edge:
        bob, alice = await people(edge, 2)
        answers = await asyncio.gather(*(alice.send(bob) for _ in range(25)))
        assert sorted(answer.status_code for answer in answers) == [202] * 5 + [409] * 20
        assert (await bob.sync())["pending"] == 5


async def test_in_a_batch_each_message_has_its_own_room(database_url: str) -> None:
    async with running(database_url, mailbox_quota=20) as edge:
        bob, alice, carol = await people(edge, 3)
        batch = {"messages": [{"to": to.name, "body": "x"} for to in (bob, bob, bob, carol, bob, carol)]}
        answer = await alice.post("/messages/batch", batch)
        assert (answer.json()["accepted"], answer.json()["rejected"]) == (4, 2)
        assert said(answer) == [None, None, "sender_share_full", None, "sender_share_full", None]
        assert [len(await who.bodies()) for who in (bob, carol)] == [2, 2]


async def test_another_process_sees_what_the_first_took(database_url: str) -> None:
    async with (
        running(database_url, mailbox_quota=10) as edge,
        running(database_url, log=edge.log, mailbox_quota=10) as other,
    ):
        bob, *senders = await people(edge, 12)
        for sender in senders[:10]:
            assert (await sender.send(bob)).status_code == 202
        elsewhere = Person(other, senders[10].name, senders[10].tokens)
        assert code(await elsewhere.send(bob)) == (409, "mailbox_full")


async def test_while_nobody_can_count_the_last_count_decides(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(database_url, mailbox_quota=20) as edge:
        bob, carol, alice, dave = await people(edge, 4)
        assert [(await alice.send(bob)).status_code for _ in range(3)] == [202, 202, 409]
        assert (await alice.send(carol)).status_code == 202

        asked: list[Any] = []

        async def away(*args: Any, **more: Any) -> Any:
            asked.append(args)
            raise DatabaseUnavailable("gone")

        monkeypatch.setattr("api.quota.HOLD_SECONDS", 1e9)

        with monkeypatch.context() as outage:
            outage.setattr(type(edge.service.parts.reads), "held", away)
            assert [(await dave.send(carol)).status_code for _ in range(5)] == [202] * 5
            assert [code(await alice.send(bob)) for _ in range(3)] == [(409, "sender_share_full")] * 3
            assert len(asked) == 2  # once for each mailbox, and then nobody waits for it again
        monkeypatch.setattr("api.quota.HOLD_SECONDS", 0.0)
        assert code(await dave.send(carol)) == (409, "sender_share_full")


async def test_what_the_log_refused_takes_no_room(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(database_url, mailbox_quota=20) as edge:
        bob, alice = await people(edge, 2)
        assert (await alice.send(bob)).status_code == 202

        async def refuse(*args: Any, **more: Any) -> Any:
            raise LogUnavailable("rejected", "gone")

        with monkeypatch.context() as outage:
            outage.setattr(edge.log, "append", refuse)
            for _ in range(3):
                assert code(await alice.send(bob)) == (503, "log_unavailable")
        assert [(await alice.send(bob)).status_code for _ in range(2)] == [202, 409]


def held_to(**changed: Limit) -> Limits:
    return Limits(table={**LIMITS, **changed}, clock=lambda: 1_000.0)


async def test_messages_are_counted_for_the_account(database_url: str) -> None:
    limits = held_to(messages=Limit(amount=5, seconds=10, each="account", meaning=""))
    async with running(database_url, limits=limits) as edge:
        bob, alice, carol = await people(edge, 3)
        kept = await alice.send(bob, "x", key="kept")
        new = {"to": bob.name, "body": "y"}
        batch = {"messages": [{"to": bob.name, "body": "x", "idempotency_key": "kept"}, new, new]}
        more = {"messages": [*batch["messages"], {"to": "nobody", "body": "y"}]}
        assert said(await alice.post("/messages/batch", more)) == [None, None, None, "recipient_unknown"]
        assert (await alice.send(bob)).status_code == 202
        refused = [await alice.send(bob), await alice.send(bob, key="new"), await alice.send(Person(edge, "no"), key="new")]
        for problem in refused:
            assert code(problem) == (429, "rate_limited")
            assert int(problem.headers["Retry-After"]) >= 3
        again = await alice.send(bob, "x", key="kept")
        assert (again.status_code, again.json()["id"]) == (202, kept.json()["id"])
        assert said(await alice.post("/messages/batch", batch)) == [None, "rate_limited", "rate_limited"]
        assert (await carol.send(bob)).status_code == 202
        assert (await alice.get("/none")).status_code == 404
        assert await bob.bodies() == ["x", "y", "y", "hello", "hello"]


async def test_other_calls_are_counted_for_account_and_address(database_url: str) -> None:
    three = Limit(amount=3, seconds=10, each="account", meaning="")
    async with (
        running(database_url, limits=held_to(requests=three)) as edge,
        running(database_url, log=edge.log, limits=held_to(address_requests=three)) as other,
    ):
        bob, alice = await people(edge, 2)
        assert [(await bob.get("/messages/sync")).status_code for _ in range(4)] == [200, 200, 200, 429]
        assert (await alice.get("/messages/sync")).status_code == 200
        assert (await bob.send(alice)).status_code == 202
        bob.edge = other
        for expected in ("token_invalid", "token_invalid", "token_invalid", "rate_limited"):
            answer = await other.client.post("/messages", headers={"Authorization": "Bearer x"})
            assert answer.json()["code"] == expected
        assert code(await bob.get("/messages/sync")) == (429, "rate_limited")
        assert (await bob.send(alice)).status_code == 202
        assert (await other.client.get("/health/live")).status_code == 200


async def test_sign_ups_and_logins_are_counted_for_the_address(database_url: str) -> None:
    two = Limit(amount=2, seconds=600, each="address", meaning="")
    async with running(database_url, limits=held_to(sign_ups=two, logins=two)) as edge:
        assert [(await sign_up(edge, name)).status_code for name in ("a", "b", "c")] == [201, 201, 429]
        login = {"name": "a", "password": "not the password", "device": "d"}
        assert [(await edge.client.post("/tokens", json=login)).status_code for _ in range(3)] == [401, 401, 429]
