"""What senders are told, by a real service: complete at once, each once, whatever is killed in between."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.acceptance.answers import problem
from tests.acceptance.people import Device, phone_of
from tests.acceptance.service import Service
from tests.eventually import soon


@pytest.fixture
def sender(service: Service) -> Device:
    """Somebody who was never told anything."""
    return phone_of(service, "sender")


def told(page: dict[str, Any]) -> list[tuple[str, str]]:
    return [(receipt["message_id"], receipt["status"]) for receipt in page["receipts"]]


def everything(device: Device, limit: int = 500) -> list[tuple[str, str]]:
    page = device.receipts(limit=limit)
    found = told(page)
    while page["has_more"]:
        page = device.receipts(limit=limit, cursor=page["cursor"])
        found += told(page)
    return found


def acked(device: Device, ids: list[str]) -> bool:
    return device.call("POST", "/messages/ack", json={"ids": ids}).status_code == 200


def test_an_acknowledgement_that_was_answered_is_told(sender: Device, bob: Device) -> None:
    for number in range(20):
        message_id = sender.send(bob, f"{number}")
        bob.ack([message_id])
        assert told(sender.receipts(limit=500))[-1] == (message_id, "Delivered")
        bob.read([message_id])
        assert told(sender.receipts(limit=500))[-1] == (message_id, "Read")


def test_from_many_recipients_in_one_order_for_all_devices(service: Service, sender: Device) -> None:
    people = [phone_of(service, "reader") for _ in range(5)]
    ids = [message_id for person in people for message_id in sender.send_all(person, [f"{n}" for n in range(40)])]
    for person in people:
        assert len(person.drain(limit=7)) == 40
    found = everything(sender, limit=33)
    assert sorted(found) == sorted((message_id, "Delivered") for message_id in ids)
    assert everything(sender.person.device("laptop"), limit=500) == found


def test_a_long_poll_ends_with_the_receipt_and_now_is_the_end(sender: Device, bob: Device) -> None:
    old, new = sender.send(bob, "old"), sender.send(bob, "new")
    bob.ack([old])
    cursor = sender.receipts(cursor="now")["cursor"]
    assert sender.receipts(cursor=cursor, wait=0.3) == {"receipts": [], "cursor": cursor, "has_more": False}
    pages: list[dict[str, Any]] = []
    waiting = threading.Thread(target=lambda: pages.append(sender.receipts(cursor=cursor, wait=30)))
    waiting.start()
    bob.ack([new])
    waiting.join(20)
    assert not waiting.is_alive(), "it was answered before its time was over"
    assert told(pages[0]) == [(new, "Delivered")]


def test_cursors_stay_with_their_owner(sender: Device, bob: Device) -> None:
    mine = sender.receipts()["cursor"]
    problem(bob.call("GET", "/receipts", params={"cursor": mine}), "bad_cursor")
    problem(sender.call("GET", "/messages/sync", params={"cursor": mine}), "bad_cursor")
    problem(sender.call("GET", "/receipts", params={"cursor": sender.page()["cursor"]}), "bad_cursor")


@pytest.mark.parametrize("role", ["processor", "projector"])
def test_each_once_whoever_is_killed(service: Service, sender: Device, bob: Device, role: str) -> None:
    ids = sender.send_all(bob, [f"{n}" for n in range(200)])
    for start in range(0, 200, 20):
        soon(lambda ids=ids[start : start + 20]: acked(bob, ids), 60, "acknowledged")  # type: ignore[misc]
        if start in (60, 120):
            service.kill(role)
    soon(lambda: sender.call("GET", "/receipts").status_code == 200, 60, "answers are complete again")
    assert everything(sender) == [(message_id, "Delivered") for message_id in ids]
    bob.read(ids)
    soon(lambda: sender.call("GET", "/receipts").status_code == 200, 60, "answers are complete again")
    assert everything(sender)[200:] == [(message_id, "Read") for message_id in ids]


def test_while_nobody_decides_there_is_no_short_answer(service: Service, sender: Device, bob: Device) -> None:
    message_id = sender.send(bob, "x")
    sender.receipts()
    with service.frozen("processor"):
        bob.ack([message_id])
        problem(sender.call("GET", "/receipts"), "projection_behind")
    soon(lambda: sender.call("GET", "/receipts").status_code == 200, 60, "answers are complete again")
    assert told(sender.receipts()) == [(message_id, "Delivered")]
