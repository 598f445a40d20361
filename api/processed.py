"""How far the processors have come, asked of the log only while somebody waits for them, and once for all who do."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Self

from producers.log import LogUnavailable
from projections.errors import ProjectionBehind

POLL_SECONDS: Final = 0.04
"""From one answer to the next question, while somebody waits. Processors commit a few times a second."""

Committed = Callable[[], Awaitable[Mapping[int, int]]]
"""Up to where the processors have decided: partition of the lifecycle topic -> offset. All that they wrote because of
earlier records is in the log. A partition where they have not begun may be left out. Raises `LogUnavailable`."""


class Processed:
    """What was committed once stays true, so the answers are remembered. `async with` ends the questions."""

    def __init__(self, committed: Committed) -> None:
        self._committed = committed
        self._known: dict[int, int] = {}
        self._waiting: dict[asyncio.Future[None], Mapping[int, int]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._trouble: LogUnavailable | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        if self._asking is not None:
            self._asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._asking

    async def reached(self, ends: Mapping[int, int], timeout: float) -> None:
        """Wait until everything below these ends is decided. After `timeout` seconds raises `LogUnavailable` where the last
        question got no answer, else `ProjectionBehind`."""
        if self._beyond(ends):
            return
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[reached] = ends
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(), name="asking how far the processors are")
        try:
            async with asyncio.timeout(timeout):
                await reached
        except TimeoutError as error:
            raise self._trouble or ProjectionBehind(f"the processors have not decided up to {ends}") from error
        finally:
            del self._waiting[reached]

    def _beyond(self, ends: Mapping[int, int]) -> bool:
        return all(self._known.get(partition, 0) >= end for partition, end in ends.items())

    async def _ask(self) -> None:
        try:
            while self._waiting:
                await self._look()
                if self._waiting:
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            self._asking = None

    async def _look(self) -> None:
        try:
            answer = await self._committed()
        except LogUnavailable as error:
            self._trouble = error
            return
        self._trouble = None
        for partition, offset in answer.items():
            self._known[partition] = max(offset, self._known.get(partition, 0))
        for reached, ends in self._waiting.items():
            if not reached.done() and self._beyond(ends):
                reached.set_result(None)
