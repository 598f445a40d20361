"""The policy: push if somebody is there, wait for the next sync if not, and never claim more than this process has read."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from processors.decisions import POLICY, Decision, decide
from processors.presence import hints
from schemas.events import (
    DeliveryAttempted,
    EndReason,
    Fact,
    MessageStored,
    PendingReason,
    PendingSync,
    SessionClosed,
    SessionSeen,
)
from schemas.push import Push, PushKind
from tests.builders import (
    LAPTOP,
    OTHER_SESSION,
    PHONE,
    SESSION,
    an_id,
    closed,
    delivered,
    entry,
    erased,
    marked,
    opened,
    presence_row,
    read,
    recorded,
    registered,
    removed,
    stored,
)
from tests.spec import PRODUCER, Given, given, kinds

ATTEMPT, WAITS = "DeliveryAttempted", "PendingSync"
MESSAGE, REMARK, CLOSE = "Push:message", "Push:remark", "Push:close"


def pushes(decisions: Sequence[Decision]) -> list[Push]:
    return [record for record in decisions if isinstance(record, Push)]


def ends(decisions: Sequence[Decision]) -> list[tuple[UUID, EndReason]]:
    return [(record.session_id, record.reason) for record in decisions if isinstance(record, SessionClosed)]


def test_nobody_is_there() -> None:
    (decision,) = given(registered()).when(stored(7))
    assert isinstance(decision, PendingSync)
    assert (decision.message_id, decision.position) == (an_id("msg", 7), 1)
    assert (decision.reason, decision.session_id, decision.sessions) == (PendingReason.NO_SESSION, None, ())
    assert (decision.policy, decision.producer, decision.causation_id) == (POLICY, PRODUCER, stored(7).event_id)


def test_somebody_is_there() -> None:
    attempt, push = given(opened()).when(stored(7))
    assert isinstance(attempt, DeliveryAttempted)
    assert attempt.sessions == (SessionSeen(session_id=SESSION, device_id=PHONE, gateway="gateway-1", epoch=0, live=True),)
    assert isinstance(push, Push)
    assert (push.kind, push.gateway, push.session_id, push.epoch) == (PushKind.MESSAGE, "gateway-1", SESSION, 0)
    assert push.message is not None
    assert (push.message.message_id, push.message.position) == (an_id("msg", 7), 1)
    assert push.message.sealed == stored(7).sealed


def test_a_push_goes_to_the_partition_where_the_gateway_listens() -> None:
    from processors.decisions import decide

    state = given(opened(push_partition=5))
    attempt, push = decide(state.here, recorded(stored(), 1, partition=2), PRODUCER)
    assert (attempt.partition, push.partition) == (2, 5)


def test_pushes_of_an_epoch_are_a_chain() -> None:
    said = given(opened()).when(stored(1), read(entry(1)), stored(2), stored(3))
    assert [push.predecessor for push in pushes(said)] == [0, 1, 3]


def test_a_fresh_marker_begins_a_new_chain() -> None:
    said = given(opened(), stored(1), marked()).when(stored(2), stored(3))
    assert [(push.epoch, push.predecessor) for push in pushes(said)] == [(2, 2), (2, 3)]


def test_every_session_of_the_recipient_gets_the_message() -> None:
    said = given(opened(), opened(OTHER_SESSION, LAPTOP)).when(stored())
    assert kinds(said) == [ATTEMPT, MESSAGE, MESSAGE]
    assert {push.device_id for push in pushes(said)} == {PHONE, LAPTOP}


def test_a_row_from_the_table_is_only_a_hint() -> None:
    said = given(opened()).restarted().when(stored())
    assert kinds(said) == [ATTEMPT, REMARK]
    assert isinstance(said[0], DeliveryAttempted)
    assert [seen.live for seen in said[0].sessions] == [False]


def test_a_hint_is_asked_once_a_second() -> None:
    state = given(opened()).restarted()
    for number, ms in enumerate((5_000, 5_400, 5_999, 6_000, 6_500)):
        state = state.when_at(stored(number), ms=ms)
    assert kinds(pushes(state.said)) == [REMARK, REMARK]


@pytest.mark.parametrize("marker", [opened, marked])
def test_a_hint_becomes_live_with_its_next_marker(marker: Any) -> None:
    assert kinds(given(opened()).restarted().and_then(marker()).when(stored())) == [ATTEMPT, MESSAGE]


def test_a_marker_that_the_table_knew_becomes_live_when_it_is_read_again() -> None:
    state = given(opened()).restarted().read(recorded(opened(), 0))
    assert kinds(state.when(stored())) == [ATTEMPT, MESSAGE]


def test_a_message_from_before_the_session_is_not_pushed_when_it_is_read_again() -> None:
    state = given(stored(1), opened()).restarted()
    assert kinds(state.read(recorded(stored(1), 0)).said[1:]) == [WAITS]


def test_a_message_from_before_the_latest_marker_is_left_to_the_drain() -> None:
    state = given(opened(), stored(1), marked()).restarted()
    assert kinds(state.read(recorded(stored(1), 1)).said[2:]) == [ATTEMPT]


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (closed(reason=EndReason.ACK_TIMEOUT), "ack_timeout"),
        (removed(), "device_removed"),
        (erased(), "account_erased"),
    ],
    ids=["closed", "device removed", "account erased"],
)
@pytest.mark.parametrize("hint", [False, True], ids=["live", "hint"])
def test_what_ends_a_session_closes_it(ending: Fact, reason: str, hint: bool) -> None:
    state = given(opened()).restarted() if hint else given(opened())
    (push,) = pushes(state.when(ending))
    assert (push.kind, push.session_id, push.reason) == (PushKind.CLOSE, SESSION, reason)
    assert kinds(state.and_then(ending).when(stored())) == [WAITS]


def test_endings_of_others_change_nothing() -> None:
    state = given(opened())
    assert state.when(closed(OTHER_SESSION), removed(LAPTOP)) == []
    assert kinds(state.and_then(closed(OTHER_SESSION), removed(LAPTOP)).when(stored())) == [ATTEMPT, MESSAGE]


def test_a_newer_session_of_the_device_closes_the_first() -> None:
    state = given(opened())
    (push,) = pushes(state.when(opened(OTHER_SESSION)))
    assert (push.kind, push.session_id, push.reason) == (PushKind.CLOSE, SESSION, "replaced")
    assert ends(state.when(opened(OTHER_SESSION))) == [(SESSION, EndReason.REPLACED)]
    said = state.and_then(opened(OTHER_SESSION)).when(stored())
    assert [push.session_id for push in pushes(said)] == [OTHER_SESSION]


def test_a_late_marker_of_the_first_session_does_not_bring_it_back() -> None:
    state = given(opened(), opened(OTHER_SESSION))
    (push,) = pushes(state.when(marked()))
    assert (push.kind, push.session_id) == (PushKind.CLOSE, SESSION)
    assert ends(state.when(marked())) == [(SESSION, EndReason.REPLACED)]
    assert [push.session_id for push in pushes(state.and_then(marked()).when(stored()))] == [OTHER_SESSION]


@pytest.mark.parametrize(
    ("fact", "offset", "over"),
    [
        (opened(OTHER_SESSION), 7, [SESSION]),
        (marked(OTHER_SESSION), 12, [SESSION]),
        (opened(), 3, [SESSION]),
        (marked(), 5, [SESSION]),
        (marked(OTHER_SESSION), 13, []),
    ],
    ids=["the newer one opened", "its marker", "the older one opened", "its marker, before", "a fresh marker"],
)
def test_what_is_read_again_after_a_crash_ends_the_replaced_session_again(fact: Fact, offset: int, over: list[UUID]) -> None:
    """The row was written, the end perhaps not; without it a message would be in flight in that session for ever."""
    row = presence_row(session_id=OTHER_SESSION, replaced=SESSION, opened=7, epoch=12)
    said = [outgoing.record for outgoing in decide(hints([row])[row.recipient], recorded(fact, offset), PRODUCER)]
    assert ends(said) == [(session, EndReason.REPLACED) for session in over]
    assert pushes(said) == []
    first = given(opened()).when(opened(OTHER_SESSION))
    assert {end.event_id for end in said} <= {record.event_id for record in first}


def test_a_session_that_replaced_none_ends_none_when_read_again() -> None:
    row = presence_row(replaced=None, opened=7, epoch=7)
    assert decide(hints([row])[row.recipient], recorded(opened(), 7), PRODUCER) == []


def test_a_session_that_the_table_lost_is_taken_up_with_its_marker() -> None:
    assert kinds(Given().and_then(marked()).when(stored())) == [ATTEMPT, MESSAGE]


def test_other_facts_ask_for_nothing() -> None:
    assert given(opened()).when(delivered(entry(1)), read(entry(1)), registered()) == []


def test_the_same_message_is_decided_under_the_same_id() -> None:
    first, again = given().when(stored(3))[0], given(registered()).when(stored(3))[0]
    assert first.event_id == again.event_id
    others = [given().when(stored(4))[0], *given(opened()).when(stored(3))]
    assert len({first.event_id, *(other.event_id for other in others)}) == 4


FACTS = st.one_of(
    st.integers(1, 400).map(stored),
    st.sampled_from(
        [
            opened(),
            opened(OTHER_SESSION),
            opened(OTHER_SESSION, LAPTOP),
            marked(),
            marked(OTHER_SESSION, LAPTOP),
            closed(),
            closed(OTHER_SESSION, LAPTOP),
            removed(),
            erased(),
            registered(),
        ]
    ),
)


def by_message(facts: Sequence[Fact], said: Sequence[Decision]) -> dict[UUID, list[Decision]]:
    found: dict[UUID, list[Decision]] = {fact.event_id: [] for fact in facts if isinstance(fact, MessageStored)}
    for record in said:
        if isinstance(record, DeliveryAttempted | PendingSync):
            assert record.causation_id is not None
            found[record.causation_id].append(record)
    return found


@for_all(st.lists(FACTS, max_size=30))
def test_every_message_is_decided_once_and_every_chain_is_whole(facts: list[Fact]) -> None:
    numbered = [stored(n) if isinstance(fact, MessageStored) else fact for n, fact in enumerate(facts)]
    said = given().when(*numbered)
    assert all(len(decisions) == 1 for decisions in by_message(numbered, said).values())
    chains: dict[tuple[UUID, int], list[Push]] = {}
    for push in pushes(said):
        if push.kind is PushKind.MESSAGE:
            chains.setdefault((push.session_id, push.epoch), []).append(push)
    for (_, epoch), chain in chains.items():
        assert chain[0].predecessor == epoch
        for one, next_ in pairwise(chain):
            assert one.message and next_.message
            assert next_.predecessor == one.message.position < next_.message.position


@for_all(st.lists(FACTS, max_size=30), st.data())
def test_a_process_that_takes_over_pushes_only_after_markers_that_it_has_read(facts: list[Fact], data: Any) -> None:
    numbered = [stored(n) if isinstance(fact, MessageStored) else fact for n, fact in enumerate(facts)]
    start = data.draw(st.integers(0, len(numbered)))
    known = data.draw(st.integers(start, len(numbered)))
    state = given(*numbered[:known]).restarted()
    said: list[Decision] = []
    for offset in range(start, len(numbered)):
        before = len(state.said)
        state = state.read(recorded(numbered[offset], offset))
        said += state.said[before:]
    whole = given().when(*numbered)
    orders = {(p.session_id, p.epoch, p.message.position, p.predecessor) for p in pushes(whole) if p.message}
    for push in pushes(said):
        if push.message:
            assert push.epoch >= start
            assert (push.session_id, push.epoch, push.message.position, push.predecessor) in orders
    undecided = [n for n, decisions in enumerate(by_message(numbered[start:], said).values()) if len(decisions) != 1]
    assert not undecided
