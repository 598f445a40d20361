"""Devices, their sessions, and accounts that are gone: who may acknowledge, and which pushes came to nothing."""

from typing import Final
from uuid import UUID

from processors.audit.findings import Kind
from processors.audit.notes import Notes
from processors.audit.rows import MARKERS_KEPT, Gone, Once, Owned, Sitting
from processors.audit.shelves import NEAR_ROWS, Disk, Shelf
from schemas.events import (
    AccountErased,
    DeviceRegistered,
    DeviceRemoved,
    FactBase,
    MessagesDelivered,
    MessagesRead,
    SessionClosed,
    SessionMarked,
    SessionOpened,
    SessionSeen,
)
from schemas.raw import RawRecord

GRACE_MS: Final = 600_000
"""What was under way when a device or an account was removed may land so much later."""

Marker = SessionOpened | SessionMarked
Acknowledgement = MessagesDelivered | MessagesRead


class Sessions:
    """What the log says about them so far, in one partition."""

    def __init__(self, notes: Notes, disk: Disk, *, near_rows: int = NEAR_ROWS) -> None:
        self._notes = notes
        self._sittings: Shelf[Sitting] = Shelf(disk, Sitting.pack, Sitting, near_rows=near_rows)
        self._devices: Shelf[Owned] = Shelf(disk, Owned.pack, Owned, near_rows=near_rows)
        self._gone: Shelf[Gone] = Shelf(disk, Gone.pack, Gone, near_rows=near_rows)
        self._once: Shelf[Once] = Shelf(disk, Once.pack, Once, near_rows=near_rows)

    def registered(self, fact: DeviceRegistered, raw: RawRecord) -> None:
        """The account has this device."""
        device = self._devices.get(fact.device_id.int)
        if device is None:
            self._devices.put(fact.device_id.int, Owned(fact.recipient.int, raw.offset))
        elif device.account == fact.recipient.int:
            self._notes.counts.again += 1
        else:
            self._notes.find(
                Kind.FORGED_SESSION, raw.offset, f"device {fact.device_id} belongs to {UUID(int=device.account)}"
            )

    def removed(self, fact: DeviceRemoved, raw: RawRecord) -> None:
        """The device is gone, and its sessions with it."""
        device = self._own_device(fact.device_id, fact.recipient, raw, Kind.FORGED_SESSION, "was removed")
        if device is None:
            return
        if device.removed_ms is not None:
            self._notes.counts.again += 1
            return
        device.removed_ms = raw.at_ms
        for session in device.live:
            self._end(session, raw)
        device.live = ()

    def marked(self, fact: Marker, raw: RawRecord) -> None:
        """A session begins, or begins a new epoch."""
        self.note(fact, raw)
        self.alive(fact, raw)
        device = self._own_device(fact.device_id, fact.recipient, raw, Kind.FORGED_SESSION, "begins a session")
        session = fact.session_id.int
        opened = raw.offset if isinstance(fact, SessionOpened) else None
        sitting = self._sittings.get(session)
        if sitting is None:
            if isinstance(fact, SessionMarked) and self._notes.whole:
                self._notes.find(
                    Kind.UNCAUSED, raw.offset, f"a new epoch of session {fact.session_id}, which was never opened"
                )
            sitting = Sitting(fact.recipient.int, fact.device_id.int, fact.gateway, opened)
            self._sittings.put(session, sitting)
        elif (sitting.account, sitting.device) != (fact.recipient.int, fact.device_id.int):
            self._notes.find(Kind.FORGED_SESSION, raw.offset, f"session {fact.session_id} belongs to another device")
            return
        if not sitting.gateway:  # its end was written first
            sitting.gateway, sitting.opened = fact.gateway, opened
        sitting.epochs = (*sitting.epochs, raw.offset)[-MARKERS_KEPT:]
        if device is not None:
            device.markers = (*device.markers, fact.event_id.int)[-MARKERS_KEPT:]
            if session not in device.live:
                device.live = (*device.live, session)

    def closed(self, fact: SessionClosed, raw: RawRecord) -> None:
        """A session ends."""
        self.note(fact, raw)
        device = self._own_device(fact.device_id, fact.recipient, raw, Kind.FORGED_SESSION, "ends a session")
        if device is not None:
            cause = fact.causation_id.int if fact.causation_id else None
            if (
                cause is not None
                and cause not in device.markers
                and self._notes.whole
                and len(device.markers) < MARKERS_KEPT
            ):
                text = f"the end of session {fact.session_id} was caused by {fact.causation_id}, which began no session"
                self._notes.find(Kind.UNCAUSED, raw.offset, text)
            device.live = tuple(session for session in device.live if session != fact.session_id.int)
        self._end(fact.session_id.int, raw, fact)

    def _end(self, session: int, raw: RawRecord, fact: SessionClosed | None = None) -> None:
        sitting = self._sittings.get(session)
        if sitting is None:
            if fact is None:
                return
            sitting = Sitting(fact.recipient.int, fact.device_id.int, "", None)
            self._sittings.put(session, sitting)
        sitting.ended, sitting.ended_ms = raw.offset, raw.at_ms

    def erased(self, fact: AccountErased, raw: RawRecord) -> None:
        """The account is gone."""
        if self._gone.get(fact.recipient.int) is not None:
            self._notes.counts.again += 1
            return
        self._gone.put(fact.recipient.int, Gone(raw.offset, raw.at_ms))

    def entitled(self, fact: Acknowledgement, raw: RawRecord) -> None:
        """Whether the device and the session that acknowledge are the recipient's."""
        self.alive(fact, raw)
        self._own_device(fact.device_id, fact.recipient, raw, Kind.FORGED_ACK, "acknowledges")
        if fact.session_id is None:
            return
        sitting = self._sittings.get(fact.session_id.int)
        if sitting is None:
            if self._notes.whole:
                self._notes.find(
                    Kind.FORGED_ACK, raw.offset, f"acknowledged on session {fact.session_id}, which was never opened"
                )
        elif (sitting.account, sitting.device) != (fact.recipient.int, fact.device_id.int):
            self._notes.find(Kind.FORGED_ACK, raw.offset, f"acknowledged on session {fact.session_id} of another device")

    def _own_device(self, device_id: UUID, account: UUID, raw: RawRecord, kind: Kind, what: str) -> Owned | None:
        device = self._devices.get(device_id.int)
        if device is None:
            if self._notes.whole:
                self._notes.find(kind, raw.offset, f"device {device_id} {what}, and no account has it")
            return None
        if device.account != account.int:
            self._notes.find(
                kind, raw.offset, f"device {device_id} {what} for {account}, but is {UUID(int=device.account)}'s"
            )
            return None
        if device.removed_ms is not None and raw.at_ms - device.removed_ms > GRACE_MS:
            self._notes.find(Kind.AFTER_END, raw.offset, f"device {device_id} {what}, long after it was removed")
        return device

    def alive(self, fact: FactBase, raw: RawRecord) -> None:
        """Whether the account still is."""
        gone = self._gone.get(fact.recipient.int)
        if gone is not None and raw.at_ms - gone.at_ms > GRACE_MS:
            self._notes.find(
                Kind.AFTER_END, raw.offset, f"a {type(fact).__name__} for an account that was erased at {gone.offset}"
            )

    def note(self, fact: FactBase, raw: RawRecord) -> None:
        """This very event may be in the log already, which changes nothing but the latest epoch or end."""
        number = fact.event_id.int
        if self._once.get(number) is None:
            self._once.put(number, Once(raw.offset))
        else:
            self._notes.counts.again += 1

    def ended_since(self, session: int, position: int) -> int | None:
        """When the session ended, if it did after this offset."""
        sitting = self._sittings.get(session)
        if sitting is None or sitting.ended is None or sitting.ended <= position:
            return None
        return sitting.ended_ms

    def gone(self, account: int) -> bool:
        """Whether the account was erased."""
        return self._gone.get(account) is not None

    def is_known(self, seen: SessionSeen, recipient: UUID) -> bool:
        """Whether the log has the marker that this evidence speaks of."""
        if seen.epoch < self._notes.start:
            return True
        sitting = self._sittings.get(seen.session_id.int)
        if sitting is None or (sitting.account, sitting.device) != (recipient.int, seen.device_id.int):
            return False
        forgotten = len(sitting.epochs) == MARKERS_KEPT and seen.epoch < sitting.epochs[0]
        return sitting.gateway == seen.gateway and (seen.epoch in sitting.epochs or forgotten)

    def opened_at(self, seen: SessionSeen) -> int | None:
        """Where the session began; before all, where that is not known."""
        sitting = self._sittings.get(seen.session_id.int)
        return self._notes.start - 1 if sitting is None or sitting.opened is None else sitting.opened
