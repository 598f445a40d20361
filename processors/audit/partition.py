"""Reading one partition's records, in their order, and judging each by what came before it."""

from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

from processors.audit.findings import Findings, Kind
from processors.audit.messages import Messages
from processors.audit.notes import Notes
from processors.audit.sessions import Sessions
from processors.audit.shelves import NEAR_ROWS, Disk
from schemas.codec import SCHEMA_OF, DecodeError, decode, type_name
from schemas.events import (
    AccountErased,
    DeliveryAttempted,
    DeviceRegistered,
    DeviceRemoved,
    FactBase,
    MessagesDelivered,
    MessagesErased,
    MessagesRead,
    MessageStored,
    PendingSync,
    SessionClosed,
    SessionMarked,
    SessionOpened,
)
from schemas.lifecycle import Status
from schemas.partitions import partition_of_key, recipient_key
from schemas.raw import RawRecord

_API: Final = "api"
_PROCESSOR: Final = "processor"
_WRITERS: Final[dict[type[Any], tuple[str, ...]]] = {
    DeliveryAttempted: (_PROCESSOR,),
    PendingSync: (_PROCESSOR,),
    SessionClosed: (_API, _PROCESSOR),
}
_ONLY_API: Final = (_API,)
_LABEL: Final = "ce_type"
_LABELS: Final = {kind: type_name(kind).encode() for kind in SCHEMA_OF}


class PartitionAudit:
    """The audit of one partition, from offset `start` on. Hand in its records with `read`, in order, then `close` it; what
    it found is in `notes`.

    `start` above 0 makes it blind to what came before: what the log itself says is older is then not judged. `only` are the
    keys of the accounts that are looked at (None: all); of the others' records only the offsets matter. `aside` are offsets
    of records in quarantine, which no reader counts, and whether they came back at another place.
    """

    def __init__(
        self,
        partition: int,
        partitions: int,
        disk: Disk,
        *,
        start: int = 0,
        only: frozenset[bytes] | None = None,
        aside: Mapping[int, bool] | None = None,
        most_findings: int = 100,
        near_rows: int = NEAR_ROWS,
    ) -> None:
        self._partitions = partitions
        self._next = start
        self._only = only
        self._aside = aside or {}
        self._last_ms = 0
        self._homes: dict[bytes | None, int | None] = {}
        self.notes = Notes(partition, start, Findings(most_findings))
        sessions = Sessions(self.notes, disk, near_rows=near_rows)
        self._messages = messages = Messages(self.notes, sessions, disk, near_rows=near_rows)
        self._folds: dict[type[Any], Callable[[Any, RawRecord], None]] = {
            MessageStored: messages.stored,
            DeliveryAttempted: messages.decided,
            PendingSync: messages.decided,
            MessagesDelivered: messages.acknowledged,
            MessagesRead: messages.acknowledged,
            SessionOpened: sessions.marked,
            SessionMarked: sessions.marked,
            SessionClosed: sessions.closed,
            DeviceRegistered: sessions.registered,
            DeviceRemoved: sessions.removed,
            AccountErased: sessions.erased,
            MessagesErased: messages.ended,
        }

    def read(self, raw: RawRecord) -> None:
        """One more record."""
        if raw.offset != self._next:
            self.gap(raw.offset)
        self._next = raw.offset + 1
        if self._only is not None and raw.key not in self._only:
            return
        counts = self.notes.counts
        counts.records += 1
        counts.clock_back_ms = max(counts.clock_back_ms, self._last_ms - raw.at_ms)
        self._last_ms = raw.at_ms
        replayed = self._aside.get(raw.offset)
        if replayed:
            counts.came_back += 1
            return
        fact = self._understood(raw)
        if fact is not None and replayed is not None:
            text = "it is in quarantine although it can be read now, so nobody counts it: `restante quarantine replay`"
            self.notes.find(Kind.UNREADABLE, raw.offset, text)
        elif fact is not None:
            self._judged(fact, raw)
            self._folds[type(fact)](fact, raw)

    def gap(self, until: int) -> None:
        """No record has the offsets from here to `until - 1`."""
        self.notes.find(Kind.GAP, self._next, f"no record has the offsets {self._next} to {until - 1}", end=until)
        self._next = until

    def damaged(self, first: int, end: int) -> None:
        """The records `first` to `end - 1` cannot be read."""
        self.notes.find(Kind.DAMAGED, first, f"the records {first} to {end - 1} do not fit their checksum", end=end)
        self._next = end

    def close(self, end: int, now_ms: int, stuck_after_ms: int) -> None:
        """All up to `end` was handed in: count the messages by state, and see whether they add up."""
        if self._next < end:
            self.gap(end)
        counts = self.notes.counts
        states = counts.states
        for number, life, status in self._messages.states():
            states[status.label] += 1
            may_be_a_repeat = life.keyed and not self.notes.whole
            if status <= Status.DELIVERY_ATTEMPTED and not may_be_a_repeat and now_ms - life.stored_ms > stuck_after_ms:
                age = (now_ms - life.stored_ms) // 1000
                self.notes.find(Kind.STUCK, life.position, f"{status.label} for {age} s", message_id=UUID(int=number))
        if counts.stored != counts.distinct + counts.repeats or sum(states.values()) != counts.distinct:
            self.notes.find(
                Kind.CONSERVATION,
                end,
                f"{counts.stored} MessageStored records, {counts.distinct} distinct messages and {counts.repeats} rejected "
                f"repeats, {sum(states.values())} messages in a state",
            )

    # what a record is

    def _understood(self, raw: RawRecord) -> FactBase | None:
        try:
            fact = decode(raw.value)
        except DecodeError as error:
            self.notes.find(Kind.UNREADABLE, raw.offset, str(error))
            return None
        if not isinstance(fact, FactBase):
            self.notes.find(Kind.FOREIGN, raw.offset, f"a {type(fact).__name__} is no fact")
            return None
        if self._home(raw.key) != fact.recipient.int:
            self.notes.find(
                Kind.MISPLACED, raw.offset, f"it is about account {fact.recipient}, whose key and partition are others"
            )
            return None
        return fact

    def _home(self, key: bytes | None) -> int | None:
        """The account that a key names, where this partition is its home."""
        if key in self._homes:
            return self._homes[key]
        if len(self._homes) >= NEAR_ROWS:
            self._homes.clear()
        self._homes[key] = found = _account(key, self.notes.partition, self._partitions)
        return found

    def _judged(self, fact: FactBase, raw: RawRecord) -> None:
        """What can be said of any fact without what came before it."""
        kind = type(fact)
        self.notes.counts.kinds[kind.__name__] += 1
        for name, value in raw.headers:
            if name == _LABEL and value != _LABELS[kind]:
                self.notes.find(Kind.MISLABELLED, raw.offset, f"a {kind.__name__} whose header names another kind")
        if fact.producer.partition("/")[0] not in _WRITERS.get(kind, _ONLY_API):
            self.notes.find(Kind.WRONG_WRITER, raw.offset, f"a {kind.__name__} written by {fact.producer}")


def _account(key: bytes | None, partition: int, partitions: int) -> int | None:
    try:
        account = UUID((key or b"").decode())
    except ValueError:
        return None
    is_home = recipient_key(account) == key and partition_of_key(key, partitions) == partition
    return account.int if is_home else None
