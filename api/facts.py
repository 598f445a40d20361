"""The facts that a gateway appends about a session."""

from collections.abc import Sequence

from api.common import Common, Me
from api.ids import new_id
from schemas.events import (
    EndReason,
    Entry,
    MessagesDelivered,
    MessagesRead,
    SessionClosed,
    SessionMarked,
    SessionOpened,
    Via,
)

Acknowledgement = MessagesDelivered | MessagesRead
Marker = SessionOpened | SessionMarked


def marker(kind: type[Marker], common: Common, me: Me) -> Marker:
    """The session begins, or begins a new epoch."""
    return kind(
        event_id=new_id(),
        producer=common.producer,
        recipient=me.user,
        session_id=me.session,
        device_id=me.device,
        gateway=common.gateway,
        push_partition=common.push_partition,
    )


def closed(common: Common, me: Me, reason: EndReason) -> SessionClosed:
    """The session is over."""
    return SessionClosed(
        event_id=new_id(),
        producer=common.producer,
        recipient=me.user,
        session_id=me.session,
        device_id=me.device,
        reason=reason,
    )


def acknowledged(kind: type[Acknowledgement], common: Common, me: Me, entries: Sequence[Entry]) -> Acknowledgement:
    """The device has these messages, or its user has read them."""
    return kind(
        event_id=new_id(),
        producer=common.producer,
        recipient=me.user,
        device_id=me.device,
        entries=tuple(entries),
        via=Via.STREAM,
        session_id=me.session,
    )
