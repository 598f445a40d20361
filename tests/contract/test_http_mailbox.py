"""The mailbox over HTTP: sync, ack, read; complete, or an honest 503."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.sealing import seal
from schemas.events import MessagesDelivered, MessagesRead, MessageStored
from schemas.metrics import REGISTRY
from tests.builders import an_id, stored
from tests.edge import Edge, Person, running
from tests.eventually import eventually

pytestmark = pytest.mark.anyio


def facts(edge: Edge, kind: type[Any]) -> list[Any]:
    found = [recorded.fact for partition in range(edge.log.partitions) for recorded in edge.log.records(partition)]
    return [fact for fact in found if isinstance(fact, kind)]


async def ids_in(person: Person) -> list[str]:
    return [message["id"] for message in (await person.sync())["messages"]]


async def test_an_empty_mailbox(bob: Person) -> None:
    page = await bob.sync()
    assert (page["messages"], page["has_more"], page["pending"]) == ([], False, 0)
    assert "complete" not in page
    again = await bob.sync(cursor=page["cursor"])
    assert (again["cursor"], again["messages"]) == (page["cursor"], [])


async def test_answers_are_nobody_elses_to_keep(bob: Person) -> None:
    assert (await bob.get("/messages/sync")).headers["Cache-Control"] == "no-store"


async def test_reading_never_acknowledges(alice: Person, bob: Person) -> None:
    await alice.send(bob, "x")
    assert await bob.bodies() == ["x"]
    assert await bob.bodies() == ["x"]


async def test_a_sync_sees_everything_that_was_answered_before(alice: Person, bob: Person) -> None:
    for n in range(20):
        await alice.send(bob, f"{n}")
        assert await bob.bodies() == [f"{m}" for m in range(n + 1)]


async def test_pages_follow_each_other_without_gap_or_repeat(alice: Person, bob: Person) -> None:
    for n in range(7):
        await alice.send(bob, f"{n}")
    seen, cursor, more = [], "", True
    while more:
        page = await bob.sync(limit=3, cursor=cursor)
        assert page["pending"] == 7
        seen += [message["body"] for message in page["messages"]]
        cursor, more = page["cursor"], page["has_more"]
    assert seen == [f"{n}" for n in range(7)]
    await alice.send(bob, "7")
    assert await bob.bodies(cursor=cursor) == ["7"]


async def test_positions_rise_and_status_is_named(alice: Person, bob: Person) -> None:
    for n in range(3):
        await alice.send(bob, f"{n}")
    messages = (await bob.sync())["messages"]
    positions = [message["position"] for message in messages]
    assert positions == sorted(set(positions))
    assert {message["status"] for message in messages} == {"Stored"}
    assert {message["from_id"] for message in messages} == {alice.tokens["user_id"]}


async def test_a_page_has_a_mebibyte_of_bodies_at_most_and_one_message_at_least(alice: Person, bob: Person) -> None:
    messages = [{"to": "bob", "body": "x" * 60_000} for _ in range(40)]
    assert (await alice.post("/messages/batch", {"messages": messages})).json()["accepted"] == 40
    page = await bob.sync(limit=500)
    sizes = [len(message["body"]) for message in page["messages"]]
    assert 1_048_576 - 2 * 60_000 < sum(sizes) <= 1_048_576
    assert page["has_more"]


async def test_a_body_that_does_not_open_holds_up_nothing(edge: Edge, alice: Person, bob: Person) -> None:
    """Damaged, of another message, or sealed with something strange inside."""
    recipient, sender = (UUID(person.tokens["user_id"]) for person in (bob, alice))
    keys = await edge.service.gateway._common.keys.keys_of(recipient)
    assert keys is not None
    for number, content in ((1, None), (2, b"\x00\x00\xff"), (3, b"")):
        sealed = b"damaged" if content is None else seal(keys, an_id("msg", number), sender, recipient, content)
        await edge.log.append(stored(number, recipient=recipient, sender=sender, sealed=sealed))
    before = REGISTRY.get_sample_value("restante_bodies_unreadable_total") or 0.0
    good = (await alice.send(bob, "hello")).json()["id"]
    *broken, last = (await bob.sync())["messages"]
    assert [one["problem"]["code"] for one in broken] == ["body_unreadable"] * 3
    assert all(one.keys().isdisjoint({"body", "body_base64", "content_type"}) and one["from"] == "alice" for one in broken)
    assert (last["id"], last["body"], "problem" in last) == (good, "hello", False)
    assert REGISTRY.get_sample_value("restante_bodies_unreadable_total") == before + 3
    await bob.post("/messages/ack", {"ids": [one["id"] for one in broken]})
    assert [one["id"] for one in (await bob.sync())["messages"]] == [good]


async def test_every_device_has_its_own_view(edge: Edge, alice: Person, bob: Person) -> None:
    laptop = await edge.person("bob", "laptop")
    await alice.send(bob, "x")
    (message,) = await ids_in(bob)
    await bob.post("/messages/ack", {"ids": [message]})
    assert await ids_in(bob) == []
    assert await ids_in(laptop) == [message]
    later = await edge.person("bob", "tablet")
    assert await ids_in(later) == []


async def test_a_first_device_finds_what_came_before_it(edge: Edge, alice: Person) -> None:
    await edge.client.post("/accounts", json={"name": "carol", "password": "correct horse battery"})
    await alice.post("/messages", {"to": "carol", "body": "early"})
    assert await (await edge.person("carol")).bodies() == ["early"]


@pytest.mark.parametrize(
    "cursor",
    ["x", "A" * 36, "é" * 36, "A" * 5000, " ", "null"],
)
async def test_a_cursor_that_is_not_ours_is_400(bob: Person, cursor: str) -> None:
    answer = await bob.get("/messages/sync", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) in [(400, "bad_cursor"), (422, "invalid_request")]
    if len(cursor) < 4096:
        assert answer.json()["code"] == "bad_cursor"


async def test_a_cursor_of_another_device_is_400(edge: Edge, alice: Person, bob: Person) -> None:
    cursor = (await alice.sync())["cursor"]
    laptop = await edge.person("alice", "laptop")
    for other in (bob, laptop):
        for answer in (
            await other.get("/messages/sync", params={"cursor": cursor}),
            await other.post("/messages/ack", {"up_to": cursor}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor")


async def test_acknowledged_is_gone_and_in_the_log(edge: Edge, alice: Person, bob: Person) -> None:
    for n in range(3):
        await alice.send(bob, f"{n}")
    one, two, three = await ids_in(bob)
    answer = await bob.post("/messages/ack", {"ids": [three, one, three]})
    assert answer.status_code == 200
    assert answer.json() == {"acknowledged": [three, one], "already": [], "unknown": []}
    (fact,) = facts(edge, MessagesDelivered)
    assert [str(entry.message_id) for entry in fact.entries] == [one, three]
    assert {entry.sender for entry in fact.entries} == {UUID(alice.tokens["user_id"])}
    assert await ids_in(bob) == [two]
    assert (await bob.sync())["pending"] == 1


async def test_an_acknowledgement_again_changes_nothing(edge: Edge, alice: Person, bob: Person) -> None:
    await alice.send(bob, "x")
    (message,) = await ids_in(bob)
    await bob.post("/messages/ack", {"ids": [message]})
    answer = await bob.post("/messages/ack", {"ids": [message]})
    assert answer.json() == {"acknowledged": [], "already": [message], "unknown": []}
    assert len(facts(edge, MessagesDelivered)) == 1


async def test_other_peoples_messages_are_unknown_and_stay_as_they_are(edge: Edge, alice: Person, bob: Person) -> None:
    theirs = (await alice.send(bob, "x")).json()["id"]
    nobodys = str(uuid4())
    for path in ("/messages/ack", "/messages/read"):
        answer = await alice.post(path, {"ids": [theirs, nobodys]})
        assert answer.json() == {"acknowledged": [], "already": [], "unknown": [theirs, nobodys]}
    assert not facts(edge, MessagesDelivered) + facts(edge, MessagesRead)
    assert await ids_in(bob) == [theirs]


async def test_up_to_a_cursor_acknowledges_what_it_has_passed(edge: Edge, alice: Person, bob: Person) -> None:
    await alice.post("/messages/batch", {"messages": [{"to": "bob", "body": f"{n}"} for n in range(500)]})
    await alice.post("/messages/batch", {"messages": [{"to": "bob", "body": f"{n}"} for n in range(500, 760)]})
    cursor = ""
    for _ in range(3):
        page = await bob.sync(limit=250, cursor=cursor)
        cursor = page["cursor"]
    answer = await bob.post("/messages/ack", {"up_to": cursor})
    assert answer.json() == {"acknowledged_count": 750}
    assert await bob.bodies() == [f"{n}" for n in range(750, 760)]
    assert [len(fact.entries) for fact in facts(edge, MessagesDelivered)] == [500, 250]
    assert (await bob.post("/messages/ack", {"up_to": cursor})).json() == {"acknowledged_count": 0}


async def test_the_cursor_of_an_empty_mailbox_acknowledges_nothing_that_comes_later(alice: Person, bob: Person) -> None:
    cursor = (await bob.sync())["cursor"]
    await alice.send(bob, "x")
    assert (await bob.post("/messages/ack", {"up_to": cursor})).json() == {"acknowledged_count": 0}
    assert await bob.bodies() == ["x"]


@pytest.mark.parametrize("body", [{}, {"ids": [], "up_to": "x"}, {"ids": []}, {"ids": [str(uuid4())] * 501}, {"ids": ["x"]}])
async def test_an_acknowledgement_says_one_thing(bob: Person, body: dict[str, Any]) -> None:
    answer = await bob.post("/messages/ack", body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_read_implies_delivered(edge: Edge, alice: Person, bob: Person) -> None:
    await alice.send(bob, "x")
    (message,) = await ids_in(bob)
    assert (await bob.post("/messages/read", {"ids": [message]})).json()["acknowledged"] == [message]
    assert (await bob.post("/messages/read", {"ids": [message]})).json()["already"] == [message]
    assert (await bob.post("/messages/ack", {"ids": [message]})).json()["already"] == [message]
    assert await ids_in(bob) == []
    status = (await bob.get(f"/messages/{message}")).json()
    assert status["status"] == "Read"
    assert status["delivered_at"] == status["read_at"]
    assert len(facts(edge, MessagesRead)) == 1


async def test_reading_what_was_acknowledged_is_new(alice: Person, bob: Person) -> None:
    await alice.send(bob, "x")
    (message,) = await ids_in(bob)
    await bob.post("/messages/ack", {"ids": [message]})
    assert (await bob.post("/messages/read", {"ids": [message]})).json()["acknowledged"] == [message]


async def test_draining_by_sync_and_ack_shows_each_message_once(alice: Person, bob: Person) -> None:
    await alice.post("/messages/batch", {"messages": [{"to": "bob", "body": f"{n}"} for n in range(130)]})
    seen: list[str] = []
    while messages := (await bob.sync(limit=50))["messages"]:
        seen += [message["body"] for message in messages]
        await bob.post("/messages/ack", {"ids": [message["id"] for message in messages]})
    assert seen == [f"{n}" for n in range(130)]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 500), min_size=1, max_size=8))
async def test_any_sizes_of_pages_walk_the_whole_mailbox(alice: Person, bob: Person, sizes: list[int]) -> None:
    if not (await bob.sync(limit=1))["messages"]:
        await alice.post("/messages/batch", {"messages": [{"to": "bob", "body": f"{n}"} for n in range(60)]})
    seen, cursor, at, more = [], "", 0, True
    while more:
        page = await bob.sync(limit=sizes[at % len(sizes)], cursor=cursor)
        seen += [message["body"] for message in page["messages"]]
        cursor, at, more = page["cursor"], at + 1, page["has_more"]
    assert seen == [f"{n}" for n in range(60)]


async def test_a_long_poll_ends_with_the_message(alice: Person, bob: Person) -> None:
    waiting = asyncio.create_task(bob.sync(wait=30))
    await eventually(lambda: bob.edge.service.parts.progress.watched)
    await alice.send(bob, "now")
    page = await asyncio.wait_for(waiting, 10)
    assert [message["body"] for message in page["messages"]] == ["now"]


async def test_a_long_poll_without_cursor_does_not_wait_past_unacknowledged_mail(alice: Person, bob: Person) -> None:
    await alice.send(bob, "there")
    page = await asyncio.wait_for(bob.sync(wait=30), 10)
    assert [message["body"] for message in page["messages"]] == ["there"]


async def test_a_long_poll_with_a_cursor_waits_for_what_comes_after_it(alice: Person, bob: Person) -> None:
    await alice.send(bob, "old")
    cursor = (await bob.sync())["cursor"]
    waiting = asyncio.create_task(bob.sync(wait=30, cursor=cursor))
    await eventually(lambda: bob.edge.service.parts.progress.watched)
    await alice.send(alice, "not his")
    await alice.send(bob, "new")
    page = await asyncio.wait_for(waiting, 10)
    assert [message["body"] for message in page["messages"]] == ["new"]


async def test_a_long_poll_that_gets_nothing_is_empty(bob: Person) -> None:
    page = await bob.sync(wait=0.05)
    assert page["messages"] == []


async def test_a_long_poll_ends_no_later_than_its_token(edge: Edge, bob: Person) -> None:
    edge.clock.now += bob.tokens["expires_in"] - 0.05
    page = await asyncio.wait_for(bob.sync(wait=30), 10)
    assert page["messages"] == []


async def test_long_polls_end_when_the_process_stops(edge: Edge, bob: Person) -> None:
    waiting = asyncio.create_task(bob.sync(wait=30))
    await eventually(lambda: edge.service.parts.progress.watched)
    edge.service.parts.phase.drain()
    assert (await asyncio.wait_for(waiting, 10))["messages"] == []


async def test_nobody_is_waited_for_after_a_long_poll(edge: Edge, bob: Person) -> None:
    await bob.sync(wait=0.02)
    assert not edge.service.parts.progress.watched


async def test_without_the_log_reads_are_503_unless_stale_will_do(edge: Edge, alice: Person, bob: Person) -> None:
    await alice.send(bob, "x")
    (message,) = (await bob.sync())["messages"]
    edge.log.away = True
    for answer in (
        await bob.get("/messages/sync"),
        await bob.post("/messages/ack", {"ids": [message["id"]]}),
        await bob.post("/messages/read", {"ids": [message["id"]]}),
        await bob.get(f"/messages/{message['id']}"),
        await bob.get(f"/messages/{message['id']}/trail"),
        await bob.post("/messages/status", {"ids": [message["id"]]}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (503, "log_unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
    page = await bob.sync(stale="ok", wait=30)
    assert (page["complete"], [one["id"] for one in page["messages"]]) == (False, [message["id"]])
    edge.log.away = False
    assert "complete" not in await bob.sync(stale="ok")


async def test_a_projection_that_does_not_catch_up_is_503_and_never_a_short_answer(
    edge: Edge, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.freshness.PATIENCE_SECONDS", 0.05)
    await edge.fold.stop()
    sent = (await alice.send(bob, "x")).json()["id"]
    for answer in (
        await bob.get("/messages/sync"),
        await bob.get("/messages/sync", params={"stale": "ok"}),
        await bob.post("/messages/ack", {"ids": [sent]}),
        await alice.get(f"/messages/{sent}"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (503, "projection_behind")
    edge.fold.start()
    monkeypatch.undo()
    assert await bob.bodies() == ["x"]


async def test_an_ack_that_the_log_does_not_take_is_503_and_acknowledges_nothing(
    edge: Edge, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    await alice.send(bob, "x")
    (message,) = await ids_in(bob)
    with monkeypatch.context() as broken:

        async def refuse(records: Any, *, partitions: Any = None) -> Any:
            from producers.log import LogUnavailable

            return [LogUnavailable("rejected", "away") for _ in records]

        broken.setattr(edge.log, "append_all", refuse)
        answer = await bob.post("/messages/ack", {"ids": [message]})
        assert (answer.status_code, answer.json()["code"], answer.json()["outcome"]) == (503, "log_unavailable", "rejected")
    assert await ids_in(bob) == [message]


async def test_two_processes_show_the_same_mailbox(edge: Edge, alice: Person, bob: Person, database_url: str) -> None:
    async with running(database_url, log=edge.log) as other:
        there = Person(other, "bob", bob.tokens)
        cursor = (await bob.sync())["cursor"]
        await alice.send(bob, "x")
        assert [one["body"] for one in (await there.sync(cursor=cursor))["messages"]] == ["x"]
        (message,) = await ids_in(bob)
        await there.post("/messages/ack", {"ids": [message]})
        assert await ids_in(bob) == []


async def test_every_post_is_shown_even_when_posts_and_syncs_race(edge: Edge, alice: Person, bob: Person) -> None:
    async def post_and_look(n: int) -> bool:
        sent = (await alice.send(bob, f"{n}")).json()["id"]
        return sent in await ids_in(bob)

    assert all(await asyncio.gather(*(post_and_look(n) for n in range(30))))
    assert len(facts(edge, MessageStored)) == 30
