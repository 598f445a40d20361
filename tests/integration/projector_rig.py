"""A projector on a log in memory, beside a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from projections.database import Database
from projections.reads import Reads
from projections.runner import Projector
from projections.source import MemorySource, Raw
from schemas.codec import encode
from schemas.events import Fact
from schemas.quarantined import Quarantined
from tests.builders import LAPTOP, T0_MS, delivered, entry, pending, registered, stored
from tests.eventually import eventually


def raw_of(fact: Fact, offset: int, at_ms: int | None = None) -> Raw:
    encoded = encode(fact)
    at = T0_MS + 1000 * offset if at_ms is None else at_ms
    return Raw(offset, at, encoded.key, encoded.value, list(encoded.headers))


@dataclass
class Rig:
    """A log in memory, one database, and what was set aside."""

    database: Database
    log: dict[int, list[Raw]] = field(default_factory=lambda: {0: [], 1: []})
    set_aside: list[Quarantined] = field(default_factory=list)

    def append(self, *facts: Fact, partition: int = 0) -> None:
        held = self.log[partition]
        for fact in facts:
            held.append(raw_of(fact, len(held)))

    def source(self) -> MemorySource:
        return MemorySource(lambda partition: self.log[partition], self.log)

    def projector(self, source: MemorySource | None = None, **options: Any) -> Projector:
        return Projector(source or self.source(), self.database, self.quarantine, **options)

    async def quarantine(self, record: Quarantined) -> None:
        self.set_aside.append(record)

    async def caught_up(self) -> None:
        reads = Reads(self.database)

        async def condition() -> bool:
            return await reads.offsets() == {partition: len(held) for partition, held in self.log.items()}

        await eventually(condition, what="the projection has reached the log's end")


@asynccontextmanager
async def running(*projectors: Projector) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(projector.run()) for projector in projectors]
        yield
        for task in tasks:
            task.cancel()


def on(scenario: Callable[[Rig], Awaitable[None]], url: str) -> None:
    async def main() -> None:
        async with Database(url) as database:
            await scenario(Rig(database))

    asyncio.run(main())


STORY = (registered(), stored(1), pending(1, 1), stored(2), pending(2, 3), delivered(entry(1, 1)), registered(LAPTOP))
