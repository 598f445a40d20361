"""The one source of everything that varies in a run."""

import asyncio
from random import Random
from typing import Final

EPOCH_MS: Final = 1_790_000_000_000
_SELDOM: Final = 0.08
_SLOW: Final = 25.0


class Chance(Random):
    """A seeded random stream with the delays of a network."""

    def delay(self, typical: float) -> float:
        """Seconds: mostly below `typical`, sometimes none, seldom many times as much."""
        drawn = self.random()
        if drawn < _SELDOM:
            return typical * _SLOW * self.random()
        if drawn < 2 * _SELDOM:
            return 0.0
        return typical * self.random()

    def happens(self, probability: float) -> bool:
        """True so often."""
        return probability > 0 and self.random() < probability

    async def pause(self, typical: float) -> None:
        """Wait for a `delay`."""
        await asyncio.sleep(self.delay(typical))


class Outage:
    """Something that is out of reach until a point in time."""

    def __init__(self) -> None:
        self.until = 0.0

    @property
    def now(self) -> bool:
        """Whether it is away."""
        return self.left > 0

    @property
    def left(self) -> float:
        """Seconds until it is back."""
        return max(0.0, self.until - asyncio.get_running_loop().time())

    def begin(self, seconds: float) -> None:
        """Away from now on for so long."""
        self.until = max(self.until, asyncio.get_running_loop().time() + seconds)

    async def over(self) -> None:
        """Wait until it is back."""
        while self.now:
            await asyncio.sleep(self.left)


class Bell:
    """Wakes all who wait, also those in processes that stand still."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        """Until the next `ring`."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def ring(self) -> None:
        """Wake all."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


def now_ms() -> int:
    """The broker's clock."""
    return EPOCH_MS + int(asyncio.get_running_loop().time() * 1000)
