"""The look that every API process takes at its start and once in a while, for what was left half done."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Self

from api.problems import Problem
from producers.log import LogUnavailable
from projections.errors import DatabaseUnavailable, ProjectionBehind

EVERY_SECONDS: Final = 30.0
OLD_SECONDS: Final = 10.0
"""What is younger is probably still being finished by the call that began it."""

AWAY: Final = (LogUnavailable, DatabaseUnavailable, ProjectionBehind, Problem)
"""What ends a look early; the next one goes on."""


class Sweep:
    """Looks from entry to exit. `look` raises nothing but what is in AWAY."""

    def __init__(self, name: str, look: Callable[[], Awaitable[None]]) -> None:
        self._name = name
        self._look = look
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._for_ever(), name=self._name)
        return self

    async def __aexit__(self, *failure: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _for_ever(self) -> None:
        while True:
            with suppress(*AWAY):
                await self._look()
            await asyncio.sleep(EVERY_SECONDS)
