"""`restante trail`: the life of a message from the records themselves, each with its place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from deploy.errors import DeployError, Misconfigured, Refused
from deploy.evidence.reading import Pages, Progress, opened, shown_time, stretches, understood
from deploy.settings import Settings
from producers.recorded import LogDamaged, LogReader
from projections.database import Database
from projections.errors import ProjectionsError
from projections.places import Places, places
from schemas.codec import decode
from schemas.events import (
    AccountErased,
    DeliveryAttempted,
    Fact,
    MessagesDelivered,
    MessagesErased,
    MessagesRead,
    MessageStored,
    PendingSync,
    Place,
    Recorded,
    SessionClosed,
)
from schemas.lifecycle import Message, fold
from schemas.partitions import partition_for, recipient_key
from schemas.raw import RawRecord
from schemas.receipt import Receipt
from schemas.topics import RECEIPTS


async def trail(settings: Settings, message_id: UUID, *, scan: bool, progress: Progress) -> dict[str, Any]:
    """Every record about a message, in order. Refused (exit 1) where there is none."""
    async with opened(settings) as reader, opened(settings, RECEIPTS) as told:
        if scan:
            facts = await _scanned(reader, message_id, progress)
            receipts = [raw async for raw in _everywhere(told, message_id)]
        else:
            known = await _indexed(settings, message_id)
            facts = await _at(reader, known, message_id)
            receipts = await _told(told, known)
    message = fold(facts).messages.get(message_id)
    if message is None:
        raise Refused(f"the log has no record that stored message {message_id}")
    return _document(message, facts, receipts)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which records belong into a trail: those that name the message, the ends of the sessions that it was pushed to, and
    the erasure of its recipient. Bytes are compared first; few records need to be understood."""

    message_id: UUID
    recipient: UUID | None = None
    sessions: frozenset[UUID] = frozenset()

    def of(self, records: Iterable[RawRecord]) -> list[Recorded]:
        """Those among these."""
        key = None if self.recipient is None else recipient_key(self.recipient)
        likely = (raw for raw in records if raw.key == key or self.message_id.bytes in (raw.value or b""))
        return [recorded for raw in likely if (recorded := understood(raw)) is not None and self._has(recorded.fact)]

    def _has(self, fact: Fact) -> bool:
        match fact:
            case MessageStored() | DeliveryAttempted() | PendingSync():
                return fact.message_id == self.message_id
            case MessagesDelivered() | MessagesRead() | MessagesErased():
                return any(entry.message_id == self.message_id for entry in fact.entries)
            case SessionClosed():
                return fact.session_id in self.sessions
            case AccountErased():
                return True
            case _:
                return False

    def widened(self, facts: Iterable[Recorded]) -> _Wanted:
        """The same with what these say of the recipient and the sessions."""
        seen = [seen for one in facts if isinstance(one.fact, DeliveryAttempted) for seen in one.fact.sessions]
        recipient = next((one.fact.recipient for one in facts if isinstance(one.fact, MessageStored)), self.recipient)
        return _Wanted(self.message_id, recipient, self.sessions | {one.session_id for one in seen})


async def _indexed(settings: Settings, message_id: UUID) -> Places:
    if settings.database_url is None:
        raise Misconfigured("no database is known. Set RESTANTE_DATABASE_URL, or read the whole log with --scan")
    try:
        async with Database(settings.database_url) as database:
            found = await places(database, message_id)
    except ProjectionsError as error:
        raise DeployError(f"{error}. --scan reads the whole log instead") from error
    if found is None:
        raise Refused(f"the projection does not know message {message_id}. Check the id; --scan reads the whole log instead")
    return found


async def _at(reader: LogReader, known: Places, message_id: UUID) -> list[Recorded]:
    """The records at the known places, and what the projection has not read yet."""
    records = [await _one(reader, known.partition, position) for position in known.positions]
    facts = [recorded for raw in records if (recorded := understood(raw)) is not None]
    wanted = _Wanted(message_id, known.recipient).widened(facts)
    _, end = (await reader.bounds())[known.partition]
    async for new in reader.batches(known.partition, min(known.folded, end), end):
        facts += wanted.of(new)
    return facts


async def _told(reader: LogReader, known: Places) -> list[RawRecord]:
    if known.sender is None:
        return []
    partition = partition_for(known.sender, len(await reader.bounds()))
    return [await _one(reader, partition, offset) for offset in known.receipts]


async def _one(reader: LogReader, partition: int, offset: int) -> RawRecord:
    (found,) = [raw async for records in reader.batches(partition, offset, offset + 1) for raw in records]
    return found


async def _scanned(reader: LogReader, message_id: UUID, progress: Progress) -> list[Recorded]:
    """Once for what names the message, and its partition once more for its sessions and its recipient."""
    whole, wanted = await stretches(reader), _Wanted(message_id)
    pages = Pages(reader, whole, progress)
    facts = [one for stretch in whole async for records in pages.of(stretch, _passed) for one in wanted.of(records)]
    home = {one.place.partition for one in facts}
    again, wanted = [stretch for stretch in whole if stretch.partition in home], wanted.widened(facts)
    pages = Pages(reader, again, progress)
    return [one for stretch in again async for records in pages.of(stretch, _passed) for one in wanted.of(records)]


async def _everywhere(reader: LogReader, message_id: UUID) -> AsyncIterator[RawRecord]:
    pages = Pages(reader, whole := await stretches(reader), lambda done, total: None)
    for stretch in whole:
        async for records in pages.of(stretch, _passed):
            for raw in records:
                if message_id.bytes in (raw.value or b""):
                    yield raw


def _passed(damage: LogDamaged) -> None:
    """A trail shows what can be read; `restante audit` names what cannot."""


def _document(message: Message, facts: Sequence[Recorded], receipts: Sequence[RawRecord]) -> dict[str, Any]:
    return {
        "id": str(message.message_id),
        "from_id": str(message.sender),
        "to_id": str(facts[0].fact.recipient),
        "status": message.status.label,
        "records": [_row(message, one) for one in facts],
        "receipts": [_receipt(raw) for raw in receipts],
    }


def _row(message: Message, one: Recorded) -> dict[str, Any]:
    fact = one.fact
    return {
        "at": shown_time(one.at_ms),
        "record": type(fact).__name__,
        "proves": _proved(message, one.place),
        "by": fact.producer,
        "log": {"topic": one.place.topic, "partition": one.place.partition, "offset": one.place.offset},
        "event_id": str(fact.event_id),
        **({"causation_id": str(fact.causation_id)} if fact.causation_id else {}),
        **_evidence(fact),
    }


def _proved(message: Message, place: Place) -> list[str]:
    """The states that the record at this place proves, or why it proves none."""
    if place == message.stored.place:
        return ["Created", "Stored"]
    if place in message.repeats:
        return ["rejected repeat"]
    if place in message.late:
        return ["late decision"]
    marks = {
        "DeliveryAttempted": message.attempted,
        "PendingSync": message.pending,
        "Delivered": message.delivered,
        "Read": message.read,
        "Erased": message.erased,
    }
    return [state for state, mark in marks.items() if mark is not None and mark.place == place]


def _evidence(fact: Fact) -> dict[str, Any]:
    """What the writer went by."""
    match fact:
        case DeliveryAttempted() | PendingSync():
            said: dict[str, Any] = {"policy": fact.policy}
            if isinstance(fact, PendingSync):
                said["reason"] = fact.reason.value
            seen = [
                {
                    "session": str(one.session_id),
                    "device_id": str(one.device_id),
                    "gateway": one.gateway,
                    "epoch": one.epoch,
                    "live": one.live,
                }
                for one in fact.sessions
            ]
            return {"evidence": said | {"sessions": seen}}
        case MessagesDelivered() | MessagesRead():
            session = {"session": str(fact.session_id)} if fact.session_id else {}
            return {"evidence": {"device_id": str(fact.device_id), "via": fact.via.value} | session}
        case SessionClosed():
            ended = {"session": str(fact.session_id), "device_id": str(fact.device_id)}
            return {"evidence": ended | {"reason": fact.reason.value}}
        case MessageStored():
            return {"evidence": {"sender_device": str(fact.sender_device), "keyed": fact.keyed}}
        case _:
            return {}


def _receipt(raw: RawRecord) -> dict[str, Any]:
    told = decode(raw.value)
    assert isinstance(told, Receipt)
    return {
        "at": shown_time(raw.at_ms),
        "tells": told.outcome.value,
        "by": told.producer,
        "log": {"topic": RECEIPTS, "partition": raw.partition, "offset": raw.offset},
        "event_id": str(told.event_id),
        **({"causation_id": str(told.causation_id)} if told.causation_id else {}),
    }
