"""Complete reads: first ask the log how far it reaches, then wait until the projection has come that far.

What a sender is told is a step further: facts about his messages may lie in any partition, a processor makes receipts of
them, and those are folded. So a read of receipts waits for the processors in between.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from uuid import UUID

from api.outages import asking_projection, log_silent, projection_behind
from api.own import OwnAcks
from api.processed import Processed
from producers.log import EventLog, LogUnavailable
from projections.errors import ProjectionBehind
from projections.progress import Progress
from schemas.topics import LIFECYCLE, RECEIPTS

PATIENCE_SECONDS: Final = 5.0
"""A read waits at most this long for the projection, the question to the log included."""

SETTLE_SECONDS: Final = 0.1
"""At most this long for answers to appends of our own that the log may hold already."""


class Freshness:
    """Knows when an answer sees everything that was answered before."""

    def __init__(self, log: EventLog, progress: Progress) -> None:
        self._log = log
        self._progress = progress
        self.own = OwnAcks()

    async def of_all(self) -> Mapping[int, int]:
        """Wait for every partition: for reads of messages whose recipient is not known beforehand. Returns what the answer
        must contain (partition -> offset). Raises `Problem` log_unavailable or projection_behind."""
        return await self._floors(lambda ends: ends)

    async def of(self, *partitions: int) -> Mapping[int, int]:
        """Wait for these partitions. As `of_all`."""
        return await self._floors(lambda ends: partitions)

    async def of_account(self, partition: int, account: UUID) -> Mapping[int, int]:
        """Wait for what concerns one account in its partition, but not for what this process has appended for others. As
        `of_all`."""
        deadline = _deadline()
        end = (await self._ends())[partition]
        floor = await self._last_of(partition, account, self._progress.applied(partition), end)
        await self._reach({partition: floor}, deadline)
        return {partition: floor}

    async def unchanged(self, partition: int, account: UUID, since: int) -> bool:
        """Whether what the projection held of an account when it had come to `since` is still all there is. Asks the log,
        not the projection; yet False while that cannot be asked, so that a read says so."""
        end = (await self._ends())[partition]
        return await self._last_of(partition, account, since, end) <= since and self._progress.connected

    async def _last_of(self, partition: int, account: UUID, least: int, end: int) -> int:
        """After the last record, `least` at the lowest, that may concern the account."""
        found = self.own.others_from(partition, least, end, account)
        if found > least:
            await self.own.settled(partition, SETTLE_SECONDS)
            found = self.own.others_from(partition, least, end, account)
        return found

    async def _floors(self, chosen: Callable[[Mapping[int, int]], Iterable[int]]) -> Mapping[int, int]:
        deadline = _deadline()
        ends = await self._ends()
        floors = {partition: ends[partition] for partition in chosen(ends)}
        await self._reach(floors, deadline)
        return floors

    async def _ends(self) -> Mapping[int, int]:
        try:
            return await self._log.ends()
        except LogUnavailable as error:
            raise log_silent() from error

    async def _reach(self, floors: Mapping[int, int], deadline: float) -> None:
        with asking_projection():
            for partition, end in floors.items():
                if self._progress.applied(partition) < end:
                    left = deadline - asyncio.get_running_loop().time()
                    if left <= 0:
                        raise ProjectionBehind(f"partition {partition} has not reached {end}")
                    await self._progress.reached(partition, end, left)


def _deadline() -> float:
    return asyncio.get_running_loop().time() + PATIENCE_SECONDS


class ReceiptFreshness:
    """The same for what senders are told."""

    def __init__(self, log: EventLog, progress: Progress, processed: Processed) -> None:
        self._log = log
        self._progress = progress
        self._processed = processed

    async def of(self, partition: int) -> Mapping[int, int]:
        """Wait for one partition of the receipts topic, in which the answer must contain what is returned (partition ->
        offset). Raises `Problem` log_unavailable or projection_behind."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_SECONDS
        try:
            decided = await self._ends(LIFECYCLE, deadline)
            await self._processed.reached(decided, deadline - loop.time())
            end = (await self._ends(RECEIPTS, deadline))[partition]
            await self._progress.reached(partition, end, deadline - loop.time(), RECEIPTS)
        except (LogUnavailable, TimeoutError) as error:
            raise log_silent() from error
        except ProjectionBehind as error:
            raise projection_behind() from error
        return {partition: end}

    async def _ends(self, topic: str, deadline: float) -> Mapping[int, int]:
        async with asyncio.timeout_at(deadline):
            return await self._log.ends(topic)
