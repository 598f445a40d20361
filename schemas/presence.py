"""A row of the processor's table of live sessions, as the changelog keeps it for the next processor."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceRow:
    """The session of one device. Not a fact: a recovered row is only a hint that somebody may be there.

    `event_id` is that of the session's latest marker, `epoch` that marker's position, `opened` the position of its
    SessionOpened (None where no one read it), `replaced` the session of this device that it replaced.
    """

    event_id: UUID
    producer: str
    recipient: UUID
    device_id: UUID
    session_id: UUID
    gateway: str
    push_partition: int
    epoch: int
    opened: int | None = None
    replaced: UUID | None = None
