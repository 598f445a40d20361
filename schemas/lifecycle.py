"""What the log means: the fold of one recipient's facts, pure, total, tolerant of repeats.

States are ranked and only rise. `MessageStored` proves Created and Stored; `PendingSync` without a session proves
DeliveryAttempted and PendingSync; the end of a session turns what it had in flight into PendingSync. Every projection,
decision and audit is this fold in another shape, and is tested against it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from types import MappingProxyType
from typing import Any, assert_never
from uuid import UUID

from schemas.events import (
    AccountErased,
    DeliveryAttempted,
    DeviceRegistered,
    DeviceRemoved,
    EndReason,
    Entry,
    MessagesDelivered,
    MessagesErased,
    MessagesRead,
    MessageStored,
    PendingReason,
    PendingSync,
    Place,
    Recorded,
    SessionClosed,
    SessionMarked,
    SessionOpened,
)


class Status(IntEnum):
    """The states of a message, in rank order."""

    CREATED = 0
    STORED = 1
    DELIVERY_ATTEMPTED = 2
    PENDING_SYNC = 3
    DELIVERED = 4
    READ = 5
    ERASED = 6

    @property
    def label(self) -> str:
        """The state's name as the outside sees it, such as `PendingSync`."""
        return self.name.title().replace("_", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The record that proves a state: where it stands, when it was appended (milliseconds), who wrote it, and why."""

    place: Place
    at_ms: int
    by: str
    reason: PendingReason | EndReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """The life of one message. `delivered` is the first device's acknowledgement; `deliveries` has every device's.
    `told` is the record by which the sender hears that it was erased."""

    message_id: UUID
    sender: UUID
    position: int
    created_at_ms: int
    stored: Mark
    attempted: Mark | None = None
    pending: Mark | None = None
    delivered: Mark | None = None
    read: Mark | None = None
    erased: Mark | None = None
    told: Mark | None = None
    deliveries: Mapping[UUID, Mark] = field(default_factory=lambda: _NOTHING)
    in_flight: frozenset[UUID] = frozenset()
    repeats: tuple[Place, ...] = ()
    late: tuple[Place, ...] = ()

    @property
    def status(self) -> Status:
        """The highest state that is proved."""
        proofs = (
            (self.erased, Status.ERASED),
            (self.read, Status.READ),
            (self.delivered, Status.DELIVERED),
            (self.pending, Status.PENDING_SYNC),
            (self.attempted, Status.DELIVERY_ATTEMPTED),
        )
        return next((status for mark, status in proofs if mark), Status.STORED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device of the recipient, by the positions of its facts."""

    registered: int
    removed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A live session. `epoch` is the position of its latest marker."""

    device_id: UUID
    gateway: str
    push_partition: int
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """All that the log says about one recipient. `ended` has the latest end of each session."""

    messages: Mapping[UUID, Message] = field(default_factory=lambda: _NOTHING)
    devices: Mapping[UUID, Device] = field(default_factory=lambda: _NOTHING)
    sessions: Mapping[UUID, Session] = field(default_factory=lambda: _NOTHING)
    ended: Mapping[UUID, Mark] = field(default_factory=lambda: _NOTHING)
    erased: Mark | None = None

    def mailbox(self, device_id: UUID) -> list[Message]:
        """What a device has not acknowledged, oldest first: all that no device has acknowledged, and what was acknowledged
        elsewhere after this device existed. Nothing for a device that is unknown or removed."""
        device = self.devices.get(device_id)
        if device is None or device.removed is not None or self.erased:
            return []
        owed = (
            message
            for message in self.messages.values()
            if device_id not in message.deliveries
            and (message.delivered is None or device.registered < message.delivered.place.offset)
        )
        return sorted(owed, key=lambda message: message.position)


_NOTHING: Mapping[Any, Any] = MappingProxyType({})

INITIAL = Recipient()


def fold(records: Iterable[Recorded], state: Recipient = INITIAL) -> Recipient:
    """The state after these records, in their order."""
    for recorded in records:
        state = evolve(state, recorded)
    return state


def evolve(state: Recipient, recorded: Recorded) -> Recipient:
    """The state after one more record."""
    fact = recorded.fact
    mark = Mark(place=recorded.place, at_ms=recorded.at_ms, by=fact.producer)
    match fact:
        case MessageStored():
            return _stored(state, fact, mark)
        case DeliveryAttempted():
            return _change(state, fact.message_id, lambda m: _attempted(m, fact, mark, state.ended))
        case PendingSync():
            return _change(state, fact.message_id, lambda m: _pending(m, fact, mark))
        case MessagesDelivered():
            return _acknowledged(state, fact.entries, lambda m: _delivered(m, fact.device_id, mark))
        case MessagesRead():
            return _acknowledged(state, fact.entries, lambda m: _read(m, fact.device_id, mark))
        case SessionOpened() | SessionMarked():
            session = Session(
                device_id=fact.device_id,
                gateway=fact.gateway,
                push_partition=fact.push_partition,
                epoch=recorded.place.offset,
            )
            return replace(state, sessions={**state.sessions, fact.session_id: session})
        case SessionClosed():
            return _session_ended(state, fact.session_id, replace(mark, reason=fact.reason))
        case DeviceRegistered():
            if fact.device_id in state.devices:
                return state
            return replace(state, devices={**state.devices, fact.device_id: Device(registered=recorded.place.offset)})
        case DeviceRemoved():
            return _device_removed(state, fact.device_id, replace(mark, reason=EndReason.DEVICE_REMOVED))
        case AccountErased():
            return _erased(state, mark)
        case MessagesErased():
            return _entries(state, fact.entries, lambda m: _told(m, mark))
        case _:
            assert_never(fact)


def _stored(state: Recipient, fact: MessageStored, mark: Mark) -> Recipient:
    known = state.messages.get(fact.message_id)
    if known is not None:
        if mark.place == known.stored.place or mark.place in known.repeats:
            return state
        return _with(state, replace(known, repeats=(*known.repeats, mark.place)))
    message = Message(
        message_id=fact.message_id,
        sender=fact.sender,
        position=mark.place.offset,
        created_at_ms=fact.created_at_ms,
        stored=mark,
        erased=mark if state.erased else None,
    )
    return _with(state, message)


def _attempted(message: Message, fact: DeliveryAttempted, mark: Mark, ended: Mapping[UUID, Mark]) -> Message:
    """A session whose end overtook this record on its way into the log has nothing in flight any more."""
    if message.delivered or message.erased:
        return _late(message, mark)
    if message.attempted:
        return message
    asked = frozenset(seen.session_id for seen in fact.sessions)
    over = {session: ended[session] for session in asked & ended.keys() if ended[session].place.offset > message.position}
    message = replace(message, attempted=mark, in_flight=asked - over.keys())
    if message.in_flight or not over or message.pending:
        return message
    last = max(over.values(), key=lambda end: end.place.offset)
    return replace(message, pending=replace(mark, reason=last.reason))


def _pending(message: Message, fact: PendingSync, mark: Mark) -> Message:
    if message.delivered or message.erased:
        return _late(message, mark)
    if message.pending:
        return message
    if fact.session_id is not None:
        return _gave_up(message, fact.session_id, replace(mark, reason=fact.reason))
    pending = replace(mark, reason=fact.reason)
    return replace(message, attempted=message.attempted or pending, pending=pending)


def _gave_up(message: Message, session_id: UUID, mark: Mark) -> Message:
    """The message is no longer in flight in this session; with the last session gone it waits for the next sync."""
    if session_id not in message.in_flight:
        return message
    left = message.in_flight - {session_id}
    waits = not left and not message.pending and not message.delivered and not message.erased
    return replace(message, in_flight=left, pending=mark if waits else message.pending)


def _late(message: Message, mark: Mark) -> Message:
    return message if mark.place in message.late else replace(message, late=(*message.late, mark.place))


def _delivered(message: Message, device_id: UUID, mark: Mark) -> Message:
    if device_id in message.deliveries:
        return message
    return replace(
        message,
        delivered=message.delivered or mark,
        deliveries={**message.deliveries, device_id: mark},
        in_flight=frozenset(),
    )


def _read(message: Message, device_id: UUID, mark: Mark) -> Message:
    message = _delivered(message, device_id, mark)
    return message if message.read else replace(message, read=mark)


def _session_ended(state: Recipient, session_id: UUID, mark: Mark) -> Recipient:
    sessions = {known: session for known, session in state.sessions.items() if known != session_id}
    messages = {known: _gave_up(message, session_id, mark) for known, message in state.messages.items()}
    return replace(state, sessions=sessions, messages=messages, ended={**state.ended, session_id: mark})


def _device_removed(state: Recipient, device_id: UUID, mark: Mark) -> Recipient:
    device = state.devices.get(device_id)
    if device is None or device.removed is not None:
        return state
    state = replace(state, devices={**state.devices, device_id: replace(device, removed=mark.place.offset)})
    for session_id, session in state.sessions.items():
        if session.device_id == device_id:
            state = _session_ended(state, session_id, mark)
    return state


def _erased(state: Recipient, mark: Mark) -> Recipient:
    if state.erased:
        return state
    messages = {
        known: message if message.delivered else replace(message, erased=mark, in_flight=frozenset())
        for known, message in state.messages.items()
    }
    return replace(state, erased=mark, messages=messages, sessions=_NOTHING)


def _told(message: Message, mark: Mark) -> Message:
    return replace(message, told=mark) if message.erased and not message.told else message


def _acknowledged(state: Recipient, entries: Iterable[Entry], change: Any) -> Recipient:
    """The erasure of the account may have overtaken an acknowledgement on its way; it does not count any more."""
    return state if state.erased else _entries(state, entries, change)


def _entries(state: Recipient, entries: Iterable[Entry], change: Any) -> Recipient:
    for entry in entries:
        state = _change(state, entry.message_id, change)
    return state


def _change(state: Recipient, message_id: UUID, change: Any) -> Recipient:
    message = state.messages.get(message_id)
    return state if message is None else _with(state, change(message))


def _with(state: Recipient, message: Message) -> Recipient:
    return replace(state, messages={**state.messages, message.message_id: message})
