"""A decision follows from its evidence exactly where the policy, asked anew, gives the very same fact."""

from dataclasses import fields, replace
from typing import Any

import pytest

from processors.audit.replay import Decision, follows
from processors.decisions import decision
from processors.presence import NOBODY, Seat
from schemas.events import DeliveryAttempted, EndReason, PendingSync
from tests.builders import PHONE, SESSION, an_id, presence_row, seen

CAUSE, ACCOUNT, MESSAGE = an_id("event", 1), an_id("user", 1), an_id("msg", 1)
THERE = {PHONE: Seat(row=presence_row(session_id=SESSION, device_id=PHONE, epoch=3), live=True, last=3)}


def made(here: Any) -> Decision:
    return decision(here, MESSAGE, ACCOUNT, CAUSE, 7, "processor/1")


@pytest.mark.parametrize("fact", [made(NOBODY), made(THERE)], ids=["waits", "pushed"])
def test_what_the_policy_gives_follows(fact: Decision) -> None:
    assert type(fact) in (PendingSync, DeliveryAttempted)
    assert follows(fact, 7, lambda _: 3)


CHANGES: list[tuple[Decision, dict[str, Any]]] = [
    (made(NOBODY), {"position": 8}),
    (made(NOBODY), {"event_id": an_id("event", 9)}),
    (made(NOBODY), {"message_id": an_id("msg", 9)}),
    (made(NOBODY), {"session_id": SESSION}),
    (made(NOBODY), {"sessions": (seen(epoch=3),)}),
    (made(NOBODY), {"policy": "another/1"}),
    (made(NOBODY), {"reason": EndReason.ACK_TIMEOUT}),
    (made(THERE), {"position": 8}),
    (made(THERE), {"event_id": an_id("event", 9)}),
    (made(THERE), {"message_id": an_id("msg", 9)}),
    (made(THERE), {"sessions": ()}),
    (made(THERE), {"sessions": (seen(epoch=3), seen(epoch=4))}),
    (made(THERE), {"sessions": (seen(epoch=9),)}),
    (made(THERE), {"policy": "another/1"}),
]
TAKEN_AS_TOLD = {"producer", "recipient", "causation_id"}


@pytest.mark.parametrize(("fact", "changes"), CHANGES)
def test_what_it_does_not_give_does_not_follow(fact: Decision, changes: dict[str, Any]) -> None:
    assert not follows(replace(fact, **changes), 7, lambda _: 8)


@pytest.mark.parametrize("kind", [PendingSync, DeliveryAttempted])
def test_every_field_is_judged_or_taken_from_the_fact_itself(kind: type[Decision]) -> None:
    changed = {name for fact, changes in CHANGES if type(fact) is kind for name in changes}
    assert changed | TAKEN_AS_TOLD == {each.name for each in fields(kind)}


def test_a_session_that_had_begun_before_its_latest_marker_was_there() -> None:
    assert follows(replace(made(THERE), sessions=(seen(epoch=9),)), 7, lambda _: 3)
