"""Giving a decision again from the evidence that it carries, by the policy's own rules. Pure."""

from collections.abc import Callable

from processors.decisions import gives
from processors.presence import was_there
from schemas.events import DeliveryAttempted, PendingSync, SessionSeen

Decision = DeliveryAttempted | PendingSync


def follows(fact: Decision, position: int, opened: Callable[[SessionSeen], int | None]) -> bool:
    """Whether the policy decides the same, seeing the sessions that `fact` says it saw. `position` is that of the message
    that caused it; `opened` says where a session began, by the log."""
    devices = {seen.device_id for seen in fact.sessions}
    if len(devices) < len(fact.sessions):
        return False
    return all(was_there(seen.epoch, opened(seen), position) for seen in fact.sessions) and gives(fact, position)
