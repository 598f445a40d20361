"""From records of a topic to a transaction: what the projector and a rebuild do alike.

A step is one partition's part of a batch: decoded, chained, and checked to follow the step before without a hole. Taking
steps moves the offset rows from exactly where they start, offset and chain; where they are elsewhere, nothing is written
(`ReplacedError`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from projections import columns
from projections.apply import QUERIES, Applied
from projections.database import Connection
from projections.errors import ForeignLogError, ReplacedError
from projections.folds import Fold
from projections.source import Raw
from schemas.chain import ORIGIN, Chain, Link
from schemas.codec import DecodeError, Record, decode
from schemas.events import Place
from schemas.partitions import NOT_AT_HOME, at_home
from schemas.raw import RawRecord

NO_TOPIC_ID: Final = UUID(int=0)
"""A log in memory has no ids of topics."""

AnyRaw = Raw | RawRecord


@dataclass(slots=True)
class Standing:
    """Where a partition's next transaction starts, the last record folded, and the chain up to it."""

    next_offset: int
    last_event_id: UUID | None
    last_at_ms: int | None
    h: bytes | None
    witnessed: bool = False

    def __post_init__(self) -> None:
        self.witnessed = self.next_offset == 0


@dataclass(frozen=True, slots=True)
class Step:
    """One partition's part of a batch. `refused` are the records that could not be understood, and why."""

    partition: int
    start: int
    end: int
    last_event_id: UUID | None
    last_at_ms: int
    h_before: bytes | None
    h: bytes | None
    records: list[Any]
    refused: list[tuple[AnyRaw, str]] = field(default_factory=list)


class Steps:
    """The steps of one topic: remembers where each partition stands. All of it is a guess until a transaction has taken it,
    and may be dropped at any time."""

    def __init__(self, fold: Fold[Any], topic_id: UUID) -> None:
        self._fold = fold
        self._topic_id = topic_id
        self._standing: dict[int, Standing] = {}

    def begin(self, partition: int, standing: Standing, bounds: tuple[int, int]) -> int:
        """Stand where the tables end; the offset to read from. That is one record earlier, where there is one: it must be
        the one we know. Raises `ForeignLogError` where the log cannot be the one that was folded."""
        first, end = bounds
        next_offset = standing.next_offset
        if next_offset > end:
            raise ForeignLogError(
                f"{self.named(partition)} was folded up to offset {next_offset}, but the log ends at {end}: another topic,"
                f" or one that lost records. {_REMEDY}"
            )
        if first > max(0, next_offset - 1):
            raise ForeignLogError(
                f"{self.named(partition)} begins at offset {first}, but records from {max(0, next_offset - 1)} on are"
                f" needed: its retention deletes facts. {_REMEDY}"
            )
        self._standing[partition] = standing
        return max(0, next_offset - 1)

    def at(self, partition: int) -> Standing:
        """Where a partition stands."""
        return self._standing[partition]

    def step(self, partition: int, partitions: int, raws: Sequence[AnyRaw]) -> Step | None:
        """The next step, of those of these records that were not folded yet. `partitions` is how many the topic has: it
        decides where an account's records belong. Raises `ForeignLogError`."""
        raws = self._unseen(partition, raws)
        if not raws:
            return None
        topic, owner, placed = self._fold.topic, self._fold.owner, self._fold.placed
        records: list[Any] = []
        refused: list[tuple[AnyRaw, str]] = []
        event_id: UUID | None = None
        for raw in raws:
            try:
                record = self._understood(raw)
                if not at_home(raw.key, partition, partitions, owner(record)):
                    raise DecodeError(NOT_AT_HOME)
            except DecodeError as error:
                event_id = None
                refused.append((raw, str(error)))
                continue
            event_id = record.event_id
            records.append(placed(record, Place(topic, partition, raw.offset), raw.at_ms))
        before, h = self._standing[partition].h, self._chained(partition, raws)
        return Step(partition, raws[0].offset, raws[-1].offset + 1, event_id, raws[-1].at_ms, before, h, records, refused)

    async def take(self, transaction: Connection, steps: Sequence[Step]) -> Applied:
        """Rows and offsets of these steps, inside the caller's transaction; call `taken` once it is committed."""
        moved = await transaction.run(QUERIES["move_on"], **_moves(self._fold.topic, steps))
        if moved < len(steps):
            raise ReplacedError("another projector has moved on these partitions")
        return await self._fold.apply(transaction, [recorded for step in steps for recorded in step.records])

    def taken(self, steps: Sequence[Step]) -> None:
        """These are committed."""
        for step in steps:
            standing = Standing(step.end, step.last_event_id, step.last_at_ms, step.h)
            standing.witnessed = True
            self._standing[step.partition] = standing

    def named(self, partition: int) -> str:
        """A partition in a sentence."""
        return f"partition {partition} of {self._fold.topic}"

    def _unseen(self, partition: int, raws: Sequence[AnyRaw]) -> Sequence[AnyRaw]:
        """The records from our offset on, once the one before has been recognised."""
        standing = self._standing[partition]
        if raws and not standing.witnessed:
            self._check_witness(partition, standing, raws[0])
            standing.witnessed = True
        unseen = [raw for raw in raws if raw.offset >= standing.next_offset]
        if unseen and [raw.offset for raw in (unseen[0], unseen[-1])] != [
            standing.next_offset,
            standing.next_offset + len(unseen) - 1,
        ]:
            raise ForeignLogError(
                f"{self.named(partition)}: records are missing from offset {standing.next_offset} on. The log is damaged, or"
                " something else than Restante writes to it with transactions: `restante audit` says where"
            )
        return unseen

    def _chained(self, partition: int, raws: Sequence[AnyRaw]) -> bytes | None:
        """The chain after these records, also after those that were set aside. None where it is not known before them: the
        tables are older than the chain, and a rebuild gives them one."""
        standing = self._standing[partition]
        before = ORIGIN if standing.next_offset == 0 else standing.h
        if before is None:
            return None
        chain = Chain(self._topic_id, partition, Link(standing.next_offset, before))
        for raw in raws:
            chain.add(raw.at_ms, raw.key, raw.value, raw.headers)
        return chain.h

    def _understood(self, raw: AnyRaw) -> Record:
        record = decode(raw.value)
        if type(record) not in self._fold.kinds:
            raise DecodeError(f"a {type(record).__name__} does not belong into {self._fold.topic}")
        return record

    def _check_witness(self, partition: int, standing: Standing, raw: AnyRaw) -> None:
        known = standing.last_event_id
        try:
            event_id = self._understood(raw).event_id if known else None  # None: the last one was set aside
        except DecodeError:
            event_id = None
        if (raw.offset, event_id, raw.at_ms) != (standing.next_offset - 1, known, standing.last_at_ms):
            raise ForeignLogError(
                f"{self.named(partition)}: the record at offset {standing.next_offset - 1} is not the one that was folded"
                f" (event {known}), but event {event_id} at offset {raw.offset}: another topic. {_REMEDY}"
            )


def _moves(topic: str, steps: Sequence[Step]) -> Mapping[str, Any]:
    return {
        "topic": topic,
        "partitions": columns.smallints([step.partition for step in steps]),
        "starts": columns.bigints([step.start for step in steps]),
        "ends": columns.bigints([step.end for step in steps]),
        "event_ids": columns.uuids([step.last_event_id for step in steps]),
        "at_ms": columns.bigints([step.last_at_ms for step in steps]),
        "chained": columns.byteas([step.h_before for step in steps]),
        "chains": columns.byteas([step.h for step in steps]),
    }


_REMEDY: Final = (
    "Point RESTANTE_KAFKA at the cluster that this database belongs to; if the log was replaced on purpose, drop the schema"
    " that `SELECT live FROM pointer.projection` names, run `restante migrate`, and start the projector again"
)
