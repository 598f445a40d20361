"""The processor over a log in memory: the real desk, without Kafka and Faust, in the test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from processors.desk import Desk
from processors.outbox import append_until_held
from producers.memory import MemoryLog
from schemas.presence import PresenceRow
from schemas.topics import LIFECYCLE


@dataclass(frozen=True, slots=True)
class Fetched:
    """A record as Kafka's client would give it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Iterable[tuple[str, bytes | None]]


class MemoryProcessor:
    """Decides on every record of the lifecycle topic, in order. `async with` runs it; `stop` and `start` replace the
    process: the next one goes on with the first undecided record and has only the table's `rows`."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self._next = dict.fromkeys(range(log.partitions), 0)
        self._started = 0
        self._task: asyncio.Task[None] | None = None
        self.rows: dict[int, dict[UUID, PresenceRow]] = {partition: {} for partition in self._next}

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.stop()

    async def committed(self) -> dict[int, int]:
        """Up to where it has decided, and what it wrote is in the log."""
        return dict(self._next)

    def start(self) -> None:
        """Begin, as a new process."""
        self._started += 1
        producer = f"processor/{self._started}"
        desk = Desk(producer, lambda partition: list(self.rows[partition].values()), partitions=self.log.partitions)
        self._task = asyncio.create_task(self._run(desk), name=producer)

    async def stop(self) -> None:
        """End wherever it is. Raises what it failed with."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self, desk: Desk) -> None:
        while True:
            await self.log.grows(lambda: any(self._waits(partition) for partition in self._next))
            for partition in filter(self._waits, self._next):
                await self._decide(desk, partition)

    def _waits(self, partition: int) -> bool:
        return len(self.log.held(LIFECYCLE, partition)) > self._next[partition]

    async def _decide(self, desk: Desk, partition: int) -> None:
        first = self._next[partition]
        held = self.log.held(LIFECYCLE, partition)[first:]
        run = [
            Fetched(
                LIFECYCLE, partition, one.appended.offset, one.appended.at_ms, one.encoded.key, one.encoded.value, headers
            )
            for one in held
            for headers in [one.encoded.headers]
        ]
        findings = desk.read(partition, first, run, first + len(run))
        records, places = findings.records()
        if records:
            await append_until_held(self.log, records, places, waiting=lambda _: None)
        for device, row in findings.rows.items():
            if row is None:
                self.rows[partition].pop(device, None)
            else:
                self.rows[partition][device] = row
        self._next[partition] = first + len(run)
