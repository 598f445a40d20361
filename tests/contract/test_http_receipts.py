"""GET /receipts: what became of the messages that the caller sent, each once, in order, complete, resumable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from producers.log import LogUnavailable
from producers.memory import MemoryLog
from projections.folds import TOLD
from schemas.partitions import partition_for
from schemas.topics import RECEIPTS
from tests import builders
from tests.edge import PARTITIONS, Edge, Person, running
from tests.eventually import eventually
from tests.memory_processor import MemoryProcessor

pytestmark = pytest.mark.anyio


@pytest.fixture
async def processor() -> AsyncIterator[MemoryProcessor]:
    async with MemoryLog(PARTITIONS) as log, MemoryProcessor(log) as running:
        yield running


@pytest.fixture
async def edge(database_url: str, processor: MemoryProcessor) -> AsyncIterator[Edge]:
    """One with a processor."""
    async with running(database_url, log=processor.log, committed=lambda: processor.committed()) as made:
        made.fold.start()
        yield made


async def receipts(person: Person, **query: Any) -> dict[str, Any]:
    answer = await person.get("/receipts", params=query)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


def told(page: dict[str, Any]) -> list[tuple[str, str]]:
    return [(receipt["message_id"], receipt["status"]) for receipt in page["receipts"]]


async def sent(sender: Person, recipient: Person, count: int = 1) -> list[str]:
    return [(await sender.send(recipient, f"{n}")).json()["id"] for n in range(count)]


async def acked(person: Person, *ids: str, path: str = "/messages/ack") -> None:
    answer = await person.post(path, {"ids": list(ids)})
    assert answer.status_code == 200, answer.text


def timers() -> int:
    """How many calls the event loop has been asked to make later."""
    return sum(not call.cancelled() for call in asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]


async def test_tells_who_sent_what_became_of_it(alice: Person, bob: Person) -> None:
    (message,) = await sent(alice, bob)
    assert await receipts(alice) == {
        "receipts": [],
        "cursor": (await receipts(alice))["cursor"],
        "has_more": False,
    }
    await acked(bob, message)
    await acked(bob, message, path="/messages/read")
    page = await receipts(alice)
    assert told(page) == [(message, "Delivered"), (message, "Read")]
    assert {receipt["to"] for receipt in page["receipts"]} == {"bob"}
    status = (await alice.get(f"/messages/{message}")).json()
    assert [receipt["at"] for receipt in page["receipts"]] == [status["delivered_at"], status["read_at"]]
    assert page["cursor"] == page["receipts"][-1]["cursor"]
    assert told(await receipts(bob)) == []


async def test_nothing_is_told_twice_and_delivered_does_not_follow_read(edge: Edge, alice: Person, bob: Person) -> None:
    laptop = await edge.person("bob", "laptop")
    first, second = await sent(alice, bob, 2)
    await acked(bob, first)
    await acked(laptop, first)
    await acked(bob, second, path="/messages/read")
    await acked(laptop, second)
    await acked(laptop, second, path="/messages/read")
    again = (await alice.get(f"/messages/{first}")).json()
    repeat = next(
        held.record
        for partition in range(PARTITIONS)
        for held in edge.log.held(RECEIPTS, partition)
        if str(held.record.message_id) == first  # type: ignore[union-attr]
    )
    await edge.log.append(repeat)
    assert again["status"] == "Delivered"
    assert told(await receipts(alice)) == [(first, "Delivered"), (second, "Read")]


async def test_is_resumed_from_any_cursor_by_any_device(edge: Edge, alice: Person, bob: Person) -> None:
    ids = await sent(alice, bob, 5)
    for message in ids:
        await acked(bob, message)
    laptop = await edge.person("alice", "laptop")
    page = await receipts(alice, limit=2)
    assert (told(page), page["has_more"]) == ([(one, "Delivered") for one in ids[:2]], True)
    page = await receipts(laptop, limit=3, cursor=page["cursor"])
    assert (told(page), page["has_more"]) == ([(one, "Delivered") for one in ids[2:]], False)
    rest = await receipts(alice, cursor=page["receipts"][0]["cursor"])
    assert told(rest) == [(one, "Delivered") for one in ids[3:]]
    assert (await receipts(alice, cursor=page["cursor"]))["cursor"] == page["cursor"]


async def test_now_is_the_end(alice: Person, bob: Person) -> None:
    old, new = await sent(alice, bob, 2)
    await acked(bob, old)
    start = await receipts(alice, cursor="now")
    assert (start["receipts"], start["has_more"]) == ([], False)
    await acked(bob, new)
    assert told(await receipts(alice, cursor=start["cursor"])) == [(new, "Delivered")]


async def test_whoever_never_sent_may_start_now_and_from_the_beginning(bob: Person) -> None:
    for cursor in ({}, {"cursor": ""}, {"cursor": "now"}):
        page = await receipts(bob, **cursor)
        assert (page["receipts"], page["has_more"]) == ([], False)
        assert (await receipts(bob, cursor=page["cursor"]))["cursor"] == page["cursor"]


async def test_cursors_of_others_and_of_other_kinds_are_refused(alice: Person, bob: Person) -> None:
    his, mailbox = (await receipts(bob))["cursor"], (await alice.sync())["cursor"]
    for cursor in (his, mailbox, "x", "NOW", his[:-1] + ("A" if his[-1] != "A" else "B")):
        answer = await alice.get("/receipts", params={"cursor": cursor})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor"), cursor
    answer = await bob.get("/messages/sync", params={"cursor": his})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor")


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "wait=31", "wait=-1", "stale=ok", "limit=x"])
async def test_what_is_out_of_range_is_422(alice: Person, query: str) -> None:
    answer = await alice.get(f"/receipts?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_the_recipients_name_is_null_once_he_is_erased(edge: Edge, alice: Person, bob: Person) -> None:
    (message,) = await sent(alice, bob)
    await acked(bob, message)
    await edge.database.run(b"UPDATE accounts.accounts SET erased_at = now() WHERE name = 'bob'")
    (receipt,) = (await receipts(alice))["receipts"]
    assert receipt["to"] is None


async def test_an_outcome_that_no_acknowledgement_brings_is_told_as_well(edge: Edge, alice: Person, bob: Person) -> None:
    sender, recipient = (UUID(person.tokens["user_id"]) for person in (alice, bob))
    await edge.log.append(builders.receipt(sender=sender, recipient=recipient, outcome=builders.Outcome.ERASED))
    assert told(await receipts(alice)) == [(str(builders.an_id("msg", 1)), "Erased")]


async def test_every_acknowledgement_that_was_answered_is_shown(edge: Edge, alice: Person, bob: Person) -> None:
    ids = await sent(alice, bob, 12)

    async def ack_and_look(message: str) -> bool:
        await acked(bob, message)
        return (message, "Delivered") in told(await receipts(alice))

    assert all(await asyncio.gather(*map(ack_and_look, ids)))


async def test_a_long_poll_ends_with_the_receipt(alice: Person, bob: Person) -> None:
    first, second = await sent(alice, bob, 2)
    await acked(bob, first)
    cursor = (await receipts(alice))["cursor"]
    waiting = asyncio.create_task(receipts(alice, wait=30, cursor=cursor))
    await eventually(lambda: alice.edge.service.parts.progress.watched)
    await acked(bob, second)
    assert told(await asyncio.wait_for(waiting, 10)) == [(second, "Delivered")]


async def test_a_long_poll_from_now_waits_for_what_comes(alice: Person, bob: Person) -> None:
    first, second = await sent(alice, bob, 2)
    await acked(bob, first)
    waiting = asyncio.create_task(receipts(alice, wait=30, cursor="now"))
    await eventually(lambda: alice.edge.service.parts.progress.watched)
    await acked(bob, second)
    assert told(await asyncio.wait_for(waiting, 10)) == [(second, "Delivered")]


async def test_long_polls_end_empty_with_their_time_their_token_and_the_process(edge: Edge, alice: Person) -> None:
    assert (await receipts(alice, wait=0.05))["receipts"] == []
    waiting = asyncio.create_task(receipts(alice, wait=30))
    await eventually(lambda: edge.service.parts.progress.watched)
    edge.service.parts.phase.drain()
    assert (await asyncio.wait_for(waiting, 10))["receipts"] == []
    edge.service.parts.phase.draining.clear()
    edge.clock.now += alice.tokens["expires_in"] - 0.05
    assert (await asyncio.wait_for(receipts(alice, wait=30), 10))["receipts"] == []
    assert not edge.service.parts.progress.watched


async def test_who_waits_is_asked_for_by_his_own_arrivals_only(
    edge: Edge, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing runs for a waiting client: each asks the projection once, whatever comes for others, and once when woken."""
    asked: list[str] = []
    page, told_to = edge.service.parts.reads.page, edge.service.parts.reads.receipts
    waiters = [await edge.person(f"waiter{number}") for number in range(10)]
    with monkeypatch.context() as spied:
        spied.setattr("projections.reads.Reads.page", lambda _, *a, **k: asked.append("page") or page(*a, **k))
        spied.setattr("projections.reads.Reads.receipts", lambda _, *a, **k: asked.append("told") or told_to(*a, **k))
        before = timers()
        polls = [asyncio.create_task(person.sync(wait=30)) for person in waiters]
        polls += [asyncio.create_task(receipts(person, wait=30)) for person in waiters]
        await eventually(lambda: edge.service.parts.progress.watched == len(polls))
        await acked(bob, *await sent(alice, bob, 10))
        assert len(told(await receipts(alice))) == 10
        assert sorted(asked) == ["page"] * 10 + ["told"] * 11
        assert timers() - before <= len(polls) + 5
        (message,) = await sent(waiters[0], waiters[1])
        await acked(waiters[1], message)
        assert [one["id"] for one in (await polls[1])["messages"]] == [message]
        assert told(await polls[10]) == [(message, "Delivered")]
        assert sorted(asked) == ["page"] * 11 + ["told"] * 12
        edge.service.parts.phase.drain()
        await asyncio.gather(*polls)
        assert len(asked) == 23, "an end is no reason to look again"


async def test_an_answer_waits_for_the_processor(
    edge: Edge, processor: MemoryProcessor, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    (message,) = await sent(alice, bob)
    await receipts(alice)
    await processor.stop()
    await acked(bob, message)
    with monkeypatch.context() as impatient:
        impatient.setattr("api.freshness.PATIENCE_SECONDS", 0.1)
        answer = await alice.get("/receipts")
    assert (answer.status_code, answer.json()["code"]) == (503, "projection_behind")
    assert int(answer.headers["Retry-After"]) >= 1
    waiting = asyncio.create_task(receipts(alice))
    processor.start()
    assert told(await waiting) == [(message, "Delivered")]


async def test_an_answer_waits_for_the_projector(
    edge: Edge, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    (message,) = await sent(alice, bob)
    await receipts(alice)
    await edge.fold.stop(TOLD)
    await acked(bob, message)
    with monkeypatch.context() as impatient:
        impatient.setattr("api.freshness.PATIENCE_SECONDS", 0.1)
        answer = await alice.get("/receipts")
    assert (answer.status_code, answer.json()["code"]) == (503, "projection_behind")
    waiting = asyncio.create_task(receipts(alice))
    edge.fold.start(TOLD)
    assert told(await waiting) == [(message, "Delivered")]


async def test_a_projection_that_went_back_gives_no_short_answer(
    edge: Edge, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    (message,) = await sent(alice, bob)
    await acked(bob, message)
    assert told(await receipts(alice)) == [(message, "Delivered")]
    await edge.fold.stop(TOLD)
    await edge.database.run(b"TRUNCATE receipts")
    await edge.database.run(b"DELETE FROM offsets WHERE topic = 'restante.receipts'")
    monkeypatch.setattr("api.freshness.PATIENCE_SECONDS", 0.1)
    answer = await alice.get("/receipts", params={"limit": 1})
    assert (answer.status_code, answer.json()["code"]) == (503, "projection_behind")


async def test_without_the_log_it_is_503(edge: Edge, alice: Person) -> None:
    edge.log.away = True
    answer = await alice.get("/receipts")
    assert (answer.status_code, answer.json()["code"]) == (503, "log_unavailable")


async def test_a_log_that_does_not_say_how_far_the_processors_are_is_503(
    edge: Edge, processor: MemoryProcessor, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent() -> dict[int, int]:
        raise LogUnavailable("rejected", "away")

    monkeypatch.setattr("api.freshness.PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(processor, "committed", silent)
    await edge.person("alice", "laptop")
    answer = await alice.get("/receipts")
    assert (answer.status_code, answer.json()["code"]) == (503, "log_unavailable")


async def test_live_receipts_are_those_of_the_pages(edge: Edge, alice: Person, bob: Person) -> None:
    source, user = edge.service.receipts, UUID(alice.tokens["user_id"])
    first, second = await sent(alice, bob, 2)
    await acked(bob, first)
    page = await receipts(alice)
    start, woken = await source.now(user), asyncio.Event()
    assert start == edge.log.ends_of(RECEIPTS)[partition_for(user, PARTITIONS)] - 1
    assert await source.after(user, start, 10) == []
    with source.watch(user, woken.set):
        await acked(bob, second)
        await asyncio.wait_for(woken.wait(), 10)
    ((position, frame),) = await source.after(user, start, 10)
    assert (str(frame.message_id), frame.status, frame.to) == (second, "Delivered", "bob")
    assert source.position(user, frame.cursor) == position
    assert (source.position(user, "now"), source.position(user, page["cursor"])) == (None, start)
    (shown,) = (await receipts(alice, cursor=page["cursor"]))["receipts"]
    assert shown == {name: str(value) for name, value in ((n, getattr(frame, n)) for n in shown)}


async def test_live_receipts_begin_at_the_end_of_the_log_whatever_is_folded(edge: Edge, alice: Person, bob: Person) -> None:
    user = UUID(alice.tokens["user_id"])
    first, second = await sent(alice, bob, 2)
    await acked(bob, first)
    await receipts(alice)
    await edge.fold.stop(TOLD)
    await acked(bob, second)
    await eventually(lambda: edge.log.ends_of(RECEIPTS)[partition_for(user, PARTITIONS)] == 2)
    assert await edge.service.receipts.now(user) == 1
