"""The facts of the lifecycle log: frozen, in the past tense, a closed union.

A fact says what happened; when it happened is the broker's append time and comes with the record (`Recorded`).
`producer` names role and process that wrote it, `causation_id` the event that made it so, `correlation_id` the message it
is about. Ids of decisions are derived, so a decision that is written twice is one event.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

MAX_ENTRIES: Final = 500
"""Entries in one MessagesDelivered, MessagesRead or MessagesErased."""


class PendingReason(StrEnum):
    """Why a message waits for the recipient's next sync, where the processor decided so."""

    NO_SESSION = "no_session"


class EndReason(StrEnum):
    """Why a session ended. What it had in flight waits for the next sync, for the same reason."""

    CLIENT_CLOSED = "client_closed"
    CONNECTION_LOST = "connection_lost"
    ACK_TIMEOUT = "ack_timeout"
    HEARTBEAT_TIMEOUT = "heartbeat_timeout"
    TOO_SLOW = "too_slow"
    REPLACED = "replaced"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_REVOKED = "token_revoked"
    DEVICE_REMOVED = "device_removed"
    ACCOUNT_ERASED = "account_erased"
    GATEWAY_LOST = "gateway_lost"
    GATEWAY_RESTART = "gateway_restart"
    UNKNOWN_SESSION = "unknown_session"
    PROTOCOL_ERROR = "protocol_error"
    FAULT = "fault"


class Via(StrEnum):
    """How an acknowledgement reached us."""

    HTTP = "http"
    STREAM = "stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One message in an acknowledgement: enough to act on it without looking it up."""

    message_id: UUID
    position: int
    sender: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSeen:
    """Evidence of a decision: a session as the processor knew it. `epoch` is its latest marker; `live` says
    that this very process has read that marker (else the row was recovered and is only a hint)."""

    session_id: UUID
    device_id: UUID
    gateway: str
    epoch: int
    live: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FactBase:
    """What every fact carries. `recipient` is the account it is about, and the record's key."""

    event_id: UUID
    producer: str
    recipient: UUID
    causation_id: UUID | None = None

    @property
    def correlation_id(self) -> UUID | None:
        """The message this fact is about; None where it is about none, or about several."""
        return getattr(self, "message_id", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageStored(FactBase):
    """A message was accepted. `sealed` is the encrypted body, `digest` an HMAC of the content under the recipient's key,
    `keyed` says that its id was derived from an idempotency key, `created_at_ms` is the API's clock."""

    message_id: UUID
    sender: UUID
    sender_device: UUID
    created_at_ms: int
    keyed: bool
    sealed: bytes
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpened(FactBase):
    """A device connected. The record's offset is the first epoch: what is older is drained, what is newer is pushed.
    `gateway` names the gateway process (a new name at each start), `push_partition` where it listens."""

    session_id: UUID
    device_id: UUID
    gateway: str
    push_partition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionMarked(FactBase):
    """The same session begins a new epoch at this record's offset."""

    session_id: UUID
    device_id: UUID
    gateway: str
    push_partition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionClosed(FactBase):
    """A session ended; what it had in flight waits for the next sync."""

    session_id: UUID
    device_id: UUID
    reason: EndReason


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryAttempted(FactBase):
    """The processor saw these sessions and sent the message to their gateways. `position` is the message's."""

    message_id: UUID
    position: int
    sessions: tuple[SessionSeen, ...]
    policy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSync(FactBase):
    """The message waits for the recipient's next sync. Without `session_id` the processor looked and nobody was there (which
    proves the attempt, too); with one, that session's push came to nothing."""

    message_id: UUID
    position: int
    reason: PendingReason | EndReason
    session_id: UUID | None
    sessions: tuple[SessionSeen, ...]
    policy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesDelivered(FactBase):
    """A device acknowledged these messages (1 to 500)."""

    device_id: UUID
    entries: tuple[Entry, ...]
    via: Via
    session_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesRead(FactBase):
    """The recipient read these messages (1 to 500) on a device, which implies that the device has them."""

    device_id: UUID
    entries: tuple[Entry, ...]
    via: Via
    session_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRegistered(FactBase):
    """An account got a device; its mailbox starts with what no device has acknowledged."""

    device_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRemoved(FactBase):
    """A device is gone; only its view of the mailbox goes with it."""

    device_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountErased(FactBase):
    """An account is gone; what was not delivered to it never will be. No acknowledgement of it counts any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesErased(FactBase):
    """These messages (1 to 500) ended with their recipient's account: this is what their senders are told. It changes the
    state of none, since AccountErased did that."""

    entries: tuple[Entry, ...]


Fact = (
    MessageStored
    | SessionOpened
    | SessionMarked
    | SessionClosed
    | DeliveryAttempted
    | PendingSync
    | MessagesDelivered
    | MessagesRead
    | DeviceRegistered
    | DeviceRemoved
    | AccountErased
    | MessagesErased
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands in the log."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """A fact with its place and the broker's append time (milliseconds since 1970, UTC)."""

    fact: Fact
    place: Place
    at_ms: int
