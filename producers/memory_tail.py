"""Reading a topic of the log in memory as it grows."""

from collections.abc import Mapping, Sequence
from typing import Literal, Self

from producers.memory import Held, MemoryLog
from producers.tail import Tailed
from schemas.codec import DecodeError


class MemoryTail:
    """`producers.tail.Tail` on a `MemoryLog`. Opening raises `LogUnavailable` while the log is away."""

    def __init__(
        self, log: MemoryLog, topic: str, *, partition: int | None = None, start: Literal["end", "beginning"]
    ) -> None:
        self._log = log
        self._topic = topic
        self._partition = partition
        self._start = start
        self._reached: dict[int, int] = {}

    async def __aenter__(self) -> Self:
        ends = await self.ends()
        self._reached = dict(ends) if self._start == "end" else dict.fromkeys(ends, 0)
        return self

    async def __aexit__(self, *failure: object) -> None:
        return None

    async def take(self) -> Sequence[Tailed]:
        while True:
            await self._log.grows(self._waiting)
            if taken := self._take():
                return taken

    def reached(self) -> Mapping[int, int]:
        return dict(self._reached)

    async def ends(self) -> Mapping[int, int]:
        found = self._log.ends_of(self._topic)
        if self._partition is None:
            return found
        if self._partition not in found:
            raise ValueError(f"{self._topic} has {len(found)} partitions, so there is no partition {self._partition}")
        return {self._partition: found[self._partition]}

    def _waiting(self) -> bool:
        return any(len(self._log.held(self._topic, partition)) > offset for partition, offset in self._reached.items())

    def _take(self) -> list[Tailed]:
        taken: list[Tailed] = []
        for partition, offset in self._reached.items():
            held = self._log.held(self._topic, partition)[offset:]
            self._reached[partition] = offset + len(held)
            taken += [tailed for one in held if (tailed := _tailed(one))]
        return taken


def _tailed(held: Held) -> Tailed | None:
    try:
        record = held.record
    except DecodeError:
        return None
    return Tailed(record, held.appended.partition, held.appended.offset, held.appended.at_ms)
