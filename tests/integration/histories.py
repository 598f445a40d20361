"""Topics in memory, as whoever reads the log by offset sees them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from uuid import UUID

from projections.refold import Log
from projections.source import Raw
from projections.steps import NO_TOPIC_ID
from schemas.raw import RawRecord


class MemoryHistory:
    """All partitions of a topic. `held(partition)` gives a partition's records, the index being the offset."""

    topic_id: UUID = NO_TOPIC_ID

    def __init__(self, held: Callable[[int], Sequence[Raw]], partitions: Iterable[int], *, some: int = 3) -> None:
        self._held = held
        self._partitions = tuple(partitions)
        self._some = some

    async def bounds(self) -> Mapping[int, tuple[int, int]]:
        return {partition: (0, len(self._held(partition))) for partition in self._partitions}

    async def batches(self, partition: int, start: int, end: int) -> AsyncIterator[Sequence[RawRecord]]:
        for at in range(start, end, self._some):
            yield [
                RawRecord(partition, raw.offset, raw.at_ms, raw.key, raw.value, tuple(raw.headers))
                for raw in self._held(partition)[at : min(end, at + self._some)]
            ]


def log_in_memory(facts: Mapping[int, Sequence[Raw]], receipts: Mapping[int, Sequence[Raw]], *, some: int = 3) -> Log:
    """Both topics, as they grow."""

    def topic(held: Mapping[int, Sequence[Raw]]) -> MemoryHistory:
        return MemoryHistory(lambda partition: held[partition], held, some=some)

    return Log(topic(facts), topic(receipts))
