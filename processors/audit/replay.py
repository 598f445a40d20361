"""Giving a decision again from the evidence that it carries, by the policy itself. Pure."""

from collections.abc import Callable
from typing import Final
from uuid import UUID

from processors.decisions import decision
from processors.presence import NOBODY, Here, Seat
from schemas.events import DeliveryAttempted, MessageStored, PendingSync, Place, Recorded, SessionSeen
from schemas.presence import PresenceRow

_NO_ID: Final = UUID(int=0)
Decision = DeliveryAttempted | PendingSync


def follows(fact: Decision, place: Place, at_ms: int, opened: Callable[[SessionSeen], int | None]) -> bool:
    """Whether the policy decides the same, seeing the sessions that `fact` says it saw. `place` and `at_ms` are those of the
    message that caused it; `opened` says where a session began, by the log."""
    here = _here(fact, opened) if fact.sessions else NOBODY
    cause = _cause(fact)
    return decision(here, cause, Recorded(cause, place, at_ms), fact.producer) == fact


def _cause(fact: Decision) -> MessageStored:
    """The message that the decision is about, without what no decision depends on."""
    assert fact.causation_id is not None
    return MessageStored(
        event_id=fact.causation_id,
        producer="",
        recipient=fact.recipient,
        message_id=fact.message_id,
        sender=_NO_ID,
        sender_device=_NO_ID,
        created_at_ms=0,
        keyed=False,
        sealed=b"",
        digest=b"",
    )


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
