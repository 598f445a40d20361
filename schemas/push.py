"""What the processor tells a gateway, over the short-lived push topic. No fact: losing one costs an append and a query."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class PushKind(StrEnum):
    """MESSAGE: send this message. REMARK: append a fresh marker, we only have a hint of you. CLOSE: the session is over."""

    MESSAGE = "message"
    REMARK = "remark"
    CLOSE = "close"


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedMessage:
    """The message itself, as in MessageStored; `position` is its offset, `stored_at_ms` its append time."""

    message_id: UUID
    sender: UUID
    position: int
    stored_at_ms: int
    sealed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """One order to one gateway process about one session in one epoch.

    `predecessor` is the position of the push before it in this epoch (the epoch itself for the first): a gateway that has
    not handled the predecessor has a gap and marks the session anew. `message` and `predecessor` come with MESSAGE, `reason`
    with CLOSE.
    """

    event_id: UUID
    producer: str
    kind: PushKind
    gateway: str
    recipient: UUID
    session_id: UUID
    device_id: UUID
    epoch: int
    predecessor: int | None = None
    message: PushedMessage | None = None
    reason: str | None = None
