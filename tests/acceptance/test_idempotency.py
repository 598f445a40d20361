"""The same key is the same message: at once, later, in a batch, through another process."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor

from tests.acceptance.answers import good, problem
from tests.acceptance.people import Device, bodies, phone_of
from tests.acceptance.service import Service


def test_the_same_key_is_the_same_message(alice: Device, bob: Device) -> None:
    first = alice.post(bob, "once", key="order-17")
    again = alice.post(bob, "once", key="order-17")
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert good(again, 202) == good(first, 202)
    assert again.headers["location"] == first.headers["location"]
    quoted = alice.post(bob, "once", key='"order-17"')
    assert good(quoted, 202) == good(first, 202), "enclosing quotes are not part of it"
    assert bodies(bob.mailbox()) == ["once"]


def test_other_content_is_a_conflict(alice: Device, bob: Device) -> None:
    alice.send(bob, "once", key="k")
    assert bodies(bob.mailbox()) == ["once"], "projected: from here on the conflict is certain"
    problem(alice.post(bob, "twice", key="k"), "idempotency_conflict")
    problem(alice.post(bob, "once", key="k", content_type="text/html"), "idempotency_conflict")
    problem(alice.post(bob, key="k", body_base64=base64.b64encode(b"twice").decode()), "idempotency_conflict")
    assert bodies(bob.mailbox()) == ["once"]


def test_it_belongs_to_a_sender_and_a_recipient(service: Service, alice: Device, bob: Device) -> None:
    carol = phone_of(service, "carol")
    sent = {alice.send(bob, "x", key="k"), alice.send(carol, "x", key="k"), carol.send(bob, "x", key="k")}
    assert len(sent) == 3
    assert len(bob.mailbox()) == 2
    laptop = alice.person.device("laptop")
    assert laptop.send(bob, "x", key="k") in sent, "any device of the sender"


def test_it_holds_after_the_message_was_handed_over(alice: Device, bob: Device) -> None:
    message_id = alice.send(bob, "once", key="k")
    bob.drain()
    assert alice.send(bob, "once", key="k") == message_id
    assert bob.mailbox() == []


def test_it_holds_in_another_process(service: Service, alice: Device, bob: Device) -> None:
    before = alice.post(bob, "once", key="k")
    service.kill("api")
    service.becomes_healthy()
    after = alice.post(bob, "once", key="k")
    assert good(after, 202) == good(before, 202)
    assert after.headers["idempotency-replayed"] == "true"
    problem(alice.post(bob, "twice", key="k"), "idempotency_conflict")
    assert bodies(bob.mailbox()) == ["once"]


def test_many_at_once_make_one_message(alice: Device, bob: Device) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: alice.post(bob, "once", key="k"), range(24)))
    assert len({good(answer, 202)["id"] for answer in answers}) == 1
    assert bodies(bob.mailbox()) == ["once"]


def test_a_key_is_1_to_255_printable_characters(alice: Device, bob: Device) -> None:
    content = {"to": bob.name, "body": "x"}
    for key in ("", '""', "x" * 256, b"\xff", "a\u200b".encode(), "a\u0085".encode()):
        answer = alice.call("POST", "/messages", json=content, headers={"Idempotency-Key": key})
        problem(answer, "invalid_request")
    assert bob.mailbox() == []
    assert alice.send(bob, "x", key="x" * 255)
