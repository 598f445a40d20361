"""Servers away, everything killed, an end under load. Whatever happens: 202 is kept, and the service comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from schemas.events import MessageStored
from tests.acceptance.answers import moment, personal, problem
from tests.acceptance.load import Load
from tests.acceptance.log import assert_decided_once, record_at
from tests.acceptance.people import Device, Message, bodies, ids, person, phone_of
from tests.acceptance.service import Service
from tests.eventually import soon

pytestmark = pytest.mark.long

LOG_PATIENCE = 6.5
"""Seconds a client waits for an answer while the log is away: the 5 of the contract, and some for a busy machine."""

DATABASE_PATIENCE = 15.0


@pytest.fixture(scope="module")
def mended() -> Iterator[list[Service]]:
    """Holds the service that these tests hurt one after the other."""
    kept: list[Service] = []
    yield kept
    for service in kept:
        service.remove()


@pytest.fixture
def hurt(mended: list[Service]) -> Service:
    """A service that is well. Every test must leave it so; where one has failed to, the next gets a new one."""
    if mended and not mended[0].healthy():
        mended.pop().remove()
    if not mended:
        mended.append(Service().start())
    return mended[0]


@pytest.fixture
def alice(hurt: Service) -> Device:
    return phone_of(hurt, "alice")


@pytest.fixture
def bob(hurt: Service) -> Device:
    return phone_of(hurt, "bob")


def away(service: Service, server: str, how: str) -> AbstractContextManager[None]:
    """The server is `killed` or `frozen` in the block, and comes back after it."""
    return service.killed(server) if how == "killed" else service.frozen(server)


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """A call to make while a server is away."""

    device: Device
    method: str
    path: str
    content: Any = None
    headers: dict[str, str] = field(default_factory=dict)


def ask_all(*asks: Ask, within: float) -> dict[Ask, httpx2.Response]:
    """Make all these calls at once; each client waits `within` seconds for its answer and no longer."""

    def made(ask: Ask) -> httpx2.Response:
        return ask.device.call(ask.method, ask.path, json=ask.content, headers=ask.headers, timeout=within)

    with ThreadPoolExecutor(len(asks)) as pool:
        return dict(zip(asks, pool.map(made, asks), strict=True))


HOW = pytest.mark.parametrize("how", ["frozen", "killed"])


class TestKafkaAway:
    @HOW
    def test_posts_say_so_and_reads_never_lie(self, hurt: Service, alice: Device, bob: Device, how: str) -> None:
        before = alice.send(bob, "before")
        assert ids(bob.mailbox()) == [before]
        lost = Ask(alice, "POST", "/messages", _to(bob, "lost?"))
        keyed = Ask(alice, "POST", "/messages", _to(bob, "settled"), {"Idempotency-Key": "settle me"})
        batch = Ask(alice, "POST", "/messages/batch", {"messages": [_to(bob, "one"), _to(bob, "two")]})
        reads = [Ask(bob, "GET", f"/messages/{path}") for path in ("sync", before, f"{before}/trail")]
        acks = [Ask(bob, "POST", f"/messages/{path}", {"ids": [before]}) for path in ("ack", "read", "status")]
        stale = Ask(bob, "GET", "/messages/sync?stale=ok")
        unfinished = {"name": bob.name, "password": bob.person.password, "device": "bought while the log was away"}
        login = Ask(bob, "POST", "/tokens", unfinished)
        with away(hurt, "kafka", how):
            said = ask_all(lost, keyed, batch, *reads, *acks, stale, login, within=LOG_PATIENCE)
            _says_why_it_is_not_well(hurt)
        problem(said[login], "log_unavailable")
        refusals = [problem(said[ask], "log_unavailable") for ask in (lost, keyed, batch)]
        assert {refusal["outcome"] for refusal in refusals} <= {"rejected", "unknown"}
        assert [result["problem"]["code"] for result in refusals[2]["results"]] == ["log_unavailable"] * 2
        for refusal in refusals[:2]:
            assert ("id" in refusal) == (refusal["outcome"] == "unknown")
        for ask in (*reads, *acks):
            problem(said[ask], "log_unavailable")
        page = personal(said[stale])
        assert (page["complete"], ids(page["messages"])) == (False, [before])
        moment(page["as_of"])

        hurt.becomes_healthy()
        assert alice.send(bob, "settled", key="settle me")
        assert alice.send(bob, "after")
        came = bob.drain()
        assert (bodies(came)[0], bodies(came)[-1], bodies(came).count("settled")) == ("before", "after", 1)
        assert all(bodies(came).count(doubtful) <= 1 for doubtful in ("lost?", "one", "two"))
        for message in came:
            if message["body"] == "lost?":
                assert message["id"] == refusals[0]["id"], "what was refused for certain does not come"
        assert "complete" not in bob.page(stale="ok")
        finished = bob.person.device(unfinished["device"])
        after = alice.send(bob, "for the new device, too")
        assert ids(finished.mailbox()) == [after], "the rest was acknowledged before it was registered"

    def test_under_load(self, hurt: Service) -> None:
        senders, recipients = _people(hurt)
        with Load(senders, recipients) as load:
            load.goes_on()
            with hurt.killed("kafka"):
                soon(lambda: not hurt.healthy(), 20.0)
            load.goes_on()
        _check(hurt, load, recipients)


class TestPostgresAway:
    @HOW
    def test_what_needs_no_database_goes_on(self, hurt: Service, alice: Device, bob: Device, how: str) -> None:
        stranger = person(hurt, "stranger")
        before = alice.send(bob, "before")
        assert ids(bob.mailbox()) == [before]
        unheard = Ask(alice, "POST", "/messages", _to(stranger.name, "x"))
        signup = Ask(alice, "POST", "/accounts", {"name": "x" + bob.name[:40], "password": "long enough"})
        login = Ask(bob, "POST", "/tokens", {"name": bob.name, "password": bob.person.password, "device": "phone"})
        reads = [Ask(bob, "GET", f"/messages/{path}") for path in ("sync", "sync?stale=ok", before, f"{before}/trail")]
        acks = [Ask(bob, "POST", f"/messages/{path}", {"ids": [before]}) for path in ("ack", "read", "status")]
        with away(hurt, "postgres", how):
            during = [alice.send(bob, f"during {number}") for number in range(5)]
            during.append(alice.send(bob, "with a key", key="k"))
            said = ask_all(unheard, signup, login, *reads, *acks, within=DATABASE_PATIENCE)
            _says_why_it_is_not_well(hurt)
        assert problem(said[unheard], "directory_unavailable")["outcome"] == "rejected"
        for ask in (signup, login):
            problem(said[ask], "directory_unavailable")
        for ask in (*reads, *acks):
            problem(said[ask], "projection_behind")

        hurt.becomes_healthy()
        assert alice.send(bob, "with a key", key="k") == during[-1]
        assert ids(bob.mailbox()) == [before, *during]
        assert bob.ack([before, *during])["acknowledged"] == [before, *during]
        assert alice.send(stranger.name, "x")

    def test_under_load(self, hurt: Service) -> None:
        senders, recipients = _people(hurt)
        with Load(senders, recipients) as load:
            load.goes_on()
            with hurt.killed("postgres"):
                load.goes_on()
        assert load.unknown == load.refused == {}, "posts to known recipients need no database"
        _check(hurt, load, recipients)


class TestReadersAway:
    def test_a_projector_that_stands_still_makes_no_answer_short(self, hurt: Service, alice: Device, bob: Device) -> None:
        with hurt.frozen("projector"):
            message_id = alice.send(bob, "unseen")
            for call in (("GET", "/messages/sync"), ("GET", f"/messages/{message_id}")):
                problem(bob.call(*call, timeout=LOG_PATIENCE), "projection_behind")
        assert ids(bob.drain()) == [message_id]

    def test_a_key_that_nobody_knows_yet_makes_a_rejected_repeat(self, hurt: Service, alice: Device, bob: Device) -> None:
        with hurt.frozen("projector"):
            first = alice.send(bob, "the first stays", key="k")
            hurt.kill("api")
            assert hurt.process("api").is_running()
            assert alice.send(bob, "the second does not count", key="k") == first
        assert [(message["id"], message["body"]) for message in bob.drain()] == [(first, "the first stays")]
        trail = alice.trail(first)
        assert [event["state"] for event in trail["events"]][:2] == ["Created", "Stored"]
        (repeat,) = trail["repeats"]
        written = record_at(hurt, repeat).said
        assert isinstance(written, MessageStored)
        assert str(written.message_id) == first
        assert repeat != trail["events"][1]["log"]

    def test_a_processor_that_stands_still_holds_up_nothing(self, hurt: Service, alice: Device, bob: Device) -> None:
        with hurt.frozen("processor"):
            first, second = alice.send(bob, "early"), alice.send(bob, "late")
            assert [message["status"] for message in bob.mailbox()] == ["Stored", "Stored"]
            bob.ack([first])
        soon(lambda: alice.status(second)["status"] == "PendingSync", 30.0)
        assert alice.status(first)["status"] == "Delivered", "a late decision changes nothing"
        assert "PendingSync" not in [event["state"] for event in alice.trail(first)["events"]]
        assert ids(bob.drain()) == [second]


@pytest.mark.parametrize("role", ["processor", "projector", "api"])
def test_a_role_killed_under_load(hurt: Service, role: str) -> None:
    senders, recipients = _people(hurt)
    with Load(senders, recipients) as load:
        load.goes_on()
        hurt.kill(role)
        load.goes_on()
        hurt.becomes_healthy()
        hurt.kill(role)
        load.goes_on()
    _check(hurt, load, recipients)


class TestEverythingKilled:
    def test_under_load(self, hurt: Service) -> None:
        senders, recipients = _people(hurt)
        with Load(senders, recipients, give_up=True) as load:
            load.goes_on(150)
            hurt.kill_everything()
        hurt.start()
        load.settle()
        _check(hurt, load, recipients)

    def test_in_the_middle_of_a_drain(self, hurt: Service, alice: Device, bob: Device) -> None:
        sent = alice.send_all(bob, [str(number) for number in range(600)])
        assert len(bob.mailbox()) == 600
        acked: list[str] = []
        doubtful: list[str] = []
        draining = threading.Thread(target=_drain_until_cut, args=(bob, acked, doubtful))
        draining.start()
        soon(lambda: len(acked) >= 100, 60.0)
        hurt.kill_everything()
        draining.join(60)
        assert len(acked) < 600, "it was killed in the middle"
        hurt.start()
        assert {alice.status(message_id)["status"] for message_id in acked[-3:]} == {"Delivered"}
        came = ids(bob.drain())
        assert set(came) & set(acked) == set(), "what was acknowledged does not come back"
        assert [message_id for message_id in sent if message_id not in {*acked, *doubtful}] == [
            message_id for message_id in came if message_id not in doubtful
        ], "what was not is there, once and in its order"
        assert len(set(came)) == len(came)
        assert set(came) <= set(sent)


def test_an_orderly_end_under_load(hurt: Service) -> None:
    senders, recipients = _people(hurt)
    with Load(senders, recipients, clients=16, give_up=True) as load:
        load.goes_on(150)
        assert hurt.stop() == 0
    assert not (hurt.data / "up.json").exists()
    hurt.start()
    came = _drained(recipients)
    load.assert_handed_over_once(came)
    assert set(bodies(came)) == load.accepted.keys(), "no message is half accepted"


def _says_why_it_is_not_well(service: Service) -> None:
    """GET /health becomes 503 with reasons for people."""
    unwell = soon(
        lambda: (said := service.request("GET", "/health")).status_code == 503 and said.json(), 15.0, "/health is 503"
    )
    assert unwell["reasons"]
    assert all(isinstance(reason, str) for reason in unwell["reasons"])


def _people(service: Service) -> tuple[list[Device], list[Device]]:
    return [phone_of(service, "sender") for _ in range(2)], [phone_of(service, "recipient") for _ in range(3)]


def _check(service: Service, load: Load, recipients: list[Device]) -> None:
    """After the storm: healthy by itself, all that was accepted there once, and decided once."""
    service.becomes_healthy()
    load.assert_handed_over_once(_drained(recipients))
    assert_decided_once(service, load)


def _drained(recipients: list[Device]) -> list[Message]:
    return [message for recipient in recipients for message in recipient.drain()]


def _drain_until_cut(device: Device, acked: list[str], doubtful: list[str]) -> None:
    """Drain in small pages until the service is gone; what was in the last ack is doubtful."""
    while True:
        try:
            page = ids(device.page(limit=20)["messages"])
            doubtful[:] = page
            device.ack(page)
        except (httpx2.TransportError, OSError, AssertionError):
            return
        acked += page
        doubtful.clear()


def _to(recipient: Device | str, body: str) -> dict[str, str]:
    return {"to": recipient if isinstance(recipient, str) else recipient.name, "body": body}
