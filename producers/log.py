"""The port: what the rest of the service knows of the log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self

from schemas.codec import Record
from schemas.topics import LIFECYCLE

DEADLINE_SECONDS = 5.0
"""Every call on the log answers within this time, whatever the log does."""

MAX_RECORD_BYTES = 1_048_576
"""The largest value of a record: sixteen times the largest message body."""

Outcome = Literal["rejected", "unknown"]


class ProducersError(Exception):
    """Anything that this package raises. Its text says what to do."""


class LogUnavailable(ProducersError):
    """The log did not answer in time, or cannot take more now. `outcome` says what became of the record: "rejected" is
    certainly not in the log and may be sent again; "unknown" may be in it, or land there yet: send it again only if a second
    one does no harm."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(f"{reason} ({outcome})")
        self.outcome: Outcome = outcome


class RecordTooLarge(ProducersError):
    """The record is over MAX_RECORD_BYTES and no log would take it. Limit what goes into it before it becomes a fact."""


@dataclass(frozen=True, slots=True)
class Appended:
    """A record that the log holds for good: its place, and the broker's append time in milliseconds since the epoch."""

    topic: str
    partition: int
    offset: int
    at_ms: int


class EventLog(Protocol):
    """An append-only log in partitions. Records of one partition keep the order in which they were given here.

    A record goes to the topic of its kind and, unless `partition` says otherwise, to the partition of its key (a push has no
    natural one and always needs it). `async with` opens and closes; closing waits, within a bound, for what is under way.
    """

    @property
    def partitions(self) -> int:
        """How many partitions the lifecycle topic has."""

    @property
    def healthy(self) -> bool:
        """False while an append now would probably fail."""

    async def append(self, record: Record, *, partition: int | None = None) -> Appended:
        """Append one record. Raises `LogUnavailable` within DEADLINE_SECONDS, `RecordTooLarge` at once."""

    async def append_all(
        self, records: Sequence[Record], *, partitions: Sequence[int | None] | None = None
    ) -> list[Appended | LogUnavailable]:
        """Append each record on its own; answers in the same order. Raises `RecordTooLarge` before anything is sent."""

    async def ends(self, topic: str = LIFECYCLE) -> Mapping[int, int]:
        """For each partition of a topic the offset after its last readable record, asked after this call began. Raises
        `LogUnavailable` within DEADLINE_SECONDS."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *failure: object) -> None: ...
