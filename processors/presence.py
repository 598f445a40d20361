"""Who is there: a recipient's live sessions as a fold of the log, one row a device.

`after` is pure and tolerant of replays: a fact from before a row's epoch changes nothing about it. A session is *live* where
this process has read its latest marker and every record since; a row recovered from the table is a hint (design: session
marker; docs/decisions).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final
from uuid import UUID

from schemas.events import (
    AccountErased,
    DeviceRemoved,
    MessageStored,
    Recorded,
    SessionClosed,
    SessionMarked,
    SessionOpened,
)
from schemas.presence import PresenceRow

REMARK_EVERY_MS: Final = 1000
"""A hint is asked for a fresh marker at most so often (record time); a gateway that lost the order gets the next one."""


def was_there(epoch: int, opened: int | None, position: int) -> bool:
    """Whether a session of this latest marker and this beginning had begun when this position was written."""
    return epoch < position or (opened is not None and opened < position)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A session as this process knows it. `last` is the position of the latest push of its epoch (the epoch for none),
    `asked_ms` when it was last asked for a fresh marker."""

    row: PresenceRow
    live: bool
    last: int
    asked_ms: int | None = None

    def was_there(self, position: int) -> bool:
        """Whether the session had begun when this position was written."""
        return was_there(self.row.epoch, self.row.opened, position)

    def wants_marker(self, now_ms: int) -> bool:
        """Whether a fresh marker should be asked for now."""
        return not self.live and (self.asked_ms is None or now_ms - self.asked_ms >= REMARK_EVERY_MS)


Here = Mapping[UUID, Seat]
"""The sessions of one recipient by device."""

NOBODY: Here = MappingProxyType({})


def hints(rows: Iterable[PresenceRow]) -> dict[UUID, Here]:
    """Recovered rows, by recipient and device."""
    found: dict[UUID, dict[UUID, Seat]] = {}
    for row in rows:
        found.setdefault(row.recipient, {})[row.device_id] = Seat(row=row, live=False, last=row.epoch)
    return dict(found)


def after(here: Here, recorded: Recorded) -> Here:
    """The sessions after one more record; the same object where nothing changed."""
    fact, offset = recorded.fact, recorded.place.offset
    match fact:
        case SessionOpened() | SessionMarked():
            return _marked(here, fact, offset)
        case SessionClosed():
            return _without(here, [fact.device_id], offset, fact.session_id)
        case DeviceRemoved():
            return _without(here, [fact.device_id], offset)
        case AccountErased():
            return _without(here, list(here), offset)
        case MessageStored() if here:
            return {device: _pushed(seat, recorded) for device, seat in here.items()}
        case _:
            return here


def is_superseded(seat: Seat | None, fact: SessionMarked) -> bool:
    """A late marker of the very session that this one replaced: it stays replaced."""
    return seat is not None and seat.row.replaced == fact.session_id


def _marked(here: Here, fact: SessionOpened | SessionMarked, offset: int) -> Here:
    seat = here.get(fact.device_id)
    if seat is not None and offset < seat.row.epoch:
        return here
    if isinstance(fact, SessionMarked) and is_superseded(seat, fact):
        return here
    known = seat.row if seat is not None and seat.row.session_id == fact.session_id else None
    replaced = known.replaced if known else (seat.row.session_id if seat else None)
    opened = offset if isinstance(fact, SessionOpened) else (known.opened if known else None)
    row = PresenceRow(
        event_id=fact.event_id,
        producer=fact.producer,
        recipient=fact.recipient,
        device_id=fact.device_id,
        session_id=fact.session_id,
        gateway=fact.gateway,
        push_partition=fact.push_partition,
        epoch=offset,
        opened=opened,
        replaced=replaced,
    )
    return {**here, fact.device_id: Seat(row=row, live=True, last=offset)}


def _without(here: Here, devices: list[UUID], offset: int, session: UUID | None = None) -> Here:
    gone = {device for device in devices if ends(here.get(device), offset, session)}
    return {device: seat for device, seat in here.items() if device not in gone} if gone else here


def ends(seat: Seat | None, offset: int, session: UUID | None = None) -> bool:
    """Whether an ending at this offset is about the session in this seat (of any session, where none is named)."""
    return seat is not None and seat.row.epoch < offset and session in (None, seat.row.session_id)


def _pushed(seat: Seat, recorded: Recorded) -> Seat:
    position = recorded.place.offset
    if seat.row.epoch >= position:
        return seat
    if seat.live:
        return replace(seat, last=max(seat.last, position))
    return replace(seat, asked_ms=recorded.at_ms) if seat.wants_marker(recorded.at_ms) else seat
