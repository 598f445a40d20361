"""Complete reads: first ask the log how far it reaches, then wait until the projection has come that far."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from api.outages import asking_projection, log_silent
from producers.log import EventLog, LogUnavailable
from projections.errors import ProjectionBehind
from projections.progress import Progress

PATIENCE_SECONDS: Final = 5.0
"""A read waits at most this long for the projection, the question to the log included."""


class Freshness:
    """Knows when an answer sees everything that was answered before."""

    def __init__(self, log: EventLog, progress: Progress) -> None:
        self._log = log
        self._progress = progress

    async def of_all(self) -> Mapping[int, int]:
        """Wait for every partition: for reads of messages whose recipient is not known beforehand. Returns what the answer
        must contain (partition -> offset). Raises `Problem` log_unavailable or projection_behind."""
        return await self._floors(lambda ends: ends)

    async def of(self, partition: int) -> Mapping[int, int]:
        """Wait for one partition. As `of_all`."""
        return await self._floors(lambda ends: (partition,))

    async def _floors(self, chosen: Callable[[Mapping[int, int]], Iterable[int]]) -> Mapping[int, int]:
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        try:
            ends = await self._log.ends()
        except LogUnavailable as error:
            raise log_silent() from error
        floors = {partition: ends[partition] for partition in chosen(ends)}
        with asking_projection():
            for partition, end in floors.items():
                if self._progress.applied(partition) < end:
                    left = deadline - asyncio.get_running_loop().time()
                    if left <= 0:
                        raise ProjectionBehind(f"partition {partition} has not reached {end}")
                    await self._progress.reached(partition, end, left)
        return floors
