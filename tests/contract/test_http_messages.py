"""Sending, and what a sender can rely on."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from schemas.events import MessageStored
from tests.edge import Edge, Person, running

pytestmark = pytest.mark.anyio


def stored(edge: Edge) -> list[MessageStored]:
    facts = [recorded.fact for partition in range(edge.log.partitions) for recorded in edge.log.records(partition)]
    return [fact for fact in facts if isinstance(fact, MessageStored)]


async def test_an_accepted_message_is_in_the_log_and_then_in_the_mailbox(edge: Edge, alice: Person, bob: Person) -> None:
    answer = await alice.send(bob, "hello bob")
    said = answer.json()
    assert answer.status_code == 202
    assert (said["to"], said["status"]) == ("bob", "Stored")
    assert answer.headers["Location"] == f"/messages/{said['id']}"
    assert "Idempotency-Replayed" not in answer.headers
    (fact,) = stored(edge)
    assert fact.message_id == UUID(said["id"])
    assert (fact.sender, fact.sender_device) == (UUID(alice.tokens["user_id"]), UUID(alice.tokens["device_id"]))
    (message,) = (await bob.sync())["messages"]
    assert message["stored_at"] == said["stored_at"]
    assert (message["id"], message["from"], message["body"], message["content_type"]) == (
        said["id"],
        "alice",
        "hello bob",
        "text/plain",
    )


async def test_no_body_is_readable_in_the_log_or_the_database(edge: Edge, alice: Person, bob: Person) -> None:
    await alice.send(bob, "a planted body")
    await bob.sync()
    held = b"".join(
        held.encoded.value for p in range(edge.log.partitions) for held in edge.log.held("restante.lifecycle", p)
    )
    rows = await edge.database.tuples(b"SELECT mailbox::text FROM mailbox")
    assert b"planted" not in held
    assert rows
    assert all(b"a planted body".hex() not in row[0] for row in rows)


@pytest.mark.parametrize(
    "content",
    [
        {"body": ""},
        {"body": "é\0🎉\u2028"},
        {"body": "x" * 65_536},
        {"body": "text", "content_type": "text/markdown; charset=utf-8"},
        {"body_base64": "AP/+"},
        {"body_base64": ""},
        {"body_base64": "eHg=", "content_type": "image/png"},
    ],
)
async def test_a_body_comes_back_as_it_was_sent(alice: Person, bob: Person, content: dict[str, str]) -> None:
    assert (await alice.post("/messages", {"to": "bob", **content})).status_code == 202
    (message,) = (await bob.sync())["messages"]
    got = {name: message.get(name) for name in ("body", "body_base64")}
    assert got == {"body": content.get("body"), "body_base64": content.get("body_base64")}
    default = "text/plain" if "body" in content else "application/octet-stream"
    assert message["content_type"] == content.get("content_type", default)


async def test_escapes_do_not_count_against_the_limit(alice: Person, bob: Person) -> None:
    body = b'{"to":"bob","body":"' + b"\\u0001" * 65_536 + b'"}'
    answer = await alice.edge.client.post(
        "/messages", content=body, headers={**alice.bearer, "Content-Type": "application/json"}
    )
    assert answer.status_code == 202


async def test_a_body_over_the_limit_is_413_and_stays_out(edge: Edge, alice: Person, bob: Person) -> None:
    for content in ({"body": "x" * 65_537}, {"body": "x" * 600_000}, {"body_base64": "eHh4" * 21_846}):
        answer = await alice.post("/messages", {"to": "bob", **content})
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert stored(edge) == []


async def test_nobody_of_that_name_is_404(edge: Edge, alice: Person) -> None:
    answer = await alice.post("/messages", {"to": "nobody", "body": "x"})
    assert (answer.status_code, answer.json()["code"]) == (404, "recipient_unknown")
    await edge.person("nobody")
    assert (await alice.post("/messages", {"to": "nobody", "body": "x"})).status_code == 202


async def test_one_can_write_to_oneself(alice: Person) -> None:
    assert (await alice.send(alice, "note")).status_code == 202
    assert await alice.bodies() == ["note"]


async def test_the_same_key_is_the_same_message(edge: Edge, alice: Person, bob: Person) -> None:
    first = await alice.send(bob, "once", key="order-1")
    again = await alice.send(bob, "once", key='"order-1"')
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (202, "true")
    assert again.json() == first.json()
    assert again.headers["Location"] == first.headers["Location"]
    assert "Idempotency-Replayed" not in first.headers
    assert len(stored(edge)) == 1


async def test_another_process_knows_the_key_from_the_projection(
    edge: Edge, alice: Person, bob: Person, database_url: str
) -> None:
    first = await alice.send(bob, "once", key="order-1")
    await bob.sync()
    async with running(database_url, log=edge.log) as other:
        there = Person(other, "alice", alice.tokens)
        again = await there.send(bob, "once", key="order-1")
        conflict = await there.send(bob, "twice", key="order-1")
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (conflict.status_code, conflict.json()["code"]) == (422, "idempotency_conflict")
    assert len(stored(edge)) == 1


@pytest.mark.parametrize(
    "other", [{"body": "twice"}, {"body": "once", "content_type": "text/html"}, {"body_base64": "b25jZQ=="}]
)
async def test_the_same_key_with_other_content_is_a_conflict(alice: Person, bob: Person, other: dict[str, str]) -> None:
    await alice.send(bob, "once", key="order-1")
    answer = await alice.post("/messages", {"to": "bob", **other}, {"Idempotency-Key": "order-1"})
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_conflict")
    assert await bob.bodies() == ["once"]


async def test_a_key_belongs_to_one_sender_and_one_recipient(edge: Edge, alice: Person, bob: Person) -> None:
    answers = [
        await alice.send(bob, "x", key="k"),
        await alice.send(alice, "x", key="k"),
        await bob.send(bob, "x", key="k"),
    ]
    assert [answer.status_code for answer in answers] == [202] * 3
    assert len({answer.json()["id"] for answer in answers}) == 3


async def test_two_equal_posts_at_once_share_one_record(edge: Edge, alice: Person, bob: Person) -> None:
    answers = await asyncio.gather(*(alice.send(bob, "once", key="order-1") for _ in range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sorted(answer.headers.get("Idempotency-Replayed", "") for answer in answers) == [""] + ["true"] * 7
    assert len(stored(edge)) == 1


async def test_of_two_different_posts_at_once_under_a_key_one_wins(edge: Edge, alice: Person, bob: Person) -> None:
    answers = await asyncio.gather(*(alice.send(bob, f"content {n}", key="order-1") for n in range(4)))
    assert sorted(answer.status_code for answer in answers) == [202, 422, 422, 422]
    assert len(stored(edge)) == 1


async def test_without_the_log_a_message_is_rejected(edge: Edge, alice: Person, bob: Person) -> None:
    edge.log.away = True
    for key in (None, "k"):
        answer = await alice.send(bob, "x", key=key)
        said = answer.json()
        assert (answer.status_code, said["code"], said["outcome"]) == (503, "log_unavailable", "rejected")
        assert "id" not in said
        assert int(answer.headers["Retry-After"]) >= 1
    edge.log.away = False
    assert (await alice.send(bob, "x", key="k")).headers.get("Idempotency-Replayed") is None


async def test_an_unknown_outcome_names_the_message_and_a_retry_settles_it(
    edge: Edge, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    appended = edge.log.append_all

    async def silent(records: Any, *, partitions: Any = None) -> Any:
        from producers.log import LogUnavailable

        await appended(records, partitions=partitions)
        return [LogUnavailable("unknown", "no answer") for _ in records]

    with monkeypatch.context() as broken:
        broken.setattr(edge.log, "append_all", silent)
        keyed = await alice.send(bob, "x", key="k")
        plain = await alice.send(bob, "y")
    for answer in (keyed, plain):
        assert (answer.status_code, answer.json()["outcome"]) == (503, "unknown")
    assert UUID(plain.json()["id"]) in {fact.message_id for fact in stored(edge)}
    again = await alice.send(bob, "x", key="k")
    assert (again.status_code, again.json()["id"]) == (202, keyed.json()["id"])
    assert sorted(await bob.bodies()) == ["x", "y"]


async def test_a_batch_is_stored_in_order_and_answered_in_order(edge: Edge, alice: Person, bob: Person) -> None:
    messages = [{"to": to, "body": f"{n}"} for n, to in enumerate(["bob", "alice", "bob", "bob", "alice"])]
    answer = await alice.post("/messages/batch", {"messages": messages})
    said = answer.json()
    assert (answer.status_code, said["accepted"], said["rejected"]) == (202, 5, 0)
    assert [result["to"] for result in said["results"]] == ["bob", "alice", "bob", "bob", "alice"]
    assert all(result["status"] == "Stored" and "replayed" not in result for result in said["results"])
    assert await bob.bodies() == ["0", "2", "3"]
    assert await alice.bodies() == ["1", "4"]


async def test_each_message_of_a_batch_stands_on_its_own(edge: Edge, alice: Person, bob: Person) -> None:
    await alice.send(bob, "before", key="old")
    messages = [
        {"to": "bob", "body": "good"},
        {"to": "nobody", "body": "x"},
        {"to": "bob", "body": "x" * 65_537},
        {"to": "bob"},
        {"to": "bob", "body": 1},
        {"to": "bob", "body": "new", "idempotency_key": "k"},
        {"to": "bob", "body": "new", "idempotency_key": "k"},
        {"to": "bob", "body": "other", "idempotency_key": "k"},
        {"to": "bob", "body": "before", "idempotency_key": "old"},
        {"to": "bob", "body": "x", "idempotency_key": ""},
        {"to": "bob", "body": "last"},
    ]
    answer = await alice.post("/messages/batch", {"messages": messages})
    said = answer.json()
    problems = [result.get("problem", {}).get("code") for result in said["results"]]
    assert problems == [
        None,
        "recipient_unknown",
        "body_too_large",
        "invalid_request",
        "invalid_request",
        None,
        None,
        "idempotency_conflict",
        None,
        "invalid_request",
        None,
    ]
    assert (answer.status_code, said["accepted"], said["rejected"]) == (202, 5, 6)
    replayed = [result.get("replayed", False) for result in said["results"]]
    assert [at for at, again in enumerate(replayed) if again] == [6, 8]
    assert said["results"][5]["id"] == said["results"][6]["id"]
    assert said["results"][1]["problem"]["request_id"] == answer.headers["X-Request-Id"]
    assert await bob.bodies() == ["before", "good", "new", "last"]


async def test_a_batch_while_the_log_is_away_is_503_with_results(edge: Edge, alice: Person, bob: Person) -> None:
    edge.log.away = True
    messages = [{"to": "bob", "body": "x"}, {"to": "nobody", "body": "x"}]
    answer = await alice.post("/messages/batch", {"messages": messages})
    said = answer.json()
    assert (answer.status_code, said["code"], said["outcome"]) == (503, "log_unavailable", "rejected")
    assert [result["problem"]["code"] for result in said["results"]] == ["log_unavailable", "recipient_unknown"]


async def test_a_batch_of_only_wrong_messages_is_still_answered(edge: Edge, alice: Person) -> None:
    answer = await alice.post("/messages/batch", {"messages": [{"to": "nobody", "body": "x"}]})
    assert (answer.status_code, answer.json()["accepted"], answer.json()["rejected"]) == (202, 0, 1)


async def test_a_batch_has_500_messages_and_8_mib_at_most(edge: Edge, alice: Person, bob: Person) -> None:
    assert (await alice.post("/messages/batch", {"messages": [{"to": "bob", "body": ""}] * 501})).status_code == 422
    assert (
        await alice.post("/messages/batch", {"messages": [{"to": "bob", "body": "x" * 60_000}] * 150})
    ).status_code == 413
    assert (await alice.post("/messages/batch", {"messages": [{"to": "bob", "body": ""}] * 500})).status_code == 202
    assert len(stored(edge)) == 500


async def test_too_far_behind_is_overloaded_but_a_stored_key_is_answered(edge: Edge, alice: Person, bob: Person) -> None:
    await alice.send(bob, "x", key="k")
    await bob.sync()
    edge.service.lag.behind_seconds = 31.0
    for answer in (await alice.send(bob, "y"), await alice.send(bob, "y", key="other")):
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert (await alice.send(bob, "x", key="k")).status_code == 202
    edge.service.lag.behind_seconds = 30.0
    assert (await alice.send(bob, "y")).status_code == 202
