"""The policy: given who is there, what follows from a record. Pure; time and names are arguments.

A message is decided once it is read, also where an acknowledgement overtook it: the fold counts such a decision as late.
Ids of decisions are derived from (message, session or none, kind), so one that is written twice is one event.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from processors.presence import Here, Seat, ends, is_superseded
from schemas.events import (
    AccountErased,
    DeliveryAttempted,
    DeviceRemoved,
    EndReason,
    MessageStored,
    PendingReason,
    PendingSync,
    Recorded,
    SessionClosed,
    SessionMarked,
    SessionOpened,
    SessionSeen,
)
from schemas.ids import derived_id
from schemas.push import Push, PushedMessage, PushKind

POLICY: Final = "push-if-there/1"
"""Goes into every decision. Change it with the policy."""

_DELIVERY_ATTEMPTED: Final = "delivery_attempted"
_PENDING_SYNC: Final = "pending_sync"

Decision = DeliveryAttempted | PendingSync | SessionClosed | Push


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to append, and the partition of its topic."""

    record: Decision
    partition: int


def decide(here: Here, recorded: Recorded, producer: str) -> list[Outgoing]:
    """What is to be appended because of this record, given the sessions just before it. `producer` names this process."""
    fact = recorded.fact
    match fact:
        case MessageStored():
            return _message(here, fact, recorded, producer)
        case SessionOpened() | SessionMarked():
            return _replaced(here, fact, recorded, producer)
        case SessionClosed():
            return _closed(here, [fact.device_id], fact.reason, recorded, producer, fact.session_id)
        case DeviceRemoved():
            return _closed(here, [fact.device_id], EndReason.DEVICE_REMOVED, recorded, producer)
        case AccountErased():
            return _closed(here, list(here), EndReason.ACCOUNT_ERASED, recorded, producer)
        case _:
            return []


def decision_id(message_id: UUID | None, session_id: UUID | None, kind: str) -> UUID:
    """The id of a decision of this kind about this message and this session."""
    return derived_id(message_id.bytes if message_id else b"", session_id.bytes if session_id else b"", kind.encode())


def decision(
    here: Here, message_id: UUID, recipient: UUID, cause: UUID, position: int, producer: str
) -> DeliveryAttempted | PendingSync:
    """The fact that follows from a message that event `cause` stored at `position`; what is pushed because of it goes along
    in `decide`."""
    present = _present(here, position)
    if not present:
        return PendingSync(
            event_id=decision_id(message_id, None, _PENDING_SYNC),
            producer=producer,
            recipient=recipient,
            causation_id=cause,
            message_id=message_id,
            position=position,
            reason=PendingReason.NO_SESSION,
            session_id=None,
            sessions=(),
            policy=POLICY,
        )
    return DeliveryAttempted(
        event_id=decision_id(message_id, None, _DELIVERY_ATTEMPTED),
        producer=producer,
        recipient=recipient,
        causation_id=cause,
        message_id=message_id,
        position=position,
        sessions=tuple(_evidence(seat) for seat in present),
        policy=POLICY,
    )


def gives(fact: DeliveryAttempted | PendingSync, position: int) -> bool:
    """Whether `decision` gives this very fact about a message at `position`, where the sessions in it were the ones present.
    An audit asks this of every decision; to make each anew and compare takes several times as long."""
    if fact.position != position or fact.policy != POLICY:
        return False
    if isinstance(fact, DeliveryAttempted):
        return bool(fact.sessions) and fact.event_id == decision_id(fact.message_id, None, _DELIVERY_ATTEMPTED)
    if fact.sessions or fact.session_id is not None or fact.reason is not PendingReason.NO_SESSION:
        return False
    return fact.event_id == decision_id(fact.message_id, None, _PENDING_SYNC)


def _present(here: Here, position: int) -> list[Seat]:
    return [seat for seat in here.values() if seat.was_there(position)] if here else []


def _message(here: Here, fact: MessageStored, recorded: Recorded, producer: str) -> list[Outgoing]:
    position = recorded.place.offset
    decided = decision(here, fact.message_id, fact.recipient, fact.event_id, position, producer)
    pushes = _pushes(_present(here, position), fact, recorded, producer)
    return [Outgoing(decided, recorded.place.partition), *pushes]


def _evidence(seat: Seat) -> SessionSeen:
    row = seat.row
    return SessionSeen(
        session_id=row.session_id, device_id=row.device_id, gateway=row.gateway, epoch=row.epoch, live=seat.live
    )


def _pushes(present: Iterable[Seat], fact: MessageStored, recorded: Recorded, producer: str) -> Iterable[Outgoing]:
    position = recorded.place.offset
    message = PushedMessage(
        message_id=fact.message_id,
        sender=fact.sender,
        position=position,
        stored_at_ms=recorded.at_ms,
        sealed=fact.sealed,
    )
    for seat in present:
        if seat.row.epoch > position:
            continue  # the drain up to its latest marker brings this message
        if seat.live:
            push = _order(PushKind.MESSAGE, seat, producer, fact.message_id, predecessor=seat.last, message=message)
            yield push
        elif seat.wants_marker(recorded.at_ms):
            yield _order(PushKind.REMARK, seat, producer, fact.message_id)


def _replaced(here: Here, fact: SessionOpened | SessionMarked, recorded: Recorded, producer: str) -> list[Outgoing]:
    seat = here.get(fact.device_id)
    if seat is None:
        return []
    if not seat.live and recorded.place.offset <= seat.row.epoch:
        return _replaced_before(seat, fact, recorded, producer)
    if seat.row.session_id == fact.session_id or recorded.place.offset < seat.row.epoch:
        return []
    if isinstance(fact, SessionMarked) and is_superseded(seat, fact):
        close = Push(
            event_id=decision_id(None, fact.session_id, PushKind.CLOSE),
            producer=producer,
            kind=PushKind.CLOSE,
            gateway=fact.gateway,
            recipient=fact.recipient,
            session_id=fact.session_id,
            device_id=fact.device_id,
            epoch=recorded.place.offset,
            reason=EndReason.REPLACED,
        )
        return [_ended(fact.session_id, recorded, producer), Outgoing(close, fact.push_partition)]
    close_it = _order(PushKind.CLOSE, seat, producer, None, reason=EndReason.REPLACED)
    return [_ended(seat.row.session_id, recorded, producer), close_it]


def _replaced_before(seat: Seat, fact: SessionOpened | SessionMarked, recorded: Recorded, producer: str) -> list[Outgoing]:
    """The table is ahead of us: a process read this record, wrote the row, and may have died before the end of the session
    that was replaced was in the log."""
    row = seat.row
    over = row.replaced if row.session_id == fact.session_id else fact.session_id
    return [_ended(over, recorded, producer)] if over else []


def _ended(session_id: UUID, recorded: Recorded, producer: str) -> Outgoing:
    """The end of a session that another one of its device replaced. Its gateway says so, too, if it still lives; from now on
    nobody else remembers the session, so what it has in flight would be so for ever."""
    fact = recorded.fact
    assert isinstance(fact, SessionOpened | SessionMarked)
    closed = SessionClosed(
        event_id=decision_id(None, session_id, EndReason.REPLACED),
        producer=producer,
        recipient=fact.recipient,
        causation_id=fact.event_id,
        session_id=session_id,
        device_id=fact.device_id,
        reason=EndReason.REPLACED,
    )
    return Outgoing(closed, recorded.place.partition)


def _closed(
    here: Here,
    devices: Iterable[UUID],
    reason: EndReason,
    recorded: Recorded,
    producer: str,
    session: UUID | None = None,
) -> list[Outgoing]:
    over = [here[device] for device in devices if ends(here.get(device), recorded.place.offset, session)]
    return [_order(PushKind.CLOSE, seat, producer, None, reason=reason) for seat in over]


def _order(
    kind: PushKind,
    seat: Seat,
    producer: str,
    message_id: UUID | None,
    *,
    predecessor: int | None = None,
    message: PushedMessage | None = None,
    reason: EndReason | None = None,
) -> Outgoing:
    row = seat.row
    push = Push(
        event_id=decision_id(message_id, row.session_id, kind),
        producer=producer,
        kind=kind,
        gateway=row.gateway,
        recipient=row.recipient,
        session_id=row.session_id,
        device_id=row.device_id,
        epoch=row.epoch,
        predecessor=predecessor,
        message=message,
        reason=reason,
    )
    return Outgoing(push, row.push_partition)
