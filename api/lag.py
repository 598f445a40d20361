"""How far the projection is behind the log, watched by each API process for itself."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Final, Self

from producers.log import EventLog, LogUnavailable
from projections.progress import Progress
from schemas.metrics import PROJECTION_LAG_RECORDS, PROJECTION_LAG_SECONDS

EVERY_SECONDS: Final = 1.0
TOO_FAR_SECONDS: Final = 30.0


class Lag:
    """Lag by partition, from samples of the log's ends: the age of the oldest end that is not applied yet. Pure."""

    def __init__(self) -> None:
        self._waiting: dict[int, deque[tuple[float, int]]] = {}

    def sample(self, now: float, ends: Mapping[int, int], applied: Mapping[int, int]) -> None:
        """The log's ends and the projection's offsets as they are now (seconds of any steady clock)."""
        for partition, end in ends.items():
            waiting = self._waiting.setdefault(partition, deque())
            if not waiting or waiting[-1][1] < end:
                waiting.append((now, end))
            while waiting and waiting[0][1] <= applied.get(partition, 0):
                waiting.popleft()

    def seconds(self, now: float) -> dict[int, float]:
        """For each partition how long its oldest unapplied end has waited."""
        return {partition: now - waiting[0][0] if waiting else 0.0 for partition, waiting in self._waiting.items()}


class LagWatch:
    """Samples once a second while it is open. `behind_seconds` is the worst partition's lag, `complete_at_ms` says for each
    partition when the projection was last seen to have everything. `clock` gives seconds since the epoch."""

    def __init__(self, log: EventLog, progress: Progress, clock: Callable[[], float]) -> None:
        self._log = log
        self._progress = progress
        self._clock = clock
        self._lag = Lag()
        self._task: asyncio.Task[None] | None = None
        self.behind_seconds = 0.0
        self.complete_at_ms: dict[int, int] = {}

    @property
    def overloaded(self) -> bool:
        """Whether the projection is too far behind to take more. While PostgreSQL is away nobody knows, and the log alone
        carries the promise, so then it is not."""
        return self.behind_seconds > TOO_FAR_SECONDS and self._progress.connected

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *failure: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(LogUnavailable):
                self.look(await self._log.ends())
            await asyncio.sleep(EVERY_SECONDS)

    def look(self, ends: Mapping[int, int]) -> None:
        """Take a sample."""
        now = monotonic()
        applied = {partition: self._progress.applied(partition) for partition in ends}
        self._lag.sample(now, ends, applied)
        seconds = self._lag.seconds(now)
        for partition, end in ends.items():
            PROJECTION_LAG_RECORDS.labels(str(partition)).set(max(0, end - applied[partition]))
            PROJECTION_LAG_SECONDS.labels(str(partition)).set(seconds[partition])
            if applied[partition] >= end:
                self.complete_at_ms[partition] = int(self._clock() * 1000)
        self.behind_seconds = max(seconds.values(), default=0.0)
