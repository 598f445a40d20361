"""The life of one message, folded from its rows with the one `evolve`. Pure.

The rows of a message are the records that could have changed it, so they are turned back into records (bodies left out) and
folded in the order of the log. What a status or a trail says is therefore what `schemas.lifecycle` says.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from schemas.events import (
    AccountErased,
    DeliveryAttempted,
    EndReason,
    Entry,
    Fact,
    MessagesDelivered,
    MessagesRead,
    MessageStored,
    PendingReason,
    PendingSync,
    Place,
    Recorded,
    SessionClosed,
    SessionSeen,
    Via,
)
from schemas.lifecycle import Mark, Message, Status, fold
from schemas.topics import LIFECYCLE


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRow:
    """A row of `messages` with the names of both sides; a name is None once its account is erased."""

    message_id: UUID
    recipient: UUID
    recipient_name: str | None
    sender: UUID
    sender_name: str | None
    sender_device: UUID
    partition: int
    position: int
    event_id: UUID
    producer: str
    created_at_ms: int
    stored_at_ms: int
    keyed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRow:
    """A row of `decisions`."""

    message_id: UUID
    position: int
    pending: bool
    session_id: UUID | None
    reason: str | None
    policy: str
    evidence: list[dict[str, Any]] | None
    event_id: UUID
    causation_id: UUID | None
    producer: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRow:
    """A row of `session_ends`, for one message that was in flight."""

    message_id: UUID
    position: int
    session_id: UUID
    device_id: UUID
    reason: str
    event_id: UUID
    producer: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AckRow:
    """A row of `deliveries` or `reads`."""

    message_id: UUID
    device_id: UUID
    position: int
    via: str
    session_id: UUID | None
    event_id: UUID
    producer: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherRow:
    """A row of `repeats` or `erased`."""

    message_id: UUID
    position: int
    event_id: UUID
    producer: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """All rows about one message."""

    stored: StoredRow
    decisions: Sequence[DecisionRow] = ()
    ends: Sequence[EndRow] = ()
    deliveries: Sequence[AckRow] = ()
    readings: Sequence[AckRow] = ()
    erasures: Sequence[OtherRow] = ()
    repeats: Sequence[OtherRow] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDelivery:
    """When a device acknowledged a message."""

    device_id: UUID
    delivered_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageView:
    """What is known of a message, without its body. Times in milliseconds; None where a state was never reached."""

    message_id: UUID
    sender: UUID
    sender_name: str | None
    recipient: UUID
    recipient_name: str | None
    partition: int
    position: int
    status: Status
    created_at_ms: int
    stored_at_ms: int
    attempted_at_ms: int | None
    pending_at_ms: int | None
    delivered_at_ms: int | None
    read_at_ms: int | None
    erased_at_ms: int | None
    devices: tuple[DeviceDelivery, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailEvent:
    """A state and the record that proves it. `evidence` is JSON: what the writer had seen."""

    status: Status
    at_ms: int
    by: str
    reason: str | None
    evidence: dict[str, Any] | None
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A push to one session. `result`: `delivered`, `in_flight`, or why it came to nothing."""

    device_id: UUID
    session_id: UUID
    pushed_at_ms: int
    result: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """Every state of a message once, from Created on, each with its record; the pushes; the rejected repeats."""

    view: MessageView
    events: tuple[TrailEvent, ...]
    attempts: tuple[Attempt, ...]
    repeats: tuple[Place, ...]


def view(rows: Rows) -> MessageView:
    """The message as a status shows it."""
    message = life(rows)
    stored = rows.stored
    return MessageView(
        message_id=stored.message_id,
        sender=stored.sender,
        sender_name=stored.sender_name,
        recipient=stored.recipient,
        recipient_name=stored.recipient_name,
        partition=stored.partition,
        position=stored.position,
        status=message.status,
        created_at_ms=stored.created_at_ms,
        stored_at_ms=stored.stored_at_ms,
        attempted_at_ms=_when(message.attempted),
        pending_at_ms=_when(message.pending),
        delivered_at_ms=_when(message.delivered),
        read_at_ms=_when(message.read),
        erased_at_ms=_when(message.erased),
        devices=tuple(
            DeviceDelivery(device_id=device_id, delivered_at_ms=mark.at_ms)
            for device_id, mark in sorted(message.deliveries.items(), key=lambda item: (item[1].place.offset, item[0]))
        ),
    )


def trail(rows: Rows) -> Trail:
    """The message as evidence."""
    message = life(rows)
    evidence = _evidence(rows)
    created = Mark(place=message.stored.place, at_ms=message.created_at_ms, by=message.stored.by)
    marks = (
        (Status.CREATED, created),
        (Status.STORED, message.stored),
        (Status.DELIVERY_ATTEMPTED, message.attempted),
        (Status.PENDING_SYNC, message.pending),
        (Status.DELIVERED, message.delivered),
        (Status.READ, message.read),
        (Status.ERASED, message.erased),
    )
    events = (
        TrailEvent(
            status=status,
            at_ms=mark.at_ms,
            by=mark.by,
            reason=mark.reason.value if mark.reason else None,
            evidence=evidence.get(mark.place.offset),
            place=mark.place,
        )
        for status, mark in marks
        if mark
    )
    return Trail(view=view(rows), events=tuple(events), attempts=tuple(_attempts(rows, message)), repeats=message.repeats)


def life(rows: Rows) -> Message:
    """The fold of the rows: what `evolve` makes of the records that they stand for."""
    records = sorted(_records(rows), key=lambda recorded: recorded.place.offset)
    return fold(records).messages[rows.stored.message_id]


def _records(rows: Rows) -> Iterable[Recorded]:
    stored = rows.stored
    yield _recorded(rows, stored.position, stored.stored_at_ms, _stored_again(rows, stored.event_id, stored.producer))
    for repeat in rows.repeats:
        yield _recorded(rows, repeat.position, repeat.at_ms, _stored_again(rows, repeat.event_id, repeat.producer))
    for decision in rows.decisions:
        yield _recorded(rows, decision.position, decision.at_ms, _decided(stored, decision))
    for end in rows.ends:
        closed = SessionClosed(
            event_id=end.event_id,
            producer=end.producer,
            recipient=stored.recipient,
            session_id=end.session_id,
            device_id=end.device_id,
            reason=EndReason(end.reason),
        )
        yield _recorded(rows, end.position, end.at_ms, closed)
    for row in rows.deliveries:
        yield _recorded(rows, row.position, row.at_ms, _acknowledged(MessagesDelivered, stored, row))
    for row in rows.readings:
        yield _recorded(rows, row.position, row.at_ms, _acknowledged(MessagesRead, stored, row))
    for erasure in rows.erasures:
        erased = AccountErased(event_id=erasure.event_id, producer=erasure.producer, recipient=stored.recipient)
        yield _recorded(rows, erasure.position, erasure.at_ms, erased)


def _recorded(rows: Rows, position: int, at_ms: int, fact: Fact) -> Recorded:
    return Recorded(fact, Place(LIFECYCLE, rows.stored.partition, position), at_ms)


def _stored_again(rows: Rows, event_id: UUID, producer: str) -> MessageStored:
    stored = rows.stored
    return MessageStored(
        event_id=event_id,
        producer=producer,
        recipient=stored.recipient,
        message_id=stored.message_id,
        sender=stored.sender,
        sender_device=stored.sender_device,
        created_at_ms=stored.created_at_ms,
        keyed=stored.keyed,
        sealed=b"",
        digest=b"",
    )


def _decided(stored: StoredRow, row: DecisionRow) -> DeliveryAttempted | PendingSync:
    sessions = tuple(
        SessionSeen(
            session_id=UUID(seen["session_id"]),
            device_id=UUID(seen["device_id"]),
            gateway=seen["gateway"],
            epoch=seen["epoch"],
            live=seen["live"],
        )
        for seen in row.evidence or ()
    )
    if not row.pending:
        return DeliveryAttempted(
            event_id=row.event_id,
            producer=row.producer,
            recipient=stored.recipient,
            causation_id=row.causation_id,
            message_id=row.message_id,
            position=stored.position,
            sessions=sessions,
            policy=row.policy,
        )
    return PendingSync(
        event_id=row.event_id,
        producer=row.producer,
        recipient=stored.recipient,
        causation_id=row.causation_id,
        message_id=row.message_id,
        position=stored.position,
        reason=reason_of(row.reason or ""),
        session_id=row.session_id,
        sessions=sessions,
        policy=row.policy,
    )


def reason_of(text: str) -> PendingReason | EndReason:
    """The reason behind a word."""
    return PendingReason(text) if text in PendingReason.__members__.values() else EndReason(text)


def _acknowledged(
    kind: type[MessagesDelivered] | type[MessagesRead], stored: StoredRow, row: AckRow
) -> MessagesDelivered | MessagesRead:
    return kind(
        event_id=row.event_id,
        producer=row.producer,
        recipient=stored.recipient,
        device_id=row.device_id,
        entries=(Entry(message_id=stored.message_id, position=stored.position, sender=stored.sender),),
        via=Via(row.via),
        session_id=row.session_id,
    )


def _evidence(rows: Rows) -> dict[int, dict[str, Any]]:
    """What the writer of each record had seen, by position."""
    found: dict[int, dict[str, Any]] = {}
    for end in rows.ends:
        found[end.position] = {"session_id": str(end.session_id), "device_id": str(end.device_id)}
    for row in (*rows.readings, *rows.deliveries):
        session = {"session_id": str(row.session_id)} if row.session_id else {}
        found[row.position] = {"device_id": str(row.device_id), "via": row.via, **session}
    for decision in rows.decisions:
        caused = {"causation_id": str(decision.causation_id)} if decision.causation_id else {}
        found[decision.position] = {"policy": decision.policy, "sessions": decision.evidence or [], **caused}
    return found


def _attempts(rows: Rows, message: Message) -> Iterable[Attempt]:
    for decision in sorted(rows.decisions, key=lambda decision: decision.position):
        if decision.pending:
            continue
        for seen in decision.evidence or ():
            device_id, session_id = UUID(seen["device_id"]), UUID(seen["session_id"])
            yield Attempt(
                device_id=device_id,
                session_id=session_id,
                pushed_at_ms=decision.at_ms,
                result=_result(rows, message, device_id, session_id),
                place=Place(LIFECYCLE, rows.stored.partition, decision.position),
            )


def _result(rows: Rows, message: Message, device_id: UUID, session_id: UUID) -> str:
    """What came of a push: the first thing that happened to it in the log. It may stand before the decision, which it
    overtook on its way there."""
    stored = rows.stored.position
    outcomes = [(end.position, end.reason) for end in rows.ends if end.session_id == session_id]
    outcomes += [(row.position, row.reason or "") for row in rows.decisions if row.pending and row.session_id == session_id]
    if (delivered := message.deliveries.get(device_id)) is not None:
        outcomes.append((delivered.place.offset, "delivered"))
    return min((outcome for outcome in outcomes if outcome[0] > stored), default=(0, "in_flight"))[1]


def _when(mark: Mark | None) -> int | None:
    return mark.at_ms if mark else None
