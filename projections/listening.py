"""A connection that listens to announcements of PostgreSQL (LISTEN, NOTIFY) and is made anew whenever it breaks.

What is announced while nobody listens is lost, so whoever listens looks for himself after each connect, and once in a
while: that also finds out a connection that died without a word.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Self

from projections.database import Connection, configure, connect_options, translated
from projections.errors import DatabaseUnavailable
from projections.pointer import Line, Pointer

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""The longest that a lost announcement can delay anything."""

_BACK_OFF_SECONDS: Final = (0.1, 2.0)

Look = Callable[[Connection], Awaitable[None]]


class Listening:
    """Listens to a channel from entry to exit. `fresh` is called after each connect, `look` every LOOK_SECONDS, `hear`
    with the payload of each announcement."""

    def __init__(self, url: str, channel: str, *, fresh: Look, look: Look, hear: Callable[[str], None]) -> None:
        self._url = url
        self._channel = channel
        self._fresh = fresh
        self._look = look
        self._hear = hear
        self._task: asyncio.Task[None] | None = None
        self.connected = False
        """False while announcements do not arrive."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._for_ever(), name=f"listening to {self._channel}")
        return self

    async def __aexit__(self, *failure: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _for_ever(self) -> None:
        least, most = _BACK_OFF_SECONDS
        pause = least
        while True:
            try:
                with translated():
                    async with await Line.connect(self._url, **connect_options()) as raw:
                        connection = await self._opened(raw)
                        await self._fresh(connection)
                        self.connected, pause = True, least
                        await self._listen(raw, connection)
            except DatabaseUnavailable as error:
                if self.connected:
                    log.warning("announcements of %s stopped: %s", self._channel, error)
            finally:
                self.connected = False
            await asyncio.sleep(pause)
            pause = min(2 * pause, most)

    async def _opened(self, raw: Line) -> Connection:
        pointer = Pointer()
        await configure(raw)
        await pointer.turn(raw)
        await raw.execute(f"LISTEN {self._channel}".encode())
        return Connection(raw, pointer)

    async def _listen(self, raw: Line, connection: Connection) -> None:
        while True:
            async for notice in raw.notifies(timeout=LOOK_SECONDS):
                self._hear(notice.payload)
            await self._look(connection)
