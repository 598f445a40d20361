"""The seed's story: Alice writes while Bob is away; days later he comes back, gets it, acknowledges it, reads it."""

from __future__ import annotations

from uuid import UUID

import pytest

from schemas.events import MessagesDelivered, MessagesRead, MessageStored, PendingSync, Via
from schemas.topics import LIFECYCLE
from tests.acceptance.answers import at_ms, good, identifier, moment, personal, problem
from tests.acceptance.log import BROKER_APPEND_TIME, record_at
from tests.acceptance.people import Device, phone_of
from tests.acceptance.service import Service
from tests.eventually import soon

BODY = "Dinner on Sunday? Привіт, \U0001f44b"
STATES = ["Created", "Stored", "DeliveryAttempted", "PendingSync", "Delivered", "Read"]


@pytest.fixture
def carol(service: Service) -> Device:
    """Somebody whom it does not concern."""
    return phone_of(service, "carol")


def waits(sender: Device, message_id: str) -> bool:
    """Whether the processor has found nobody there."""
    return bool(sender.status(message_id)["status"] == "PendingSync")


def test_signing_up_and_logging_in(service: Service) -> None:
    account = service.request("POST", "/accounts", json={"name": "dora.d_1-x", "password": "eight888"})
    made = good(account, 201)
    assert made.keys() == {"user_id", "name"}
    assert made["name"] == "dora.d_1-x"
    identifier(made["user_id"])

    again = {"name": "dora.d_1-x", "password": "something else"}
    problem(service.request("POST", "/accounts", json=again), "name_taken")

    login = {"name": "dora.d_1-x", "password": "eight888", "device": "Küche"}
    tokens = personal(service.request("POST", "/tokens", json=login))
    assert tokens.keys() == {"access_token", "token_type", "expires_in", "refresh_token", "user_id", "device_id"}
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == 900
    assert tokens["user_id"] == made["user_id"]
    identifier(tokens["device_id"])

    other = personal(service.request("POST", "/tokens", json={**login, "device": "laptop"}))
    same = personal(service.request("POST", "/tokens", json=login))
    assert other["device_id"] != tokens["device_id"] == same["device_id"], "a label is one device"

    for wrong in ({**login, "password": "eight889"}, {**login, "name": "nobody-of-that-name"}):
        problem(service.request("POST", "/tokens", json=wrong), "bad_credentials")


def test_the_story(alice: Device, bob: Device) -> None:
    accepted = alice.post(bob, BODY)
    answer = personal(accepted, 202)
    message_id = answer["id"]
    assert answer.keys() == {"id", "to", "status", "stored_at"}
    assert (answer["to"], answer["status"]) == (bob.name, "Stored")
    identifier(message_id)
    assert accepted.headers["location"] == f"/messages/{message_id}"
    assert "idempotency-replayed" not in accepted.headers

    soon(lambda: waits(alice, message_id), 30.0)

    page = bob.page()
    assert page.keys() == {"messages", "cursor", "has_more", "pending", "as_of"}
    assert (page["has_more"], page["pending"]) == (False, 1)
    moment(page["as_of"])
    (message,) = page["messages"]
    assert isinstance(message.pop("position"), int)
    assert message == {
        "id": message_id,
        "from": alice.name,
        "from_id": alice.person.user_id,
        "body": BODY,
        "content_type": "text/plain",
        "stored_at": answer["stored_at"],
        "status": "PendingSync",
    }
    assert bob.page()["messages"], "reading never acknowledges"

    assert bob.ack([message_id]) == {"acknowledged": [message_id], "already": [], "unknown": []}
    assert bob.page()["messages"] == []
    assert alice.status(message_id)["status"] == "Delivered"
    assert bob.read([message_id]) == {"acknowledged": [message_id], "already": [], "unknown": []}

    status = alice.status(message_id)
    times = ["created_at", "stored_at", "delivery_attempted_at", "pending_since", "delivered_at", "read_at"]
    assert status.keys() == {"id", "from", "to", "status", *times}
    assert (status["id"], status["from"], status["to"], status["status"]) == (message_id, alice.name, bob.name, "Read")
    # created_at is the API's clock and the others the broker's, which is the same machine here
    moments = [moment(status[name]) for name in times]
    assert moments == sorted(moments)
    assert status["stored_at"] == answer["stored_at"]

    seen_by_bob = bob.status(message_id)
    assert seen_by_bob.pop("devices") == [{"device_id": bob.device_id, "delivered_at": status["delivered_at"]}]
    assert seen_by_bob == status

    trail = alice.trail(message_id)
    assert trail.keys() == {"id", "events", "repeats"}
    assert (trail["id"], trail["repeats"]) == (message_id, [])
    assert [event["state"] for event in trail["events"]] == STATES
    assert [event["at"] for event in trail["events"]] == [status[name] for name in times]
    assert all(event["by"] for event in trail["events"])
    assert trail["events"][STATES.index("PendingSync")]["reason"] == "no_session"


def test_every_state_points_at_the_record_that_proves_it(service: Service, alice: Device, bob: Device) -> None:
    message_id = alice.send(bob, BODY)
    soon(lambda: waits(alice, message_id), 30.0)
    position = bob.page()["messages"][0]["position"]
    bob.ack([message_id])
    bob.read([message_id])
    trail = bob.trail(message_id)
    proofs = {event["state"]: (event, record_at(service, event["log"])) for event in trail["events"]}
    assert list(proofs) == STATES
    assert trail["attempts"] == []

    for state, (event, record) in proofs.items():
        assert event["log"]["topic"] == LIFECYCLE
        assert record.raw.timestamp_type == BROKER_APPEND_TIME
        assert record.raw.key == bob.person.user_id.encode()
        assert event["by"] == record.said.producer
        if state != "Created":
            assert at_ms(event["at"]) == record.raw.timestamp

    created, stored, attempted, pending, delivered, read = (record for _, record in proofs.values())
    assert created.raw.offset == stored.raw.offset == position, "one record proves both, and its place is the position"
    assert isinstance(stored.said, MessageStored)
    assert at_ms(proofs["Created"][0]["at"]) == stored.said.created_at_ms
    assert str(stored.said.message_id) == message_id
    assert str(stored.said.sender) == alice.person.user_id
    assert str(stored.said.sender_device) == alice.device_id
    assert BODY.encode() not in stored.raw.value, "bodies are in the log only encrypted"
    names = b"".join(record.raw.value for _, record in proofs.values())
    assert alice.name.encode() not in names, "only ids enter the log"

    assert attempted.raw.offset == pending.raw.offset
    assert isinstance(pending.said, PendingSync)
    assert (pending.said.message_id, pending.said.position) == (UUID(message_id), position)
    assert pending.said.causation_id == stored.said.event_id
    assert (pending.said.session_id, pending.said.sessions) == (None, ())
    waiting = proofs["PendingSync"][0]
    assert waiting["reason"] == pending.said.reason == "no_session"
    assert pending.said.policy in str(waiting["evidence"])

    assert isinstance(delivered.said, MessagesDelivered)
    assert isinstance(read.said, MessagesRead)
    for fact in (delivered.said, read.said):
        assert str(fact.device_id) == bob.device_id
        assert fact.via == Via.HTTP
        assert [(str(entry.message_id), entry.position) for entry in fact.entries] == [(message_id, position)]

    assert "evidence" not in str(alice.trail(message_id)), "evidence is the recipient's"


def test_the_records_carry_cloudevents_headers(service: Service, alice: Device, bob: Device) -> None:
    message_id = alice.send(bob, BODY)
    record = record_at(service, alice.trail(message_id)["events"][0]["log"])
    headers = dict(record.raw.headers)
    assert headers["ce_id"] == str(record.said.event_id).encode()
    assert headers["ce_type"] == b"restante.message_stored.v1"
    assert {"ce_specversion", "ce_source"} <= headers.keys()


def test_a_message_concerns_only_sender_and_recipient(alice: Device, bob: Device, carol: Device) -> None:
    message_id = alice.send(bob, "between us")
    for path in (f"/messages/{message_id}", f"/messages/{message_id}/trail"):
        problem(carol.call("GET", path), "message_unknown")
    asked = personal(carol.call("POST", "/messages/status", json={"ids": [message_id]}))
    assert asked == {"messages": [], "unknown": [message_id]}
    nothing = {"acknowledged": [], "already": [], "unknown": [message_id]}
    for stranger in (carol, alice):
        assert stranger.ack([message_id]) == stranger.read([message_id]) == nothing
    assert [message["id"] for message in bob.mailbox()] == [message_id], "nothing has changed"
    assert alice.status(message_id)["delivered_at"] is None


def test_an_early_ack_overtakes_the_processor_and_stays(alice: Device, bob: Device) -> None:
    ids = [alice.send(bob, f"quick {number}") for number in range(20)]
    bob.ack(ids)
    for message_id in ids:
        assert alice.status(message_id)["status"] == "Delivered"
        states = [event["state"] for event in alice.trail(message_id)["events"]]
        assert states == [state for state in STATES[:-1] if state in states], "in their order, each once"
        assert {"Created", "Stored", "Delivered"} <= set(states)


def test_what_the_service_says_of_itself(service: Service) -> None:
    for path in ("/health/live", "/health/ready", "/health"):
        good(service.request("GET", path))
    document = good(service.request("GET", "/openapi.json"))
    assert document["openapi"].startswith("3.1")
    calls = {"/accounts", "/tokens", "/messages", "/messages/batch", "/messages/sync", "/messages/ack", "/messages/read"}
    assert calls <= document["paths"].keys()
    assert service.request("GET", "/metrics").status_code == 404, "metrics are for the admin port"
