"""What the log means: given these facts, a message is in this state; and whatever the order of repeats, states only rise."""

from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import EndReason, Fact, MessagesDelivered, MessagesRead, MessageStored, PendingReason, Recorded
from schemas.lifecycle import INITIAL, Message, Recipient, Status, evolve, fold
from tests.builders import (
    LAPTOP,
    OTHER_SESSION,
    PHONE,
    SESSION,
    an_id,
    attempted,
    closed,
    delivered,
    entry,
    erased,
    log_of,
    marked,
    opened,
    pending,
    read,
    recorded,
    registered,
    removed,
    seen,
    stored,
    told,
)


def message(*facts: Fact, number: int = 1) -> Message:
    return fold(log_of(*facts)).messages[an_id("msg", number)]


def positions(state: Recipient, device: Any = PHONE) -> list[int]:
    return [m.position for m in state.mailbox(device)]


def test_states_are_ranked_as_the_contract_orders_them() -> None:
    labels = ["Created", "Stored", "DeliveryAttempted", "PendingSync", "Delivered", "Read", "Erased"]
    assert [status.label for status in Status] == labels


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ([stored()], Status.STORED),
        ([stored(), attempted()], Status.DELIVERY_ATTEMPTED),
        ([stored(), pending()], Status.PENDING_SYNC),
        ([stored(), delivered(entry(1))], Status.DELIVERED),
        ([stored(), pending(), delivered(entry(1))], Status.DELIVERED),
        ([stored(), attempted(), delivered(entry(1))], Status.DELIVERED),
        ([stored(), read(entry(1))], Status.READ),
        ([stored(), pending(), delivered(entry(1)), read(entry(1))], Status.READ),
        ([stored(), erased()], Status.ERASED),
        ([stored(), pending(), erased()], Status.ERASED),
        ([erased(), stored()], Status.ERASED),
        ([stored(), delivered(entry(1)), erased()], Status.DELIVERED),
    ],
)
def test_given_facts_then_status(facts: list[Fact], status: Status) -> None:
    assert message(*facts).status is status


def test_nobody_there_proves_the_attempt_and_the_wait_by_one_record() -> None:
    it = message(stored(), pending(position=0))
    assert it.attempted == it.pending
    assert it.pending is not None and it.pending.place.offset == 1
    assert it.pending.reason is PendingReason.NO_SESSION


def test_the_end_of_a_session_turns_what_it_had_in_flight_into_waiting() -> None:
    it = message(opened(), stored(), attempted(1, 1, seen()), closed(reason=EndReason.GATEWAY_LOST))
    assert it.status is Status.PENDING_SYNC
    assert it.attempted is not None and it.attempted.place.offset == 2
    assert it.pending is not None and it.pending.reason is EndReason.GATEWAY_LOST


def test_a_message_in_flight_in_two_sessions_waits_only_when_both_have_ended() -> None:
    facts = [stored(), attempted(1, 0, seen(), seen(session=OTHER_SESSION, device=LAPTOP)), closed()]
    assert message(*facts).status is Status.DELIVERY_ATTEMPTED
    assert message(*facts, closed(session=OTHER_SESSION, device=LAPTOP)).status is Status.PENDING_SYNC


def test_an_end_that_overtakes_the_decision_leaves_nothing_in_flight() -> None:
    it = message(opened(), stored(), closed(reason=EndReason.CONNECTION_LOST), attempted(1, 1, seen()))
    assert it.status is Status.PENDING_SYNC
    assert it.attempted is not None and it.pending is not None
    assert it.pending.place == it.attempted.place and it.pending.reason is EndReason.CONNECTION_LOST
    again = message(opened(), closed(), marked(), stored(), attempted(1, 3, seen()))
    assert again.status is Status.DELIVERY_ATTEMPTED


def test_the_end_of_a_session_leaves_what_was_acknowledged() -> None:
    it = message(opened(), stored(), attempted(1, 1, seen()), delivered(entry(1, 1)), closed())
    assert it.status is Status.DELIVERED
    assert it.pending is None


def test_removing_a_device_ends_its_sessions() -> None:
    state = fold(log_of(registered(), opened(), stored(), attempted(1, 2, seen()), removed()))
    assert state.messages[an_id("msg", 1)].status is Status.PENDING_SYNC
    assert SESSION not in state.sessions


def test_a_marker_begins_a_new_epoch_of_the_same_session() -> None:
    state = fold(log_of(opened(), stored(), marked()))
    assert state.sessions[SESSION].epoch == 2


def test_a_decision_that_an_acknowledgement_overtook_is_late_and_changes_nothing() -> None:
    before = message(stored(), delivered(entry(1)))
    after = message(stored(), delivered(entry(1)), pending(), attempted())
    assert after.status is before.status is Status.DELIVERED
    assert after.pending is None and after.attempted is None
    assert [place.offset for place in after.late] == [2, 3]


def test_a_second_store_of_the_same_id_is_a_rejected_repeat() -> None:
    it = message(stored(), stored(sealed=b"other", digest=b"e" * 32))
    assert it.position == 0
    assert [place.offset for place in it.repeats] == [1]


def test_decisions_and_acknowledgements_of_unknown_messages_change_nothing() -> None:
    assert fold(log_of(pending(), attempted(), delivered(entry(1)), read(entry(1)))) == INITIAL


def test_a_new_device_starts_with_what_no_device_has_acknowledged() -> None:
    state = fold(
        log_of(registered(), stored(1), stored(2), delivered(entry(1, 1)), registered(LAPTOP), stored(3)),
    )
    assert positions(state) == [2, 5]
    assert positions(state, LAPTOP) == [2, 5]


def test_mail_from_before_the_first_device_waits_for_it() -> None:
    assert positions(fold(log_of(stored(1), stored(2), registered()))) == [0, 1]


def test_each_device_has_its_own_view() -> None:
    state = fold(log_of(registered(), registered(LAPTOP), stored(1), delivered(entry(1, 2))))
    assert positions(state) == []
    assert positions(state, LAPTOP) == [2]


def test_removing_a_device_frees_only_its_view() -> None:
    state = fold(log_of(registered(), registered(LAPTOP), stored(1), removed()))
    assert positions(state) == []
    assert positions(state, LAPTOP) == [2]


def test_nothing_is_handed_over_after_erasure() -> None:
    assert positions(fold(log_of(registered(), stored(1), erased()))) == []


def test_no_acknowledgement_counts_after_erasure() -> None:
    assert message(stored(), erased(), delivered(entry(1)), read(entry(1))).status is Status.ERASED
    it = message(stored(), delivered(entry(1)), erased(), read(entry(1)), delivered(entry(1), device=LAPTOP))
    assert (it.status, set(it.deliveries)) == (Status.DELIVERED, {PHONE})


def test_a_sender_is_told_of_what_was_erased_by_the_first_record_that_says_so() -> None:
    it = message(stored(), told(entry(1)), erased(), told(entry(1)), told(entry(1)))
    assert it.told is not None and it.told.place.offset == 3
    assert message(stored(), delivered(entry(1)), erased(), told(entry(1))).told is None


def facts() -> st.SearchStrategy[Fact]:
    number, device = st.integers(1, 3), st.sampled_from([PHONE, LAPTOP])
    session = st.sampled_from([SESSION, OTHER_SESSION])
    return st.one_of(
        number.map(stored),
        number.map(pending),
        st.builds(lambda n, s: attempted(n, 0, seen(session=s)), number, session),
        st.builds(lambda n, d: delivered(entry(n), device=d), number, device),
        st.builds(lambda n, d: read(entry(n), device=d), number, device),
        st.builds(opened, session, device),
        st.builds(closed, session, device),
        st.builds(registered, device),
        st.builds(removed, device),
        st.just(erased()),
    )


def in_order(history: list[Fact]) -> list[Fact]:
    """Without what the log cannot have: a decision or an acknowledgement before the message that it is about."""
    known: set[UUID] = set()
    possible = []
    for fact in history:
        if isinstance(fact, MessageStored):
            known.add(fact.message_id)
        elif isinstance(fact, MessagesDelivered | MessagesRead):
            if not {entry.message_id for entry in fact.entries} <= known:
                continue
        elif fact.correlation_id is not None and fact.correlation_id not in known:
            continue
        possible.append(fact)
    return possible


HISTORIES = st.lists(facts(), max_size=14).map(in_order)


@given(HISTORIES)
def test_states_only_rise(history: list[Fact]) -> None:
    states = [INITIAL]
    for entry_ in log_of(*history):
        states.append(evolve(states[-1], entry_))
    for before, after in pairwise(states):
        for message_id, known in before.messages.items():
            assert after.messages[message_id].status >= known.status


@given(HISTORIES, st.data())
def test_records_that_are_read_twice_change_nothing(history: list[Fact], data: st.DataObject) -> None:
    """A reader that starts again from an older offset sees a run of records once more, in order."""
    log = log_of(*history)
    end = data.draw(st.integers(0, len(log)))
    again = data.draw(st.integers(0, end))
    assert messages_of(fold([*log[:end], *log[again:end], *log[end:]])) == messages_of(fold(log))


def messages_of(state: Recipient) -> dict[Any, Any]:
    """Without sessions: those of a replayed run are opened and closed again, which only the processor's own memory sees."""
    return {key: (m.status, m.position, m.repeats, set(m.deliveries)) for key, m in state.messages.items()}


@given(HISTORIES)
def test_decisions_that_are_written_twice_change_nothing(history: list[Fact]) -> None:
    """A processor that died after its append writes the same decision again, at a later place."""
    log = [recorded(fact, 2 * offset) for offset, fact in enumerate(history)]
    again: list[Recorded] = []
    for entry_ in log:
        again.append(entry_)
        if type(entry_.fact).__name__ in ("PendingSync", "DeliveryAttempted"):
            again.append(recorded(entry_.fact, entry_.place.offset + 1))
    one, two = fold(log), fold(again)
    assert {k: (m.status, m.pending, m.attempted) for k, m in one.messages.items()} == {
        k: (m.status, m.pending, m.attempted) for k, m in two.messages.items()
    }
