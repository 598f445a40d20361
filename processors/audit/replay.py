"""Giving a decision again from the evidence that it carries, by the policy's own rules. Pure."""

from collections.abc import Callable

from processors.decisions import gives
from processors.presence import was_there
from schemas.events import DeliveryAttempted, PendingSync, SessionSeen

Decision = DeliveryAttempted | PendingSync


def follows(fact: Decision, position: int, opened: Callable[[SessionSeen], int | None]) -> bool:
    """Whether the policy decides the same, seeing the sessions that `fact` says it saw. `position` is that of the message
    that caused it; `opened` says where a session began, by the log."""
    seen = fact.sessions
    if seen:
        if len({each.device_id for each in seen}) < len(seen):
            return False
        if not all(was_there(each.epoch, opened(each), position) for each in seen):
            return False
    return gives(fact, position)
