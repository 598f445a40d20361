"""What the audit of a partition writes down while it reads."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from processors.audit.findings import Finding, Findings, Kind
from processors.audit.latency import Latency

LATENCIES: Final = (
    "Created to Stored",
    "Stored to decided",
    "Stored to Delivered",
    "PendingSync to Delivered",
    "Delivered to Read",
)


@dataclass(slots=True)
class Counts:
    """What was read, and what is odd but allowed.

    `late` decisions came after an acknowledgement; `redecided` ones a processor made again after a crash; `again` are facts
    that were written twice with one id, which changes nothing; `earlier` are entries and decisions about messages from
    before the first offset read; `other_policy` decisions were made by a policy that this version does not have;
    `came_back` are records that were in quarantine and stand at another place now, where they count; `clock_back_ms` is
    the furthest that an append time lies before the one before it.
    """

    records: int = 0
    stored: int = 0
    distinct: int = 0
    repeats: int = 0
    late: int = 0
    redecided: int = 0
    again: int = 0
    earlier: int = 0
    other_policy: int = 0
    came_back: int = 0
    clock_back_ms: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Notes:
    """Of one partition, read from offset `start` on."""

    partition: int
    start: int
    findings: Findings
    counts: Counts = field(default_factory=Counts)
    latencies: dict[str, Latency] = field(default_factory=lambda: {name: Latency() for name in LATENCIES})

    @property
    def whole(self) -> bool:
        """Whether everything before is known: what is not known then is not there."""
        return not self.start

    def find(self, kind: Kind, offset: int, text: str, *, end: int | None = None, message_id: UUID | None = None) -> None:
        """Something is wrong."""
        named = None if message_id is None else str(message_id)
        self.findings.add(Finding(kind=kind, partition=self.partition, offset=offset, text=text, end=end, message_id=named))
