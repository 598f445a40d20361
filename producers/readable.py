"""What the notary and who verifies need of a log: Kafka's (`producers.recorded`), an export's (`producers.exported`)."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol, Self
from uuid import UUID

from schemas.raw import RawRecord


class Readable(Protocol):
    """One topic, open inside `async with`."""

    topic_id: UUID

    async def bounds(self) -> Mapping[int, tuple[int, int]]:
        """For each partition the offset of its first record, and the one after its last."""

    def batches(self, partition: int, start: int, end: int) -> AsyncGenerator[Sequence[RawRecord], None]:
        """The records from `start` to `end - 1`, some at a time, in order. Raises `LogCut`, `LogDamaged`, `LogReplaced`,
        `LogUnavailable`."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *failure: object) -> None: ...
