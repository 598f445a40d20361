"""The long poll: it ends when something comes, or empty when its time is over."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.acceptance.answers import good
from tests.acceptance.people import Device, Message, bodies, ids, phone_of
from tests.acceptance.service import Service
from tests.eventually import soon


def test_ends_when_a_message_comes(alice: Device, bob: Device) -> None:
    cursor = bob.page()["cursor"]
    answers: list[Message] = []
    waiting = threading.Thread(target=lambda: answers.extend(bob.page(wait=30, cursor=cursor)["messages"]))
    waiting.start()
    message_id = alice.send(bob, "there you are")
    waiting.join(20)
    assert not waiting.is_alive(), "it was answered before its time was over"
    assert ids(answers) == [message_id]


def test_many_may_wait_and_only_the_addressed_is_answered(service: Service, alice: Device) -> None:
    people = [phone_of(service, "waiter") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        waits = [pool.submit(person.page, wait=3) for person in people]
        message_id = alice.send(people[2], "you")
        pages = [wait.result(20) for wait in waits]
    assert [ids(page["messages"]) for page in pages] == [[], [], [message_id], []]


def test_ends_empty_when_nothing_comes(bob: Device) -> None:
    page = bob.page(wait=1)
    assert (page["messages"], page["has_more"], page["pending"]) == ([], False, 0)
    assert bob.page(wait=0.3, cursor=page["cursor"])["cursor"] == page["cursor"]


def test_what_is_there_answers_at_once(service: Service, alice: Device, bob: Device) -> None:
    alice.send(bob, "old")
    answer = service.request("GET", "/messages/sync?wait=30", token=bob.token, timeout=httpx2.Timeout(20))
    assert bodies(good(answer)["messages"]) == ["old"]


def test_after_the_cursor_ignores_what_is_before_it(alice: Device, bob: Device) -> None:
    alice.send(bob, "old")
    cursor = bob.page()["cursor"]
    assert bob.page(cursor=cursor, wait=1)["messages"] == []
    assert bodies(bob.page()["messages"]) == ["old"]


def test_a_client_that_hangs_up_leaves_nothing_behind(service: Service, alice: Device, bob: Device) -> None:
    for _ in range(3):
        with pytest.raises(httpx2.ReadTimeout):
            service.request("GET", "/messages/sync?wait=30", token=bob.token, timeout=httpx2.Timeout(0.3))
    alice.send(bob, "still whole")
    assert bodies(soon(lambda: bob.page(wait=5)["messages"])) == ["still whole"]
