"""The gateway of this process: every open socket, what the processor pushes to them, and the facts about their sessions.

It reads its partition of restante.push and hands each order to the session it names, never sending on a socket itself; it
looks at the clocks of all sockets about once a second; and it keeps its lease. docs/decisions/0007 says how a session is
caught up.
"""

import asyncio
from collections.abc import Callable
from typing import Self
from uuid import UUID

from api.ports import CursorWriter, Keys, MailboxProgress, MailboxReads, ReceiptSource, Socket, Tokens
from api.session import StreamOptions
from api.tokens import Principal
from producers.log import EventLog
from producers.tail import Tail

__all__ = ["Gateway", "ReceiptStart", "Socket", "StreamOptions"]

ReceiptStart = int | None
"""The position in the receipts that a socket has already; None: only what comes from now on."""


class Gateway:
    """The sockets of one process. `async with` opens its tail of pushes and its lease; leaving ends every socket in order.

    `name` is new at each start of a process and names it in facts and pushes; `push_partition` is where it listens; `clock`
    gives seconds since the epoch (tokens expire by it), all else goes by the event loop's clock.
    """

    def __init__(
        self,
        *,
        log: EventLog,
        pushes: Tail,
        reads: MailboxReads,
        progress: MailboxProgress,
        keys: Keys,
        tokens: Tokens,
        cursors: CursorWriter,
        receipts: ReceiptSource,
        options: StreamOptions,
        producer: str,
        name: str,
        push_partition: int,
        clock: Callable[[], float],
    ) -> None:
        self._log = log
        self._pushes = pushes

    @property
    def sockets(self) -> int:
        """How many sockets are open."""
        return 0

    @property
    def working(self) -> asyncio.Task[None]:
        """Its own work; a gateway whose work has ended is of no use, so the process should end, too."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        return None

    async def serve(self, socket: Socket, principal: Principal, receipts_from: ReceiptStart = None) -> None:
        """The whole life of an authenticated socket, from SessionOpened to SessionClosed. Returns when the socket is over;
        raises nothing but CancelledError."""

    def revoke(self, device: UUID, before: float) -> None:
        """The device's tokens issued before `before` (seconds since the epoch) are dead, and so are its sockets."""

    def drain(self) -> None:
        """Take no more sockets, and begin to close those that are open with 1012. Leaving waits for them."""
