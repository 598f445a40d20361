"""The errand that tells a sender live what became of his messages, from the projection."""

import asyncio
from typing import Final
from uuid import UUID

from api.common import Common
from api.frames import encode
from api.pause import Pauses
from projections.errors import DatabaseUnavailable

AT_ONCE: Final = 100
EVERY_SECONDS: Final = 0.05
"""A sender of hundreds a second asks so seldom, and gets several with each answer."""


class Telling:
    """Receipts of one user after a position, or (None) from `begin` on. `frames` is what the writer sends next; more is read
    once it is empty."""

    __slots__ = ("_asked", "_common", "_due", "_told", "_user", "frames")

    def __init__(self, common: Common, user: UUID, after: int | None) -> None:
        self._common = common
        self._user = user
        self._told = after
        self._due = after is not None
        self._asked = 0.0
        self.frames: list[bytes] = []

    @property
    def wanted(self) -> bool:
        """Whether `work` has something to do."""
        return self._due and not self.frames

    def wake(self) -> None:
        """There may be more."""
        self._due = True

    async def begin(self) -> None:
        """Say where it begins; `work` needs that. Raises `LogUnavailable`."""
        if self._told is None:
            self._told = await self._common.receipts.now(self._user)

    async def work(self) -> None:
        """Read a page, unless there is nothing new."""
        loop, pauses = asyncio.get_running_loop(), Pauses()
        assert self._told is not None, "not begun"
        while self.wanted:
            await asyncio.sleep(max(0.0, self._asked + EVERY_SECONDS - loop.time()))
            self._due, self._asked = False, loop.time()
            try:
                async with self._common.questions:
                    found = await self._common.receipts.after(self._user, self._told, AT_ONCE)
            except DatabaseUnavailable:
                self._due = True
                await asyncio.sleep(pauses.longer())
                continue
            if found:
                self._told = found[-1][0]
                self.frames += [encode(frame) for _, frame in found]
            if len(found) == AT_ONCE:
                self._due = True
