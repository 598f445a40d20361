"""The event log in the memory of one process: for tests and trials. What is appended goes through the codec, as on Kafka."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from producers.addresses import address
from producers.lanes import Answer, Place
from producers.log import Appended, LogUnavailable
from schemas import events
from schemas.codec import Encoded, Record, decode
from schemas.events import FactBase, Recorded
from schemas.topics import LIFECYCLE, TOPICS


@dataclass(frozen=True, slots=True)
class Held:
    """One record as the log holds it."""

    appended: Appended
    encoded: Encoded

    @property
    def record(self) -> Record:
        """What a reader makes of it."""
        return decode(self.encoded.value)


class MemoryLog:
    """`producers.log.EventLog` without a broker. `partitions` as RESTANTE_PARTITIONS, `clock` gives append times in
    milliseconds.

    While `away` is set it behaves as a log out of reach: appends are rejected, `ends` has no answer.
    """

    def __init__(self, partitions: int, *, clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._partitions = {topic.name: partitions if topic.partitioned else 1 for topic in TOPICS}
        self._clock = clock
        self._held: dict[Place, list[Held]] = {}
        self._grown = asyncio.Condition()
        self._open = True
        self.away = False

    @property
    def partitions(self) -> int:
        return self._partitions[LIFECYCLE]

    @property
    def healthy(self) -> bool:
        return self._open and not self.away

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._open = False

    async def append(self, record: Record, *, partition: int | None = None) -> Appended:
        (answer,) = await self.append_all([record], partitions=[partition])
        if isinstance(answer, LogUnavailable):
            raise answer
        return answer

    async def append_all(self, records: Sequence[Record], *, partitions: Sequence[int | None] | None = None) -> list[Answer]:
        wanted = partitions if partitions is not None else (None,) * len(records)
        addressed = [address(record, at, self._partitions) for record, at in zip(records, wanted, strict=True)]
        refused = not self.healthy
        await asyncio.sleep(0)  # as on Kafka, no answer comes in the same turn of the loop
        if refused:
            return [LogUnavailable("rejected", "the log in memory is away or closed. Try again") for _ in addressed]
        async with self._grown:
            answers: list[Answer] = [self._append(place, encoded) for place, encoded in addressed]
            self._grown.notify_all()
        return answers

    async def ends(self, topic: str = LIFECYCLE) -> Mapping[int, int]:
        return self.ends_of(topic)

    def ends_of(self, topic: str) -> Mapping[int, int]:
        """For each partition of a topic the offset after its last record. Raises `LogUnavailable` while away."""
        if not self.healthy:
            raise LogUnavailable("rejected", "the log in memory is away or closed. Ask again")
        return {partition: len(self.held(topic, partition)) for partition in range(self._partitions[topic])}

    def held(self, topic: str, partition: int) -> Sequence[Held]:
        """All that a partition holds; the index is the offset."""
        return self._held.get((topic, partition), ())

    async def grows(self, until: Callable[[], bool]) -> None:
        """Wait until this is so; it is asked now and whenever something was appended."""
        async with self._grown:
            await self._grown.wait_for(until)

    def records(self, partition: int, from_offset: int = 0) -> list[Recorded]:
        """The facts of a lifecycle partition from an offset on."""
        return [_recorded(held) for held in self.held(LIFECYCLE, partition)[from_offset:]]

    async def follow(self, partition: int, from_offset: int = 0) -> AsyncIterator[Recorded]:
        """The facts of a lifecycle partition from an offset on, and those to come, without end."""
        for offset in itertools.count(from_offset):
            await self.grows(lambda wanted=offset: wanted < len(self.held(LIFECYCLE, partition)))  # type: ignore[misc]
            yield _recorded(self.held(LIFECYCLE, partition)[offset])

    def _append(self, place: Place, encoded: Encoded) -> Appended:
        partition = self._held.setdefault(place, [])
        appended = Appended(*place, len(partition), self._clock())
        partition.append(Held(appended, encoded))
        return appended


def _recorded(held: Held) -> Recorded:
    fact = held.record
    if not isinstance(fact, FactBase):
        raise TypeError(f"a {type(fact).__name__} is no fact")
    at = held.appended
    return Recorded(fact, events.Place(at.topic, at.partition, at.offset), at.at_ms)
