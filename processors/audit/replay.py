"""Giving a decision again from the evidence that it carries, by the policy itself. Pure."""

from collections.abc import Callable
from typing import Final
from uuid import UUID

from processors.decisions import decision
from processors.presence import NOBODY, Here, Seat
from schemas.events import DeliveryAttempted, PendingSync, SessionSeen
from schemas.presence import PresenceRow

_NO_ID: Final = UUID(int=0)
Decision = DeliveryAttempted | PendingSync


def follows(fact: Decision, position: int, opened: Callable[[SessionSeen], int | None]) -> bool:
    """Whether the policy decides the same, seeing the sessions that `fact` says it saw. `position` is that of the message
    that caused it; `opened` says where a session began, by the log."""
    assert fact.causation_id is not None
    here = _here(fact, opened) if fact.sessions else NOBODY
    return decision(here, fact.message_id, fact.recipient, fact.causation_id, position, fact.producer) == fact


def _here(fact: Decision, opened: Callable[[SessionSeen], int | None]) -> Here:
    return {
        seen.device_id: Seat(
            row=PresenceRow(
                event_id=_NO_ID,
                producer="",
                recipient=fact.recipient,
                device_id=seen.device_id,
                session_id=seen.session_id,
                gateway=seen.gateway,
                push_partition=0,
                epoch=seen.epoch,
                opened=opened(seen),
                replaced=None,
            ),
            live=seen.live,
            last=seen.epoch,
        )
        for seen in fact.sessions
    }
