"""The log of the simulated world, and each process's connection to it.

`World log` is what is true. A `Wire` is the EventLog of one process: its records are under way for a while, keep their order
within a partition, and may be refused, or get no answer whether they landed, land late, or never.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from producers.addresses import address
from producers.lanes import Answer, Place
from producers.log import DEADLINE_SECONDS, Appended, LogUnavailable
from producers.tail import Tailed
from schemas import events
from schemas.codec import Encoded, Record
from schemas.events import FactBase, Recorded
from schemas.topics import LIFECYCLE, TOPICS
from tests.simulation.chance import Bell, Chance, Outage, now_ms
from tests.simulation.loop import outside

APPEND_SECONDS: Final = 0.004
TAKE_SECONDS: Final = 0.003
_ORDER: Final = 1e-6


@dataclass(slots=True)
class Faults:
    """How often an append, with the broker there, is refused, or gets no answer."""

    rejected: float = 0.0
    unknown: float = 0.0


class WorldLog:
    """All topics. `seen` is called with each fact as it lands; the topic's bell in `grown` rings then."""

    def __init__(self, partitions: int, chance: Chance) -> None:
        self.counts = {topic.name: partitions if topic.partitioned else 1 for topic in TOPICS}
        self.chance = chance
        self.outage = Outage()
        self.faults = Faults()
        self.grown = {topic.name: Bell() for topic in TOPICS}
        self.facts: list[list[Recorded]] = [[] for _ in range(partitions)]
        self.encoded: list[list[Encoded]] = [[] for _ in range(partitions)]
        self.seen: list[Callable[[Recorded], None]] = []
        self.landing: list[Callable[[Record], None]] = []
        self._held: defaultdict[Place, list[Tailed]] = defaultdict(list)

    def held(self, topic: str, partition: int) -> list[Tailed]:
        """All that a partition holds."""
        return self._held[topic, partition]

    def end(self, topic: str, partition: int) -> int:
        """The offset after the last record."""
        return len(self._held[topic, partition])

    def land(self, place: Place, encoded: Encoded, record: Record) -> Appended:
        """A record is in the log."""
        topic, partition = place
        appended = Appended(topic, partition, self.end(topic, partition), now_ms())
        self._held[place].append(Tailed(record, partition, appended.offset, appended.at_ms))
        if topic == LIFECYCLE:
            assert isinstance(record, FactBase)
            fact = Recorded(record, events.Place(topic, partition, appended.offset), appended.at_ms)
            self.facts[partition].append(fact)
            self.encoded[partition].append(encoded)
            for see in self.seen:
                see(fact)
        for look in self.landing:
            look(record)
        self.grown[topic].ring()
        return appended


class Wire:
    """`producers.log.EventLog` of one process. `faulty` False: the broker may be away, but nothing else goes wrong."""

    def __init__(self, log: WorldLog, *, faulty: bool = True) -> None:
        self._log = log
        self._faulty = faulty
        self._latest: defaultdict[Place, float] = defaultdict(float)

    @property
    def partitions(self) -> int:
        return self._log.counts[LIFECYCLE]

    @property
    def healthy(self) -> bool:
        return not self._log.outage.now

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        return None

    async def append(self, record: Record, *, partition: int | None = None) -> Appended:
        (answer,) = await self.append_all([record], partitions=[partition])
        if isinstance(answer, LogUnavailable):
            raise answer
        return answer

    async def append_all(self, records: Sequence[Record], *, partitions: Sequence[int | None] | None = None) -> list[Answer]:
        wanted = partitions if partitions is not None else (None,) * len(records)
        addressed = [(address(record, at, self._log.counts), record) for record, at in zip(records, wanted, strict=True)]
        answers = [self._send(*place, record) for place, record in addressed]
        return [await answer for answer in answers]

    async def ends(self, topic: str = LIFECYCLE) -> Mapping[int, int]:
        chance = self._log.chance
        await chance.pause(TAKE_SECONDS)
        if self._log.outage.now:
            await asyncio.sleep(min(DEADLINE_SECONDS, self._log.outage.left))
            raise LogUnavailable("rejected", "the log is away")
        return {partition: self._log.end(topic, partition) for partition in range(self._log.counts[topic])}

    def _send(self, place: Place, encoded: Encoded, record: Record) -> "asyncio.Future[Answer]":
        log, loop = self._log, asyncio.get_running_loop()
        now = loop.time()
        sending = _Sending(place, encoded, record, loop.create_future(), now + DEADLINE_SECONDS)
        if self._faulty and log.chance.happens(log.faults.rejected):
            outside(log.chance.delay(0.5), sending.answered, LogUnavailable("rejected", "seeded"))
        else:
            self._arrive_at(now + log.chance.delay(APPEND_SECONDS), sending)
        return sending.answer

    def _arrive_at(self, when: float, sending: "_Sending") -> None:
        """Records of a partition arrive one after the other."""
        when = self._latest[sending.place] = max(when, self._latest[sending.place] + _ORDER)
        outside(when - asyncio.get_running_loop().time(), self._arrive, sending)

    def _arrive(self, sending: "_Sending") -> None:
        log, chance = self._log, self._log.chance
        patience = sending.deadline - asyncio.get_running_loop().time()
        if log.outage.now:
            if log.outage.left < patience - 0.5 and chance.happens(0.8):
                self._arrive_at(log.outage.until + chance.delay(0.05), sending)
            elif chance.happens(0.5):
                outside(max(0.0, patience), sending.answered, LogUnavailable("rejected", "the log is away"))
            else:
                self._unknown(sending, patience, log.outage.left)
        elif self._faulty and chance.happens(log.faults.unknown):
            self._unknown(sending, patience, 0.0)
        else:
            appended = log.land(sending.place, sending.encoded, sending.record)
            outside(chance.delay(APPEND_SECONDS), sending.answered, appended)

    def _unknown(self, sending: "_Sending", patience: float, away: float) -> None:
        """No answer comes: the record has landed, or will some day, or is lost."""
        log, chance = self._log, self._log.chance
        if chance.happens(0.6):
            outside(away + chance.delay(2.0), log.land, sending.place, sending.encoded, sending.record)
        outside(max(0.0, patience), sending.answered, LogUnavailable("unknown", "seeded"))


@dataclass(slots=True)
class _Sending:
    """A record on its way."""

    place: Place
    encoded: Encoded
    record: Record
    answer: "asyncio.Future[Answer]"
    deadline: float

    def answered(self, answer: Answer) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


class WorldTail:
    """`producers.tail.Tail` of one process."""

    def __init__(self, log: WorldLog, topic: str, *, partition: int | None = None, start: str = "end") -> None:
        self._log = log
        self._topic = topic
        self._partitions = range(log.counts[topic]) if partition is None else [partition]
        self._start = start
        self._reached: dict[int, int] = {}
        self.slowness = TAKE_SECONDS

    async def __aenter__(self) -> Self:
        await self._log.outage.over()
        await self._log.chance.pause(TAKE_SECONDS)
        self._reached = self._ends() if self._start == "end" else dict.fromkeys(self._partitions, 0)
        return self

    async def __aexit__(self, *failure: object) -> None:
        return None

    async def take(self) -> Sequence[Tailed]:
        while True:
            await self._log.chance.pause(self.slowness)
            await self._log.outage.over()
            if taken := self._take():
                return taken
            await self._log.grown[self._topic].wait()

    def reached(self) -> Mapping[int, int]:
        return self._reached

    async def ends(self) -> Mapping[int, int]:
        await self._log.chance.pause(TAKE_SECONDS)
        if self._log.outage.now:
            await asyncio.sleep(min(DEADLINE_SECONDS, self._log.outage.left))
            raise LogUnavailable("rejected", "the log is away")
        return self._ends()

    def _ends(self) -> dict[int, int]:
        return {partition: self._log.end(self._topic, partition) for partition in self._partitions}

    def _take(self) -> list[Tailed]:
        taken: list[Tailed] = []
        for partition, offset in self._reached.items():
            there = self._log.held(self._topic, partition)[offset:]
            some = there[: self._log.chance.randint(1, len(there))] if there else []
            self._reached[partition] = offset + len(some)
            taken += some
        return taken
