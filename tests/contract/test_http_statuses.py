"""Where a message is, and the records that prove it."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from schemas.events import DeliveryAttempted, PendingReason, PendingSync, SessionClosed, SessionSeen
from schemas.events import EndReason as End
from schemas.ids import derived_id
from tests.edge import Edge, Person

pytestmark = pytest.mark.anyio


async def sent(sender: Person, to: Person, body: str = "x", key: str | None = None) -> str:
    answer = await sender.send(to, body, key)
    assert answer.status_code == 202
    said: str = answer.json()["id"]
    return said


def position_of(edge: Edge, message_id: str) -> tuple[int, int]:
    """Partition and offset of the record that stored a message."""
    for partition in range(edge.log.partitions):
        for recorded in edge.log.records(partition):
            if str(getattr(recorded.fact, "message_id", "")) == message_id:
                return partition, recorded.place.offset
    raise LookupError(message_id)


async def decide_pending(edge: Edge, owner: Person, message_id: str) -> None:
    """What the processor does for somebody who is away."""
    _, position = position_of(edge, message_id)
    fact = PendingSync(
        event_id=derived_id(b"pending", message_id.encode()),
        producer="processor/test",
        recipient=UUID(owner.tokens["user_id"]),
        message_id=UUID(message_id),
        position=position,
        reason=PendingReason.NO_SESSION,
        session_id=None,
        sessions=(),
        policy="1",
    )
    await edge.log.append(fact)


async def test_the_whole_story(edge: Edge, alice: Person, bob: Person) -> None:
    message = await sent(alice, bob)
    await decide_pending(edge, bob, message)
    assert (await bob.sync())["messages"][0]["status"] == "PendingSync"
    await bob.post("/messages/ack", {"ids": [message]})
    await bob.post("/messages/read", {"ids": [message]})
    status = (await bob.get(f"/messages/{message}")).json()
    assert (status["from"], status["to"], status["status"]) == ("alice", "bob", "Read")
    times = ["created_at", "stored_at", "delivery_attempted_at", "pending_since", "delivered_at", "read_at"]
    assert all(status[name].endswith("Z") for name in times)
    assert status["delivery_attempted_at"] == status["pending_since"]
    assert [device["device_id"] for device in status["devices"]] == [bob.tokens["device_id"]]
    trail = (await bob.get(f"/messages/{message}/trail")).json()
    states = [event["state"] for event in trail["events"]]
    assert states == ["Created", "Stored", "DeliveryAttempted", "PendingSync", "Delivered", "Read"]
    partition, offset = position_of(edge, message)
    assert (
        trail["events"][0]["log"]
        == trail["events"][1]["log"]
        == {
            "topic": "restante.lifecycle",
            "partition": partition,
            "offset": offset,
        }
    )
    assert trail["events"][2]["log"] == trail["events"][3]["log"]
    assert len({event["log"]["offset"] for event in trail["events"]}) == 4
    assert trail["events"][3]["reason"] == "no_session"
    assert trail["events"][3]["by"] == "processor/test"
    assert trail["events"][3]["evidence"]["policy"] == "1"
    assert trail["attempts"] == trail["repeats"] == []


async def test_a_fresh_message_is_stored_and_nothing_else_yet(alice: Person, bob: Person) -> None:
    message = await sent(alice, bob)
    status = (await alice.get(f"/messages/{message}")).json()
    assert status["status"] == "Stored"
    nothing = ["delivery_attempted_at", "pending_since", "delivered_at", "read_at"]
    assert [status[name] for name in nothing] == [None] * 4


async def test_a_sender_finds_what_was_just_accepted_wherever_it_lies(edge: Edge, alice: Person) -> None:
    partitions = set()
    for n in range(12):
        other = await edge.person(f"user{n}")
        message = await sent(alice, other)
        partitions.add(position_of(edge, message)[0])
        assert (await alice.get(f"/messages/{message}")).json()["status"] == "Stored"
    assert len(partitions) > 1


async def test_the_sender_does_not_see_devices_evidence_or_attempts(edge: Edge, alice: Person, bob: Person) -> None:
    message = await sent(alice, bob)
    await decide_pending(edge, bob, message)
    await bob.post("/messages/ack", {"ids": [message]})
    status = (await alice.get(f"/messages/{message}")).json()
    assert status["status"] == "Delivered"
    assert "devices" not in status
    trail = (await alice.get(f"/messages/{message}/trail")).json()
    assert "attempts" not in trail
    assert not any("evidence" in event for event in trail["events"])
    assert trail["events"][3]["reason"] == "no_session"


async def test_to_anybody_else_it_does_not_exist(edge: Edge, alice: Person, bob: Person) -> None:
    message, carol = await sent(alice, bob), await edge.person("carol")
    answers = []
    for path in (f"/messages/{message}", f"/messages/{uuid4()}", "/messages/x", f"/messages/{message.upper()}"):
        for tail in ("", "/trail"):
            answer = await carol.get(path + tail)
            said: dict[str, Any] = answer.json()
            said.pop("request_id")
            answers.append((answer.status_code, said))
    assert answers[0][1]["code"] == "message_unknown"
    assert all(answer == answers[0] for answer in answers)


async def test_several_at_once(edge: Edge, alice: Person, bob: Person) -> None:
    one, two = await sent(alice, bob), await sent(bob, alice)
    nobodys, theirs = str(uuid4()), await sent(bob, bob)
    answer = await alice.post("/messages/status", {"ids": [two, nobodys, one, theirs, one]})
    said = answer.json()
    assert [status["id"] for status in said["messages"]] == [two, one]
    assert said["unknown"] == [nobodys, theirs]
    assert ["devices" in status for status in said["messages"]] == [True, False]


async def test_an_erased_name_is_null(edge: Edge, alice: Person, bob: Person) -> None:
    message = await sent(alice, bob)
    await edge.database.run(b"UPDATE accounts.accounts SET erased_at = now() WHERE name = 'alice'")
    assert (await bob.sync())["messages"][0]["from"] is None
    assert (await bob.get(f"/messages/{message}")).json()["from"] is None


async def test_a_push_and_what_came_of_it_is_the_recipients_to_see(edge: Edge, alice: Person, bob: Person) -> None:
    message = await sent(alice, bob)
    recipient, device, session = UUID(bob.tokens["user_id"]), UUID(bob.tokens["device_id"]), uuid4()
    _, position = position_of(edge, message)
    seen = SessionSeen(session_id=session, device_id=device, gateway="g", epoch=0, live=True)
    common = {"producer": "processor/test", "recipient": recipient}
    pushed = DeliveryAttempted(
        event_id=uuid4(), message_id=UUID(message), position=position, sessions=(seen,), policy="1", **common
    )
    await edge.log.append(pushed)
    await edge.log.append(
        SessionClosed(event_id=uuid4(), session_id=session, device_id=device, reason=End.ACK_TIMEOUT, **common)
    )
    (attempt,) = (await bob.get(f"/messages/{message}/trail")).json()["attempts"]
    assert (attempt["device_id"], attempt["session"], attempt["result"]) == (str(device), str(session), "ack_timeout")
    assert attempt["log"]["topic"] == "restante.lifecycle"


async def test_a_rejected_repeat_shows_in_the_trail(
    edge: Edge, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = await sent(alice, bob, "first", key="k")
    edge.service.messages._intake._replays._recent.clear()

    async def nothing(*asked: Any, **more: Any) -> dict[UUID, Any]:
        return {}

    with monkeypatch.context() as blind:
        blind.setattr(edge.service.parts.reads, "stored_all", nothing)
        assert await sent(alice, bob, "second", key="k") == message
    assert await bob.bodies() == ["first"]
    (repeat,) = (await bob.get(f"/messages/{message}/trail")).json()["repeats"]
    assert repeat["offset"] > position_of(edge, message)[1]
