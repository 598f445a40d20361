"""What a sender is told of an acknowledgement, or of an erasure: one receipt an entry, to the sender's partition. Pure.

The id of a receipt is derived from (message, outcome), so one that is written again is one record in effect. The memory here
only spares repeats: several devices acknowledge the same message, and clients acknowledge again.
"""

from collections import OrderedDict
from typing import Final
from uuid import UUID

from schemas.events import MessagesDelivered, MessagesErased, MessagesRead, Recorded
from schemas.ids import derived_id
from schemas.receipt import Outcome, Receipt

MAX_REMEMBERED: Final = 100_000
"""Of each outcome; about 25 MB. With more messages under way a repeat becomes one more record of the same id."""


Telling = MessagesDelivered | MessagesRead | MessagesErased

_OUTCOMES: Final[dict[type[Telling], Outcome]] = {
    MessagesDelivered: Outcome.DELIVERED,
    MessagesRead: Outcome.READ,
    MessagesErased: Outcome.ERASED,
}


class Receipts:
    """The receipts that facts ask for. `producer` names this process in them.

    A receipt is spared only where an *earlier* record asked for it: a record that is read again asks again, since what it
    asked for the first time may not be in the log, and its offset must not be committed before it is.
    """

    def __init__(self, producer: str, *, limit: int = MAX_REMEMBERED) -> None:
        self._producer = producer
        self._asked = {outcome: _Asked(limit) for outcome in Outcome}

    def of(self, fact: Telling, recorded: Recorded) -> list[Receipt]:
        """One for each entry that has not had it."""
        at, recipient, cause = recorded.place.offset, fact.recipient, fact.event_id
        outcome = _OUTCOMES[type(fact)]
        asked, read = self._asked[outcome], self._asked[Outcome.READ]
        return [
            Receipt(
                event_id=receipt_id(entry.message_id, outcome),
                producer=self._producer,
                causation_id=cause,
                sender=entry.sender,
                recipient=recipient,
                message_id=entry.message_id,
                position=entry.position,
                outcome=outcome,
                at_ms=recorded.at_ms,
            )
            for entry in fact.entries
            if not (asked.before(entry.message_id, at) or (asked is not read and read.holds(entry.message_id, at)))
        ]


def receipt_id(message_id: UUID, outcome: Outcome) -> UUID:
    """The id of the receipt that says so."""
    return derived_id(message_id.bytes, outcome.encode(), b"receipt")


class _Asked:
    """For each message the offset of the first record that asked, the oldest notes forgotten first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._at: OrderedDict[int, int] = OrderedDict()  # by the id's number: hashing a UUID takes four times as long

    def holds(self, message_id: UUID, offset: int) -> bool:
        """Whether a record before this offset asked."""
        return self._at.get(message_id.int, offset) < offset

    def before(self, message_id: UUID, offset: int) -> bool:
        """The same; where none did, this one is noted."""
        if self.holds(message_id, offset):
            return True
        self._at[message_id.int] = offset
        if len(self._at) > self._limit:
            self._at.popitem(last=False)
        return False
