"""An account is erased by its owner, on a real service: everybody hears of it, and nothing of it can be read."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from tests.acceptance.answers import problem
from tests.acceptance.people import Device, phone_of
from tests.acceptance.service import Service
from tests.acceptance.sockets import Socket
from tests.eventually import soon


@pytest.fixture
def sender(service: Service) -> Device:
    """Somebody who was never told anything."""
    return phone_of(service, "sender")


def asked(service: Service, statement: str, *given: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(service.facts["database_url"], autocommit=True) as connection:
        return connection.execute(statement, given).fetchall()


def erase(device: Device) -> None:
    answer = device.call("DELETE", "/accounts/me")
    assert (answer.status_code, answer.content) == (204, b""), answer.text


def told(device: Device) -> list[tuple[str, str]]:
    return [(receipt["message_id"], receipt["status"]) for receipt in device.receipts(limit=500)["receipts"]]


def test_the_story(service: Service, sender: Device, bob: Device) -> None:
    had, *left = sender.send_all(bob, [f"{number}" for number in range(4)])
    bob.ack([had])
    bob.send(sender, "from bob")
    ((key,),) = asked(service, "SELECT wrapped_key FROM accounts.accounts WHERE user_id = %s", bob.person.user_id)
    with Socket(bob.person.device("laptop")) as socket, Socket(sender, receipts_from="now") as listening:
        erase(bob)
        assert socket.closed(within=5) == (4401, "token_revoked")
        assert {listening.take("receipt")["message_id"] for _ in left} == set(left)
    problem(bob.call("GET", "/messages/sync"), "token_revoked")
    problem(sender.post(bob, "too late"), "recipient_unknown")
    problem(sender.call("GET", f"/presence/{bob.name}"), "presence_unknown")
    login = {"name": bob.name, "password": bob.person.password, "device": "phone"}
    problem(service.request("POST", "/tokens", json=login), "bad_credentials")
    sign_up = {"name": bob.name, "password": "some other password"}
    problem(service.request("POST", "/accounts", json=sign_up), "name_taken")
    assert told(sender) == [(had, "Delivered"), *((message, "Erased") for message in left)]
    assert [sender.status(message)["status"] for message in (had, *left)] == ["Delivered", *["Erased"] * 3]
    (kept,) = sender.mailbox()
    assert (kept["body"], kept["from"], kept["from_id"]) == ("from bob", None, bob.person.user_id)
    assert asked(service, "SELECT count(*) FROM accounts.accounts WHERE wrapped_key = %s", key) == [(0,)]
    audited = service.command("audit", "--user", bob.person.user_id, "--json")
    assert audited.returncode == 0, audited.stdout + audited.stderr


def test_what_is_sent_while_the_account_is_erased_has_one_end(service: Service, sender: Device, bob: Device) -> None:
    """Each POST is refused, or its message ends as Erased and its sender is told, once."""
    refused, accepted = threading.Event(), list[str]()

    def send() -> None:
        while not refused.is_set():
            answer = sender.post(bob, "x")
            if answer.status_code == 202:
                accepted.append(answer.json()["id"])
            else:
                problem(answer, "recipient_unknown")
                refused.set()

    sending = [threading.Thread(target=send) for _ in range(3)]
    for one in sending:
        one.start()
    soon(lambda: len(accepted) > 30)
    erase(bob)
    for one in sending:
        one.join(20)
    assert refused.is_set()
    soon(lambda: sorted(told(sender)) == sorted((message, "Erased") for message in accepted), 45, "all are told")
    statuses = sender.call("POST", "/messages/status", json={"ids": accepted[-500:]}).json()["messages"]
    assert {message["status"] for message in statuses} == {"Erased"}
    audited = service.command("audit", "--user", bob.person.user_id, "--json")
    assert audited.returncode == 0, audited.stdout + audited.stderr
    assert f'"Erased": {len(accepted)}' in audited.stdout
