"""Readers that are slow, stalled, or silently gone: they lose nothing, hold up nobody, and cost bounded memory.

The thin line is as long as a run of all tests allows. `ONLINE_FULL=1 pytest tests/acceptance/test_online_readers.py` reads
12,000 messages of 4 KiB at 1 Mbit/s under the deadlines that the contract has by default, which takes eight minutes.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.acceptance.listeners import Crowd
from tests.acceptance.load import Load
from tests.acceptance.people import ids, pending_because, phone_of
from tests.acceptance.readers import Reader
from tests.acceptance.service import Service
from tests.acceptance.sockets import Socket
from tests.eventually import soon

FULL = bool(os.environ.get("ONLINE_FULL"))
pytestmark = [pytest.mark.long, pytest.mark.timeout(1500 if FULL else 240)]

WAITING, LIVE, BYTES_PER_SECOND = (12_000, 240, 125_000) if FULL else (1_600, 32, 500_000)
"""A window of 1 MiB takes half of the time in which it has to be acknowledged, in both: 8 of 15 s, 2 of 4 s."""
KIB = 1024
MIB = 1024 * KIB
STALLED, HEAVY = 8, 160
MAY_GROW = 40 * MIB
"""What a gateway may need for the eight that stall: a window of 1 MiB each, several times over. Their mail is 75 MiB."""


def test_a_thin_line_drains_a_long_mailbox_in_one_session(request: pytest.FixtureRequest) -> None:
    service: Service = request.getfixturevalue("service" if FULL else "quick")
    senders, bob = [phone_of(service, "alice") for _ in range(2)], phone_of(service, "bob")
    for number, sender in enumerate(senders):
        for start in range(number * WAITING // 2, (number + 1) * WAITING // 2, 500):
            sender.send_all(bob, [_numbered(one) for one in range(start, min(start + 500, (number + 1) * WAITING // 2))])
    patience = 3 * (WAITING + LIVE) * 5 * KIB / BYTES_PER_SECOND
    with Reader(bob, BYTES_PER_SECOND) as reader:
        for one in range(LIVE):
            passed = WAITING * one // LIVE
            reader.until(lambda passed=passed: reader.closed or len(reader.positions) >= passed, patience, f"{passed} read")
            senders[0].send(bob, _numbered(WAITING + one))
        reader.until(
            lambda: reader.closed or len(reader.positions) >= WAITING + LIVE, patience, "all that waited and came is read"
        )
        assert not reader.closed, f"it was closed after {len(reader.positions)} messages"
        assert [int(body[:6]) for body in reader.bodies] == list(range(WAITING + LIVE))
        assert reader.positions == sorted(set(reader.positions))
        soon(lambda: bob.page(limit=1)["messages"] == [], 30.0, "the last acknowledgement is in the log")
    assert reader.caught_up == 1


def test_whoever_takes_nothing_holds_up_nobody(quick: Service) -> None:
    alice = phone_of(quick, "alice")
    with ThreadPoolExecutor(4) as pool:
        people = list(pool.map(lambda _: phone_of(quick, "slow"), range(STALLED + 3)))
    *stalled, trickling, vanished, idle = people
    sent: dict[str, list[str]] = {bob.name: [] for bob in stalled}
    for half in range(2):
        for bob in stalled:
            sent[bob.name] += alice.send_all(bob, [f"{half}/{one} ".ljust(60 * KIB, "x") for one in range(HEAVY // 2)])
    sent[trickling.name] = alice.send_all(trickling, ["x" * KIB] * 40)
    good = phone_of(quick, "good")
    quick.restart("api")  # what that mail has left behind in its memory would hide what the readers cost
    gateway = quick.process("api")
    with Crowd([good]) as crowd, Load([alice], [good], clients=4, each=10**6, pace=0.02) as load:
        crowd.all_there()
        load.goes_on(100)
        before, most = gateway.memory_info().rss, 0
        ends = {reason: _ends(quick, reason) for reason in ("ack_timeout", "heartbeat_timeout")}
        with ExitStack() as open_lines:
            for bob in stalled:
                open_lines.enter_context(Reader(bob, None))
            slow = open_lines.enter_context(Reader(trickling, 1))
            gone = open_lines.enter_context(Reader(vanished, MIB, mute=True))
            silent = open_lines.enter_context(Reader(idle, MIB, mute=True))
            in_flight = alice.send(vanished, "never acknowledged")
            sent[vanished.name] = [in_flight]
            for _ in range(10):
                load.goes_on(30)
                most = max(most, gateway.memory_info().rss)
            crowd.has(load.accepted_for)
            soon(lambda: _ends(quick, "ack_timeout") == ends["ack_timeout"] + STALLED + 2, 60.0, "all but one are overdue")
            gone.until(lambda: gone.closed, 30.0, "whoever acknowledges nothing is closed")
            silent.until(lambda: silent.closed, 30.0, "whoever answers no ping is closed")
            assert not slow.failure
    assert most - before < MAY_GROW, f"the gateway grew by {(most - before) / MIB:.0f} MiB"
    assert _ends(quick, "heartbeat_timeout") == ends["heartbeat_timeout"] + 1, "and that one was silent"
    assert pending_because(alice, in_flight) == "ack_timeout"
    crowd.assert_nobody_left()
    crowd.assert_faithful()
    for bob in (*stalled, trickling, vanished):
        assert ids(bob.drain()) == sent[bob.name], "all is still there"


def test_a_line_that_breaks_between_push_and_acknowledgement(quick: Service) -> None:
    alice, bob = phone_of(quick, "alice"), phone_of(quick, "bob")
    sent: list[str] = []
    for attempt in range(3):
        there = Socket(bob)
        sent += [alice.send(bob, f"{attempt}/{number}") for number in range(5)]
        assert ids(there.messages(len(sent))) == sent, "what was not acknowledged comes again, in order"
        if attempt < 2:
            there.vanish()
        else:
            there.ack(sent)
            there.close()
    assert bob.mailbox() == []
    assert soon(lambda: pending_because(alice, sent[0])) == "connection_lost"
    assert len(bob.trail(sent[0])["attempts"]) == 1, "what comes from the mailbox is no push"


def _ends(service: Service, reason: str) -> float:
    """How many sessions the gateway has ended for a reason."""
    return service.metric("api", f'restante_session_ends_total{{reason="{reason}"}}')


def _numbered(number: int) -> str:
    return f"{number:06d}".ljust(4 * KIB, "x")
