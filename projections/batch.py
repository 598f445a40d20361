"""Facts gathered into the rows that they add, between two points where the order of facts matters.

Within a batch the kinds are applied in a fixed order: devices, messages, sessions, decisions, acknowledgements, readings.
That is the order of the log wherever facts build on each other, with these exceptions, where what was gathered is written
first: a device that registers after an acknowledgement of its account (it is not owed that message), an id that is stored
after it was decided on or acknowledged (those facts came too early and do not count; both: `must_wait`), and removals and
erasures, which are written alone.
"""

import json
from collections.abc import Iterable

from schemas.events import (
    DeliveryAttempted,
    DeviceRegistered,
    MessagesDelivered,
    MessagesRead,
    MessageStored,
    PendingSync,
    Recorded,
    SessionClosed,
    SessionMarked,
    SessionOpened,
    SessionSeen,
)

Row = tuple[object, ...]


class Batch:
    """Rows by kind. Within one batch the first of a key wins, as it does against the tables. Keys are the ids as integers,
    whose hash and comparison are not Python code."""

    __slots__ = (
        "_acknowledging",
        "_mentioned",
        "acknowledgements",
        "decisions",
        "devices",
        "ends",
        "messages",
        "readings",
        "repeats",
        "sessions",
    )

    def __init__(self) -> None:
        self.devices: dict[int, Row] = {}
        self.messages: dict[int, Row] = {}
        self.repeats: list[Row] = []
        self.sessions: dict[int, Row] = {}
        self.ends: list[Row] = []
        self.decisions: list[Row] = []
        self.acknowledgements: dict[tuple[int, int, int], Row] = {}
        self.readings: dict[tuple[int, int], Row] = {}
        self._mentioned: set[int] = set()
        self._acknowledging: set[int] = set()

    def must_wait(self, fact: MessageStored | DeviceRegistered) -> bool:
        """True where this fact must see what was gathered already written."""
        if isinstance(fact, MessageStored):
            return fact.message_id.int in self._mentioned and fact.message_id.int not in self.messages
        return fact.recipient.int in self._acknowledging

    def register(self, recorded: Recorded, fact: DeviceRegistered) -> None:
        """A new device."""
        self.devices.setdefault(fact.device_id.int, (fact.device_id, fact.recipient, recorded.place.offset, recorded.at_ms))

    def store(self, recorded: Recorded, fact: MessageStored) -> None:
        """A message, or a repeat of one."""
        place, at_ms = recorded.place, recorded.at_ms
        if fact.message_id.int in self.messages:
            self.repeats.append((fact.message_id, place.partition, place.offset, fact.event_id, fact.producer, at_ms))
            return
        self.messages[fact.message_id.int] = (
            fact.message_id,
            fact.recipient,
            fact.sender,
            fact.sender_device,
            place.partition,
            place.offset,
            fact.event_id,
            fact.producer,
            fact.created_at_ms,
            at_ms,
            fact.digest,
            fact.keyed,
            fact.sealed,
        )

    def repeated(self) -> Iterable[Row]:
        """Every record that may have stored a known id again: those of this batch, and those that the table knew before."""
        yield from self.repeats
        for row in self.messages.values():
            yield (row[0], row[4], row[5], row[6], row[7], row[9])

    def mark(self, recorded: Recorded, fact: SessionOpened | SessionMarked) -> None:
        """A marker: the later one wins."""
        self.sessions[fact.session_id.int] = (
            fact.session_id,
            fact.recipient,
            fact.device_id,
            fact.gateway,
            fact.push_partition,
            recorded.place.offset,
        )

    def end(self, recorded: Recorded, fact: SessionClosed) -> None:
        """The end of a session."""
        self.ends.append(
            (
                fact.session_id,
                recorded.place.offset,
                fact.recipient,
                fact.device_id,
                fact.reason.value,
                fact.event_id,
                fact.producer,
                recorded.at_ms,
            )
        )

    def decide(self, recorded: Recorded, fact: DeliveryAttempted | PendingSync) -> None:
        """A decision with its evidence."""
        self._mentioned.add(fact.message_id.int)
        said: Row
        if isinstance(fact, PendingSync):
            said = (True, fact.session_id, None, fact.reason.value)
        else:
            said = (False, None, _array(fact.sessions), None)
        self.decisions.append(
            (
                fact.message_id,
                fact.recipient,
                recorded.place.offset,
                *said,
                fact.policy,
                _evidence(fact.sessions),
                fact.event_id,
                fact.causation_id,
                fact.producer,
                recorded.at_ms,
            )
        )

    def acknowledge(self, recorded: Recorded, fact: MessagesDelivered | MessagesRead) -> None:
        """Acknowledgements; a reading is one, too."""
        self._acknowledging.add(fact.recipient.int)
        device, recipient = fact.device_id.int, fact.recipient.int
        rest = (
            fact.device_id,
            fact.recipient,
            recorded.place.offset,
            fact.via.value,
            fact.session_id,
            fact.event_id,
            fact.producer,
            recorded.at_ms,
        )
        for entry in fact.entries:
            message = entry.message_id.int
            self._mentioned.add(message)
            self.acknowledgements.setdefault((message, device, recipient), (entry.message_id, *rest))
            if isinstance(fact, MessagesRead):
                self.readings.setdefault((message, recipient), (entry.message_id, *rest))


def _array(sessions: Iterable[SessionSeen]) -> str:
    return "{" + ",".join(str(seen.session_id) for seen in sessions) + "}"


def _evidence(sessions: Iterable[SessionSeen]) -> str | None:
    if not sessions:
        return None
    return json.dumps(
        [
            {
                "session_id": str(seen.session_id),
                "device_id": str(seen.device_id),
                "gateway": seen.gateway,
                "epoch": seen.epoch,
                "live": seen.live,
            }
            for seen in sessions
        ]
    )
