"""Facts with defaults, fixed ids and fixed times, so that a test names only what it is about."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from schemas.events import (
    AccountErased,
    DeliveryAttempted,
    DeviceRegistered,
    DeviceRemoved,
    EndReason,
    Entry,
    Fact,
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
    SessionSeen,
    Via,
)
from schemas.gateways import GatewayLease
from schemas.presence import PresenceRow
from schemas.push import Push, PushedMessage, PushKind
from schemas.quarantined import Header, Quarantined, Replayed
from schemas.receipt import Outcome, Receipt
from schemas.topics import LIFECYCLE


def an_id(kind: str, number: int) -> UUID:
    """A readable id: the same kind and number give the same one."""
    return UUID(int=(int.from_bytes(kind.encode().ljust(4, b"\0")[:4]) << 96) | (0x8 << 76) | (0x2 << 62) | number)


ALICE, BOB = an_id("acct", 1), an_id("acct", 2)
PHONE, LAPTOP = an_id("dev", 1), an_id("dev", 2)
SESSION, OTHER_SESSION = an_id("sess", 1), an_id("sess", 2)
T0_MS = 1_790_000_000_000
_COMMON: dict[str, Any] = {"producer": "test/1", "recipient": BOB}


def recorded(fact: Fact, offset: int, partition: int = 0) -> Recorded:
    """The fact as the log has it at this offset, one second after the one before."""
    return Recorded(fact, Place(LIFECYCLE, partition, offset), T0_MS + 1000 * offset)


def log_of(*facts: Fact) -> list[Recorded]:
    """These facts one after the other, from offset 0."""
    return [recorded(fact, offset) for offset, fact in enumerate(facts)]


def stored(message: int = 1, **changes: Any) -> MessageStored:
    fact = MessageStored(
        event_id=an_id("ev", 1000 + message),
        message_id=an_id("msg", message),
        sender=ALICE,
        sender_device=an_id("dev", 9),
        created_at_ms=T0_MS - 5,
        keyed=False,
        sealed=b"sealed body",
        digest=b"d" * 32,
        **_COMMON,
    )
    return replace(fact, **changes)


def pending(message: int = 1, position: int = 0, **changes: Any) -> PendingSync:
    fact = PendingSync(
        event_id=an_id("ev", 2000 + message),
        causation_id=an_id("ev", 1000 + message),
        message_id=an_id("msg", message),
        position=position,
        reason=PendingReason.NO_SESSION,
        session_id=None,
        sessions=(),
        policy="1",
        **_COMMON,
    )
    return replace(fact, **changes)


def seen(session: UUID = SESSION, device: UUID = PHONE, epoch: int = 0, live: bool = True) -> SessionSeen:
    return SessionSeen(session_id=session, device_id=device, gateway="gateway-1", epoch=epoch, live=live)


def attempted(message: int = 1, position: int = 0, *sessions: SessionSeen, **changes: Any) -> DeliveryAttempted:
    fact = DeliveryAttempted(
        event_id=an_id("ev", 3000 + message),
        causation_id=an_id("ev", 1000 + message),
        message_id=an_id("msg", message),
        position=position,
        sessions=sessions or (seen(),),
        policy="1",
        **_COMMON,
    )
    return replace(fact, **changes)


def entry(message: int, position: int = 0) -> Entry:
    return Entry(message_id=an_id("msg", message), position=position, sender=ALICE)


def delivered(*entries: Entry, device: UUID = PHONE, **changes: Any) -> MessagesDelivered:
    fact = MessagesDelivered(event_id=an_id("ev", 4000), device_id=device, entries=entries, via=Via.HTTP, **_COMMON)
    return replace(fact, **changes)


def read(*entries: Entry, device: UUID = PHONE, **changes: Any) -> MessagesRead:
    fact = MessagesRead(event_id=an_id("ev", 5000), device_id=device, entries=entries, via=Via.HTTP, **_COMMON)
    return replace(fact, **changes)


def opened(session: UUID = SESSION, device: UUID = PHONE, **changes: Any) -> SessionOpened:
    fact = SessionOpened(
        event_id=an_id("ev", 6000),
        session_id=session,
        device_id=device,
        gateway="gateway-1",
        push_partition=3,
        **_COMMON,
    )
    return replace(fact, **changes)


def marked(session: UUID = SESSION, device: UUID = PHONE, **changes: Any) -> SessionMarked:
    fact = SessionMarked(
        event_id=an_id("ev", 6500),
        session_id=session,
        device_id=device,
        gateway="gateway-1",
        push_partition=3,
        **_COMMON,
    )
    return replace(fact, **changes)


def closed(session: UUID = SESSION, device: UUID = PHONE, reason: EndReason = EndReason.ACK_TIMEOUT) -> SessionClosed:
    return SessionClosed(event_id=an_id("ev", 7000), session_id=session, device_id=device, reason=reason, **_COMMON)


def registered(device: UUID = PHONE, **changes: Any) -> DeviceRegistered:
    return replace(DeviceRegistered(event_id=an_id("ev", 8000), device_id=device, **_COMMON), **changes)


def removed(device: UUID = PHONE, **changes: Any) -> DeviceRemoved:
    return replace(DeviceRemoved(event_id=an_id("ev", 8500), device_id=device, **_COMMON), **changes)


def erased(**changes: Any) -> AccountErased:
    return replace(AccountErased(event_id=an_id("ev", 9000), **_COMMON), **changes)


def told(*entries: Entry, **changes: Any) -> MessagesErased:
    return replace(MessagesErased(event_id=an_id("ev", 9050), entries=entries, **_COMMON), **changes)


def pushed(**changes: Any) -> Push:
    given = Push(
        event_id=an_id("ev", 9100),
        producer="test/1",
        kind=PushKind.MESSAGE,
        gateway="gateway-1",
        recipient=BOB,
        session_id=SESSION,
        device_id=PHONE,
        epoch=3,
        predecessor=3,
        message=PushedMessage(
            message_id=an_id("msg", 1), sender=ALICE, position=7, stored_at_ms=T0_MS, sealed=b"sealed body"
        ),
    )
    return replace(given, **changes)


def quarantined() -> Quarantined:
    return Quarantined(
        event_id=an_id("ev", 9200),
        producer="test/1",
        topic=LIFECYCLE,
        partition=3,
        offset=17,
        at_ms=T0_MS,
        key=b"key",
        value=b"\x00bad",
        headers=(Header(name="ce_id", value=b"1"), Header(name="empty", value=None)),
        reason="the value is not in Avro single-object encoding",
    )


def replayed() -> Replayed:
    return Replayed(
        event_id=an_id("ev", 9250),
        producer="test/1",
        topic=LIFECYCLE,
        partition=3,
        offset=17,
        now_partition=3,
        now_offset=21,
    )


def presence_row(**changes: Any) -> PresenceRow:
    row = PresenceRow(
        event_id=an_id("ev", 6500),
        device_id=PHONE,
        session_id=SESSION,
        gateway="gateway-1",
        push_partition=3,
        epoch=12,
        opened=7,
        replaced=OTHER_SESSION,
        **_COMMON,
    )
    return replace(row, **changes)


def lease(**changes: Any) -> GatewayLease:
    given = GatewayLease(
        event_id=an_id("ev", 9300),
        producer="test/1",
        gateway="gateway-1",
        push_partition=3,
        lease_ms=15_000,
        ended=False,
    )
    return replace(given, **changes)


def receipt(message: int = 1, **changes: Any) -> Receipt:
    given = Receipt(
        event_id=an_id("ev", 9400 + message),
        producer="test/1",
        causation_id=an_id("ev", 3000 + message),
        sender=ALICE,
        recipient=BOB,
        message_id=an_id("msg", message),
        position=7,
        outcome=Outcome.DELIVERED,
        at_ms=T0_MS,
    )
    return replace(given, **changes)


ONE_OF_EACH = (
    stored(),
    opened(),
    marked(),
    closed(),
    attempted(),
    pending(),
    delivered(entry(1)),
    read(entry(1)),
    registered(),
    removed(),
    erased(),
    told(entry(1)),
    pushed(),
    lease(),
    receipt(),
    quarantined(),
    replayed(),
    presence_row(),
)
