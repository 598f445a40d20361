"""One run of records through the policy: what to append, and which rows of the table changed. No I/O.

Only kinds that ask for something are decoded; the `ce_type` header says which a record is (our own decisions come back to
us in the same topic, and are as many as the messages). A record without the header is decoded to see.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from processors.decisions import Outgoing, decide
from processors.gone import Gone
from processors.over import Over
from processors.presence import NOBODY, Here, after, hints
from processors.quarantine import Allowance, Fetched, quarantined
from processors.receipts import Receipts
from processors.recent import RecentIds
from schemas.codec import SCHEMA_OF, DecodeError, Record, decode, type_name
from schemas.events import (
    AccountErased,
    DeliveryAttempted,
    DeviceRemoved,
    MessagesDelivered,
    MessagesErased,
    MessagesRead,
    MessageStored,
    PendingSync,
    Place,
    Recorded,
    SessionClosed,
    SessionMarked,
    SessionOpened,
)
from schemas.partitions import NOT_AT_HOME, at_home
from schemas.presence import PresenceRow
from schemas.quarantined import Quarantined
from schemas.receipt import Receipt

LOOKED_AT: Final = (
    MessageStored,
    MessagesDelivered,
    MessagesRead,
    SessionOpened,
    SessionMarked,
    SessionClosed,
    DeviceRemoved,
    AccountErased,
    MessagesErased,
)
_TOLD: Final = (MessagesDelivered, MessagesRead, MessagesErased)
_PASSED_OVER: Final = frozenset(type_name(cls).encode() for cls in SCHEMA_OF if cls not in LOOKED_AT)
_WORD: Final[dict[type[Any], str]] = {DeliveryAttempted: "delivery_attempted", PendingSync: "pending_sync"}


@dataclass(slots=True)
class Findings:
    """What a run asks for. `rows` holds the device rows that changed, None for one that is gone."""

    decisions: list[Outgoing] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    rows: dict[UUID, PresenceRow | None] = field(default_factory=dict)
    repeats: int = 0

    def kinds(self) -> Counter[str]:
        """How many of each kind, by the words of `restante_decisions_total`."""
        return Counter(_WORD[type(outgoing.record)] for outgoing in self.decisions if type(outgoing.record) in _WORD)

    def records(self) -> tuple[list[Record], list[int | None]]:
        """Everything to append, and the partition of each (None: that of its key). What somebody waits for comes first."""
        records: list[Record] = [outgoing.record for outgoing in self.decisions]
        places: list[int | None] = [outgoing.partition for outgoing in self.decisions]
        rest: list[Record] = [*self.receipts, *self.quarantined]
        return records + rest, places + [None] * len(rest)


@dataclass(slots=True)
class _Partition:
    next: int
    here: dict[UUID, Here]


class Desk:
    """The processor's memory: sessions by partition and recipient, and the keyed messages of the last minutes.

    `recover` gives the table's rows of a partition; it is asked when a run does not continue the one before it, since then
    markers may have passed unread and what is known is a hint at best. `partitions` is the number that the topic has.
    """

    def __init__(
        self,
        producer: str,
        recover: Callable[[int], Iterable[PresenceRow]],
        *,
        partitions: int,
        allowance: Allowance | None = None,
        recent: RecentIds | None = None,
        receipts: Receipts | None = None,
    ) -> None:
        self._producer = producer
        self._recover = recover
        self._topic_partitions = partitions
        self._allowance = allowance or Allowance()
        self._recent = recent or RecentIds()
        self._receipts = receipts or Receipts(producer)
        self._over = Over()
        self._gone = Gone()
        self._partitions: dict[int, _Partition] = {}

    @property
    def sessions(self) -> int:
        """Sessions known in the partitions that this process reads."""
        return sum(len(here) for held in self._partitions.values() for here in held.here.values())

    def keep(self, partitions: frozenset[int]) -> None:
        """Forget what is known of all other partitions."""
        for partition in self._partitions.keys() - partitions:
            del self._partitions[partition]

    def knows(self, partition: int, first: int) -> bool:
        """Whether what is known of a partition is right for a run that begins at this offset."""
        held = self._partitions.get(partition)
        return held is not None and held.next == first

    def recall(self, partition: int, first: int, rows: Iterable[PresenceRow]) -> None:
        """Begin anew with the table's rows of a partition whose next run begins at this offset."""
        self._partitions[partition] = _Partition(first, hints(rows))

    def rows(self, partition: int) -> Iterator[PresenceRow]:
        """The sessions known in a partition."""
        held = self._partitions.get(partition)
        for here in held.here.values() if held else ():
            for seat in here.values():
                yield seat.row

    def read(self, partition: int, first: int, records: Sequence[Fetched], end: int) -> Findings:
        """What these records ask for, which begin at offset `first` and end before `end`. Raises `TooManyQuarantined`."""
        if not self.knows(partition, first):
            self.recall(partition, first, self._recover(partition))
        held = self._partitions[partition]
        findings = Findings()
        for record in records:
            if _kind_of(record) in _PASSED_OVER:
                continue
            try:
                fact = self._understood(record)
            except DecodeError as error:
                self._allowance.bad(str(error))
                findings.quarantined.append(quarantined(record, str(error), self._producer))
                continue
            self._allowance.good()
            if isinstance(fact, LOOKED_AT):
                place = Place(record.topic, record.partition, record.offset)
                self._apply(held.here, Recorded(fact, place, record.timestamp), findings)
        held.next = end
        return findings

    def _understood(self, record: Fetched) -> Record:
        fact = decode(record.value)
        if isinstance(fact, LOOKED_AT) and not at_home(record.key, record.partition, self._topic_partitions, fact.recipient):
            raise DecodeError(NOT_AT_HOME)
        return fact

    def _apply(self, known: dict[UUID, Here], recorded: Recorded, findings: Findings) -> None:
        fact = recorded.fact
        if isinstance(fact, MessageStored) and fact.keyed and self._is_repeat(fact, recorded):
            findings.repeats += 1
            return
        if isinstance(fact, _TOLD):
            if isinstance(fact, MessagesErased) or not self._gone.before(recorded):
                findings.receipts += self._receipts.of(fact, recorded)
            return
        if isinstance(fact, AccountErased):
            self._gone.erased(recorded)
        elif isinstance(fact, SessionClosed):
            self._over.ended(fact, recorded)
        elif isinstance(fact, SessionOpened | SessionMarked):
            end = self._over.end_again(fact, recorded, self._producer)
            if end is not None:
                findings.decisions.append(Outgoing(end, recorded.place.partition))
                return
        before = known.get(fact.recipient, NOBODY)
        findings.decisions += decide(before, recorded, self._producer)
        now = after(before, recorded)
        if now is before:
            return
        if now:
            known[fact.recipient] = now
        else:
            known.pop(fact.recipient, None)
        if not isinstance(fact, MessageStored):
            _note_rows(before, now, findings)

    def _is_repeat(self, fact: MessageStored, recorded: Recorded) -> bool:
        return self._recent.is_repeat(fact.message_id, recorded.place.offset, recorded.at_ms)


def _kind_of(record: Any) -> bytes | None:
    for name, value in record.headers:
        if name == "ce_type":
            return value  # type: ignore[no-any-return]
    return None


def _note_rows(before: Here, now: Here, findings: Findings) -> None:
    for device in before.keys() | now.keys():
        old, new = before.get(device), now.get(device)
        if old is new:
            continue
        findings.rows[device] = new.row if new else None
