"""What goes in and out as JSON. These structs validate requests, write answers, and are the schemas in OpenAPI."""

from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from api.problems import Fault

MAX_BODY_BYTES = 65_536
MAX_IDS = 500
MAX_PAGE = 500
MAX_PAGE_BYTES = 1_048_576
MAX_WAIT_SECONDS = 30

NAME = r"^[a-z0-9][a-z0-9._-]{0,62}\Z"
CONTENT_TYPE = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+(;[ -~]*)?\Z"

Name = Annotated[str, Meta(pattern=NAME, description="An account's name, its address.")]
Password = Annotated[
    str,
    Meta(
        min_length=8,
        max_length=1024,
        description="8 to 1024 bytes in UTF-8, without U+0000.",
        extra_json_schema={"pattern": r"^[^\u0000]*$"},
    ),
]
Label = Annotated[
    str,
    Meta(min_length=1, max_length=64, description="A device's label: printable characters."),
]
IdempotencyKey = Annotated[str, Meta(min_length=1, max_length=255, description="Printable characters.")]
Base64 = Annotated[
    str,
    Meta(
        description="RFC 4648 section 4, padded, without spare bits.",
        extra_json_schema={"pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"},
    ),
]
ContentType = Annotated[str, Meta(max_length=255, pattern=CONTENT_TYPE)]
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Cursor = Annotated[str, Meta(max_length=4096, description="Opaque; good for ever, for the device that got it.")]
ReceiptCursor = Annotated[
    str, Meta(max_length=4096, description="Opaque; good for ever, for the account that got it. `now` is the end.")
]
Ids = Annotated[list[UUID], Meta(min_length=1, max_length=MAX_IDS)]
StatusName = Literal["Created", "Stored", "DeliveryAttempted", "PendingSync", "Delivered", "Read", "Erased"]
"""A message's state. Clients must take others, too: states may be added."""
ReceiptStatus = Literal["Delivered", "Read", "Erased"]
"""What a sender is told. Clients must take others, too."""


class Strict(Struct, forbid_unknown_fields=True):
    """What clients send."""


class NewAccount(Strict):
    """Body of POST /accounts."""

    name: Name
    password: Password


class Login(Strict):
    """Body of POST /tokens."""

    name: Name
    password: Password
    device: Label


class Refresh(Strict):
    """Body of POST /tokens/refresh."""

    refresh_token: Annotated[str, Meta(min_length=1, max_length=512)]


class NewMessage(Strict):
    """Body of POST /messages: exactly one of `body` and `body_base64` (RFC 4648 section 4, padded), at most 64 KiB."""

    to: Name
    body: str | UnsetType = UNSET
    body_base64: Base64 | UnsetType = UNSET
    content_type: ContentType | UnsetType = UNSET


class BatchMessage(Strict):
    """One message of a batch."""

    to: Name
    body: str | UnsetType = UNSET
    body_base64: Base64 | UnsetType = UNSET
    content_type: ContentType | UnsetType = UNSET
    idempotency_key: IdempotencyKey | UnsetType = UNSET


class NewMessages(Strict):
    """Body of POST /messages/batch."""

    messages: Annotated[list[BatchMessage], Meta(min_length=1, max_length=MAX_IDS)]


class IdList(Strict):
    """Body of calls about several messages."""

    ids: Ids


class Acknowledgement(Strict):
    """Body of POST /messages/ack: exactly one of the two. `up_to` means all that this cursor has passed."""

    ids: Ids | UnsetType = UNSET
    up_to: Cursor | UnsetType = UNSET


EXACTLY_ONE: dict[type[Struct], tuple[str, ...]] = {
    NewMessage: ("body", "body_base64"),
    BatchMessage: ("body", "body_base64"),
    Acknowledgement: ("ids", "up_to"),
}
"""Of these fields there must be one."""


class NoQuery(Strict):
    """A call without query parameters."""


class SyncQuery(Strict):
    """Query of GET /messages/sync."""

    cursor: Cursor = ""
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 100
    wait: Annotated[float, Meta(ge=0, le=MAX_WAIT_SECONDS)] = 0
    stale: Literal["ok"] | UnsetType = UNSET


class ReceiptsQuery(Strict):
    """Query of GET /receipts."""

    cursor: ReceiptCursor = ""
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 100
    wait: Annotated[float, Meta(ge=0, le=MAX_WAIT_SECONDS)] = 0


class Account(Struct):
    """An account."""

    user_id: UUID
    name: str


class Me(Struct):
    """The account and the device of an access token."""

    user_id: UUID
    name: str
    device_id: UUID


class Tokens(Struct):
    """What a login or a refresh gives."""

    access_token: str
    expires_in: int
    refresh_token: str
    user_id: UUID
    device_id: UUID
    token_type: Literal["Bearer"] = "Bearer"


class Device(Struct):
    """A device of the account. `pending` counts its mailbox (exact to 10,000), `current` marks the one that asks.
    `last_seen_at` is noted about once a minute, and null until the device first got tokens."""

    device_id: UUID
    label: str
    created_at: Time
    last_seen_at: Time | None
    pending: int
    current: bool


class Devices(Struct):
    """The account's devices, oldest first."""

    devices: list[Device]


class Presence(Struct):
    """Whether somebody is connected to the stream, and when any device of theirs was last seen."""

    name: str
    online: bool
    last_seen_at: Time | None


class Jwks(Struct):
    """Public keys that verify access tokens (RFC 7517)."""

    keys: list[dict[str, str]]


class Accepted(Struct):
    """A message that the log holds."""

    id: UUID
    to: str
    stored_at: Time
    status: Literal["Stored"] = "Stored"
    replayed: bool | UnsetType = UNSET


class ProblemDetails(Struct):
    """An error, as RFC 9457 writes it. `code` is for programs and never changes its meaning."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[Fault] | UnsetType = UNSET
    outcome: Literal["rejected", "unknown"] | UnsetType = UNSET
    id: UUID | UnsetType = UNSET


class Refused(Struct):
    """A message of a batch that was not accepted."""

    problem: ProblemDetails


BatchResults = Annotated[
    list[Any],
    Meta(
        extra_json_schema={"items": {"anyOf": [{"$ref": f"#/components/schemas/{one}"} for one in ("Accepted", "Refused")]}}
    ),
]


class BatchAnswer(Struct):
    """One result a message, in their order."""

    accepted: int
    rejected: int
    results: BatchResults


ProblemDocument = Annotated[dict[str, Any], Meta(extra_json_schema={"$ref": "#/components/schemas/ProblemDetails"})]


class Received(Struct, rename={"from_": "from"}, kw_only=True):
    """A message in a mailbox. `from` is null once the sender is erased. It has a `body` or a `body_base64`, and their type.
    Where what is stored does not open, it has a `problem` (`body_unreadable`) in their place; it is a message like the
    others all the same, and gone once it is acknowledged."""

    id: UUID
    from_: str | None
    from_id: UUID
    content_type: str | UnsetType = UNSET
    stored_at: Time
    position: int
    status: StatusName
    body: str | UnsetType = UNSET
    body_base64: str | UnsetType = UNSET
    problem: ProblemDocument | UnsetType = UNSET


class Page(Struct):
    """A page of a mailbox, oldest first. `pending` counts the whole mailbox (exact to 10,000); `as_of` says up to when the
    page is complete; `complete` is false where `stale=ok` was asked for and the log was away."""

    messages: list[Received]
    cursor: str
    has_more: bool
    pending: int
    as_of: Time | None
    complete: bool | UnsetType = UNSET


class Receipt(Struct):
    """What became of a message. `to` is null once the recipient is erased; `at` is when it did; `cursor` has passed it."""

    message_id: UUID
    to: str | None
    status: ReceiptStatus
    at: Time
    cursor: str


class ReceiptPage(Struct):
    """What became of the messages that an account sent, oldest first."""

    receipts: list[Receipt]
    cursor: str
    has_more: bool


class Acknowledged(Struct):
    """Which messages this call acknowledged, which were before, and which are not in this account's mailbox at all."""

    acknowledged: list[UUID]
    already: list[UUID]
    unknown: list[UUID]


class AcknowledgedCount(Struct):
    """How many messages an `up_to` acknowledged."""

    acknowledged_count: int


class DeliveredTo(Struct):
    """A device that has the message."""

    device_id: UUID
    delivered_at: Time


class MessageStatus(Struct, rename={"from_": "from"}):
    """Where a message is in its life. Names are null once their account is erased; `devices` is for the recipient."""

    id: UUID
    from_: str | None
    to: str | None
    status: StatusName
    created_at: Time
    stored_at: Time
    delivery_attempted_at: Time | None
    pending_since: Time | None
    delivered_at: Time | None
    read_at: Time | None
    devices: list[DeliveredTo] | UnsetType = UNSET


class Statuses(Struct):
    """The states of several messages."""

    messages: list[MessageStatus]
    unknown: list[UUID]


class LogPlace(Struct):
    """The record in the log that proves it."""

    topic: str
    partition: int
    offset: int


class TrailEvent(Struct):
    """A state that the message reached, and its proof. `evidence` is for the recipient."""

    state: StatusName
    at: Time
    by: str
    log: LogPlace
    reason: str | UnsetType = UNSET
    evidence: Any = UNSET


class TrailAttempt(Struct):
    """A push to a live session and what came of it."""

    device_id: UUID
    session: UUID
    pushed_at: Time
    result: str
    log: LogPlace


class TrailAnswer(Struct):
    """Every state of a message with its proof; `attempts` for the recipient. `repeats` are records that came under the same
    idempotency key before the first was known, and were rejected."""

    id: UUID
    events: list[TrailEvent]
    repeats: list[LogPlace]
    attempts: list[TrailAttempt] | UnsetType = UNSET


class Health(Struct):
    """How it stands: `status` is `ok`, or one word why not; `reasons` says it for people."""

    status: str
    reasons: list[str]
