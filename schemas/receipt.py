"""What became of a sender's message, in the order of the sender's partition of the receipts topic."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Outcome(StrEnum):
    """What a sender is told."""

    DELIVERED = "Delivered"
    READ = "Read"
    ERASED = "Erased"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One message reached one outcome. `at_ms` is the append time of the fact that made it so (`causation_id`), `position`
    the message's place in its recipient's partition. The first of a (message, outcome) counts; Delivered after Read does
    not."""

    event_id: UUID
    producer: str
    causation_id: UUID
    sender: UUID
    recipient: UUID
    message_id: UUID
    position: int
    outcome: Outcome
    at_ms: int
