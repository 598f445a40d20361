"""When devices were last seen: noted at each call, written once in a while, many at once."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Final, Self
from uuid import UUID

from api.accounts import Accounts
from projections.errors import DatabaseUnavailable

EVERY_SECONDS: Final = 60.0
AT_ONCE: Final = 1_000
MOST_NOTED: Final = 100_000
"""While PostgreSQL is away, notes wait; above this, new devices are not noted."""

GOODBYE_SECONDS: Final = 2.0
"""How long the stop waits for the last notes."""


class LastSeen:
    """Writes from entry to exit. `clock` gives seconds since the epoch."""

    def __init__(self, accounts: Accounts, clock: Callable[[], float]) -> None:
        self._accounts = accounts
        self._clock = clock
        self._noted: dict[int, float] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._write_for_ever(), name="last seen")
        return self

    async def __aexit__(self, *failure: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        with suppress(DatabaseUnavailable, TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self.write()

    def note(self, device: UUID) -> None:
        """The device is here now."""
        if len(self._noted) < MOST_NOTED or device.int in self._noted:
            self._noted[device.int] = self._clock()

    def noted(self, device: UUID) -> float | None:
        """When it was here, if that has not been written yet (seconds since the epoch)."""
        return self._noted.get(device.int)

    async def write(self) -> None:
        """Write what was noted. Raises `DatabaseUnavailable`; the rest stays noted."""
        while self._noted:
            some = dict(islice(self._noted.items(), AT_ONCE))
            await self._accounts.seen({UUID(int=device): at for device, at in some.items()})
            for device, at in some.items():
                if self._noted[device] == at:
                    del self._noted[device]

    async def _write_for_ever(self) -> None:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            with suppress(DatabaseUnavailable):
                await self.write()
