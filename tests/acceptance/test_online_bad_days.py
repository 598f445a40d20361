"""Bad days of those who are there: servers away, roles killed, replaced and woken, a rolling restart.

An outage lasts as long as a run of all tests allows. `ONLINE_FULL=1 pytest tests/acceptance/test_online_bad_days.py` gives
the broker 60 s and PostgreSQL 20 s, and has both not only stand still but also die.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.acceptance.beside import beside
from tests.acceptance.listeners import Crowd
from tests.acceptance.load import Load
from tests.acceptance.people import Device, pending_because, person, phone_of
from tests.acceptance.service import Service
from tests.acceptance.sockets import Socket
from tests.eventually import soon

FULL = bool(os.environ.get("ONLINE_FULL"))
pytestmark = [pytest.mark.long, pytest.mark.timeout(600 if FULL else 300)]

PEOPLE, DEVICES_EACH = 20, 10
BROKER_AWAY, DATABASE_AWAY = (60.0, 20.0) if FULL else (12.0, 8.0)
HOW = pytest.mark.parametrize("how", ["frozen", "killed"] if FULL else ["frozen"])
CALM = 0.1
"""Seconds between two messages of a client where each goes to many devices."""


@pytest.fixture(scope="module")
def _residents() -> Iterator[dict[Service, list[list[Device]]]]:
    yield {}


@pytest.fixture
def residents(quick: Service, _residents: dict[Service, list[list[Device]]]) -> list[list[Device]]:
    """The devices of each of 20 people."""

    def moves_in(_: int) -> list[Device]:
        resident = person(quick, "resident").logs_in_for_nothing()
        return [resident.device(f"device {number}") for number in range(DEVICES_EACH)]

    if quick not in _residents:
        with ThreadPoolExecutor(4) as pool:
            _residents[quick] = list(pool.map(moves_in, range(PEOPLE)))
    return _residents[quick]


@pytest.fixture
def phones(residents: list[list[Device]]) -> list[Device]:
    """One device of each."""
    return [devices[0] for devices in residents]


@pytest.fixture
def alice(quick: Service) -> Device:
    return phone_of(quick, "alice")


@contextmanager
def lasting(seconds: float) -> Iterator[None]:
    """The block takes so many seconds at least: an outage has a length, whatever is seen while it lasts."""
    end = time.monotonic() + seconds
    yield
    threading.Event().wait(max(0.0, end - time.monotonic()))


def away(service: Service, server: str, how: str) -> AbstractContextManager[None]:
    """The server is `killed` or `frozen` in the block, and comes back after it."""
    return service.killed(server) if how == "killed" else service.frozen(server)


def check(crowd: Crowd, load: Load, recipients: Sequence[Device]) -> None:
    """After the storm: what was accepted has come to each device and is acknowledged, nothing twice, in order."""
    load.settle()
    crowd.has(load.accepted_for, within=90.0)
    crowd.assert_faithful()
    one_of_each = {listener.device.name: listener for listener in crowd.listeners}
    load.assert_handed_over_once([message for listener in one_of_each.values() for message in listener.came])
    for recipient in recipients:
        soon(lambda recipient=recipient: recipient.page(limit=1)["messages"] == [], 20.0, "the mailbox is empty")


class TestServersAway:
    @HOW
    def test_the_broker(self, quick: Service, alice: Device, residents: list[list[Device]], how: str) -> None:
        everybody = [device for devices in residents for device in devices]
        recipients = [devices[0] for devices in residents]
        with Crowd(everybody) as crowd, Load([alice], recipients, clients=4, each=10**6, pace=CALM) as load:
            crowd.all_there()
            load.goes_on(40)
            with away(quick, "kafka", how), lasting(BROKER_AWAY):
                pass
            load.goes_on(40)
            load.stop()
            check(crowd, load, recipients[:3])
            crowd.assert_nobody_left()

    @HOW
    def test_the_database(self, quick: Service, alice: Device, residents: list[list[Device]], how: str) -> None:
        everybody = [device for devices in residents for device in devices[:4]]
        recipients = [devices[0] for devices in residents]
        with Crowd(everybody) as crowd, Load([alice], recipients, clients=4, each=10**6, pace=CALM) as load:
            crowd.all_there()
            load.goes_on(40)
            before = {one.device.device_id: len(one.seen) for one in crowd.listeners}
            with away(quick, "postgres", how), lasting(DATABASE_AWAY):
                load.goes_on(40)
                soon(lambda: all(len(one.seen) > before[one.device.device_id] for one in crowd.listeners), 30.0)
            load.goes_on(40)
            load.stop()
            check(crowd, load, recipients[:3])
            crowd.assert_nobody_left()


@pytest.mark.parametrize("role", ["api", "processor", "projector"])
def test_a_role_killed_at_the_worst_moments(quick: Service, alice: Device, phones: list[Device], role: str) -> None:
    """Before the push, between push and acknowledgement, in the middle of a drain and at its end: all at the same kill."""
    draining, drained, in_flight, addressed, *others = phones
    alice.send_all(draining, [f"waits {number}" for number in range(600)])
    alice.send_all(drained, [f"waits {number}" for number in range(100)])
    waiting = {device.name: {message["id"] for message in device.mailbox()} for device in (draining, drained)}
    with Crowd(phones) as crowd, Load([alice], others, clients=4, each=10**6, pace=CALM / 4) as load:
        by_name = {listener.device.name: listener for listener in crowd.listeners}
        for device in (draining, drained, in_flight):
            by_name[device.name].holds = True
        soon(lambda: len(crowd.absent()) <= 1, 60.0, "all but one are there")
        load.goes_on(40)
        waiting[in_flight.name] = {alice.send(in_flight, "in flight")}
        soon(lambda: len(by_name[in_flight.name].came) == 1, 20.0, "it is pushed and not acknowledged")
        soon(lambda: len(by_name[draining.name].came) >= 256, 20.0, "the drain is under way")
        assert not by_name[draining.name].there
        soon(lambda: len(by_name[drained.name].came) == 100, 20.0, "the drain is at its end")
        processor = quick.process("processor")
        processor.suspend()
        waiting[addressed.name] = {alice.send(addressed, "accepted and not pushed")}
        if role == "processor":
            processor.kill()
        else:
            quick.kill(role)
            processor.resume()
        for device in (draining, drained, in_flight):
            by_name[device.name].holds = False
        crowd.has(waiting, within=90.0)
        load.goes_on(40)
        load.stop()
        load.settle()
        crowd.all_there()
        crowd.has(load.accepted_for, within=90.0)
        crowd.assert_faithful()
    quick.becomes_healthy()
    if role != "api":
        assert {len(listener.visits) for listener in crowd.listeners if listener.device in others} == {1}, crowd.codes()
    assert [phone.page(limit=1)["messages"] for phone in phones] == [[]] * len(phones)


def test_workers_that_come_go_and_wake_as_zombies(quick: Service, alice: Device, phones: list[Device]) -> None:
    with Crowd(phones) as crowd, Load([alice], phones, clients=4, each=10**6, pace=CALM / 2) as load:
        crowd.all_there()
        load.goes_on(40)
        with beside(quick, "processor"):
            load.goes_on(40)
            crowd.has(load.accepted_for)
            first = quick.process("processor")
            first.suspend()
            try:
                sent = [alice.send(phone, "decided by the second") for phone in phones]
                soon(lambda: all(alice.status(one)["status"] == "Delivered" for one in sent), 60.0, "the second took over")
                load.goes_on(40)
            finally:
                first.resume()
            load.goes_on(40)
            crowd.has(load.accepted_for)
        load.goes_on(40)
        load.stop()
        crowd.has(load.accepted_for)
        crowd.assert_faithful()
        crowd.assert_nobody_left()
    quick.becomes_healthy()


def test_a_rolling_restart_under_load(quick: Service, alice: Device, phones: list[Device]) -> None:
    with Crowd(phones) as crowd, Load([alice], phones, clients=4, each=10**6, pace=CALM / 2) as load:
        crowd.all_there()
        for role in ("projector", "processor", "api"):
            load.goes_on(40)
            quick.restart(role)
        crowd.all_there()
        load.goes_on(40)
        load.stop()
        check(crowd, load, phones[:3])
        assert crowd.codes() == {1012: len(phones), None: len(phones)}


class TestInFlight:
    """What was pushed and not acknowledged ends as PendingSync with the true reason, whoever is killed in between."""

    def test_the_gateway_and_the_processor_are_killed(self, quick: Service, alice: Device) -> None:
        bob = phone_of(quick, "bob")
        with Socket(bob) as there:
            there.take("caught_up")
            message_id = alice.send(bob, "in flight")
            there.take("message")
            quick.kill("api")
            quick.kill("processor")
            quick.becomes_healthy()
            assert soon(lambda: pending_because(alice, message_id), 40.0) == "gateway_lost"
        with Socket(bob) as again:
            assert [message["id"] for message in again.backlog()] == [message_id]

    def test_the_deadline_passes_while_the_processor_is_away(self, quick: Service, alice: Device) -> None:
        bob = phone_of(quick, "bob")
        with Socket(bob) as there:
            there.take("caught_up")
            message_id = alice.send(bob, "in flight")
            there.take("message")
            quick.kill("processor")
            assert there.closed()[0] == 4408
        quick.becomes_healthy()
        assert soon(lambda: pending_because(alice, message_id), 40.0) == "ack_timeout"
        assert bob.drain()[0]["id"] == message_id
