"""What nobody could understand: told from `restante.quarantine`, and brought back into the log once somebody can.

Both readers of a record set it aside, each under its own id; here they are one. Replaying appends the record as it is
understood now, under its own event id, and then says so in the same topic. Killed in between, or run twice at once, the log
has it twice, and every reader of the log passes over the second.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Final

from deploy.errors import DeployError
from deploy.foundation import connection
from deploy.settings import Settings
from producers.kafka import KafkaLog
from producers.log import EventLog, ProducersError
from producers.recorded import LogReader
from schemas.codec import DecodeError, Record, decode, key_of
from schemas.events import Place
from schemas.ids import derived_id
from schemas.partitions import NOT_AT_HOME
from schemas.quarantined import Quarantined, Replayed
from schemas.topics import QUARANTINE, TOPIC_OF

_CUT: Final = "(value cut from "


@dataclass(slots=True)
class SetAside:
    """One record that was set aside. `reasons` by the role that gave it; `now` is where it stands since it was replayed."""

    place: Place
    record: Quarantined
    reasons: dict[str, str] = field(default_factory=dict)
    now: Place | None = None

    @property
    def name(self) -> str:
        """Its place as the commands take and show it: topic/partition/offset."""
        return named(self.place)

    @property
    def now_name(self) -> str | None:
        """Where it stands now, named like that."""
        return named(self.now) if self.now else None

    @property
    def understood(self) -> Record | str:
        """What it is for this version, or why it still cannot be replayed."""
        value, topic = self.record.value, self.place.topic
        if value is not None and any(_CUT in reason for reason in self.reasons.values()):
            return f"it was too large to be kept whole: its origin is {named(self.place)}"
        try:
            record = decode(value)
        except DecodeError as error:
            return str(error)
        if TOPIC_OF[type(record)] != topic:
            return f"a {type(record).__name__} does not belong into {topic}"
        if key_of(record) != self.record.key:
            return f"{NOT_AT_HOME}: whoever wrote it gave it the key of somebody else"
        return record


def named(place: Place) -> str:
    """A place as the commands take and show it: topic/partition/offset."""
    return f"{place.topic}/{place.partition}/{place.offset}"


async def set_aside(settings: Settings) -> list[SetAside]:
    """Everything that was ever set aside, in the order of its time. DeployError where Kafka does not answer."""
    found: dict[Place, SetAside] = {}
    try:
        async with LogReader(connection(settings), QUARANTINE) as reader:
            async for record in _records(reader):
                place = Place(record.topic, record.partition, record.offset)
                if isinstance(record, Replayed):
                    if place in found:
                        found[place].now = Place(record.topic, record.now_partition, record.now_offset)
                    continue
                one = found.setdefault(place, SetAside(place, record))
                one.reasons.setdefault(record.producer.partition("/")[0], record.reason)
    except ProducersError as error:
        raise DeployError(str(error)) from error
    return sorted(found.values(), key=lambda one: (one.record.at_ms, named(one.place)))


async def replay(settings: Settings, wanted: Iterable[SetAside], producer: str) -> AsyncGenerator[SetAside, None]:
    """Append each of these, which must all be understood, and say so in the quarantine; one after the other, each given back
    once both are in the log. DeployError where the log takes no more: what was given back is done, the rest is not."""
    try:
        async with KafkaLog(connection(settings)) as log:
            for one in wanted:
                await _replay(log, one, producer)
                yield one
    except ProducersError as error:
        raise DeployError(f"{error}. Run this again for what is left") from error


async def _replay(log: EventLog, one: SetAside, producer: str) -> None:
    record = one.understood
    assert not isinstance(record, str)
    at = await log.append(record)
    one.now = Place(at.topic, at.partition, at.offset)
    await log.append(
        Replayed(
            event_id=derived_id(b"replayed", named(one.place).encode(), named(one.now).encode()),
            producer=producer,
            topic=one.place.topic,
            partition=one.place.partition,
            offset=one.place.offset,
            now_partition=at.partition,
            now_offset=at.offset,
        )
    )


async def _records(reader: LogReader) -> AsyncIterator[Quarantined | Replayed]:
    for partition, (first, end) in (await reader.bounds()).items():
        async for batch in reader.batches(partition, first, end):
            for raw in batch:
                try:
                    record = decode(raw.value)
                except DecodeError:
                    continue  # nobody quarantines the quarantine
                if isinstance(record, Quarantined | Replayed):
                    yield record
