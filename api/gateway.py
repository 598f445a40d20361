"""The gateway of this process: every open socket, what the processor pushes to them, and the facts about their sessions.

It reads its partition of restante.push and hands each order to the session it names, never sending on a socket itself; it
looks at the clocks of all sockets about once a second; and it keeps its lease. docs/decisions/0007 says how a session is
caught up.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Self
from uuid import UUID

from api.common import PAGES_AT_ONCE, QUESTIONS_AT_ONCE, Common, Me
from api.connected import Connected
from api.conversation import Conversation
from api.endings import Endings
from api.ends import RESTART, TOKEN_REVOKED, TOO_MANY_SOCKETS, End, said_by_log
from api.facts import closed
from api.lease import Lease
from api.names import Names
from api.net import Net
from api.ports import CursorWriter, Keys, MailboxProgress, MailboxReads, ReceiptSource, Socket, Tokens
from api.session import StreamOptions
from api.tokens import Principal
from producers.log import EventLog
from producers.tail import Tail
from schemas.events import EndReason
from schemas.metrics import SESSION_ENDS
from schemas.partitions import partition_for
from schemas.push import Push, PushKind

__all__ = ["Gateway", "ReceiptStart", "Socket", "StreamOptions"]

ReceiptStart = int | None
"""The position in the receipts that a socket has already; None: only what comes from now on."""

CLOSING_SECONDS: Final = 2.5
"""For so long leaving waits for the sockets; then half a second each for the last facts and the lease."""

LAST_SECONDS: Final = 0.5
_TICK_SECONDS: Final = (0.05, 1.0)
_BURST: Final = 256


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
        self._pushes = pushes
        self._connected = Connected()
        self._endings = Endings(log, self._connected.is_closed)
        self._common = Common(
            log=log,
            reads=reads,
            progress=progress,
            keys=keys,
            tokens=tokens,
            cursors=cursors,
            receipts=receipts,
            options=options,
            producer=producer,
            gateway=name,
            push_partition=push_partition,
            clock=clock,
            endings=self._endings,
            names=Names(),
            pages=asyncio.Semaphore(PAGES_AT_ONCE),
            questions=asyncio.Semaphore(QUESTIONS_AT_ONCE),
        )
        self._lease = Lease(
            log,
            producer=producer,
            gateway=name,
            push_partition=push_partition,
            seconds=options.lease,
            lost=self._end_all,
        )
        self._net = Net(self._common, self._connected.all)
        self._working: asyncio.Task[None] | None = None
        self._finishing: set[asyncio.Task[None]] = set()
        self._draining = False

    @property
    def sockets(self) -> int:
        """How many sessions are open here."""
        return len(self._connected)

    @property
    def working(self) -> asyncio.Task[None]:
        """Its own work; a gateway whose work has ended is of no use, so the process should end, too."""
        assert self._working is not None, "not entered"
        return self._working

    async def __aenter__(self) -> Self:
        await self._pushes.__aenter__()
        try:
            await self._lease.begin()
        except BaseException:
            await self._pushes.__aexit__(None, None, None)
            raise
        self._working = asyncio.create_task(self._work(), name="gateway")
        return self

    async def __aexit__(self, *failure: object) -> None:
        self.drain()
        if self._finishing:
            await asyncio.wait(self._finishing, timeout=CLOSING_SECONDS)
        for last in (self._endings.done, self._lease.end):
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    await last()
        await _cancel([self.working, *self._finishing])
        await self._pushes.__aexit__(None, None, None)

    async def serve(self, socket: Socket, principal: Principal, receipts_from: ReceiptStart = None) -> None:
        """The whole life of an authenticated socket, from SessionOpened to SessionClosed. Returns when the socket is over;
        raises nothing but CancelledError."""
        refusal = self._refusal(principal)
        if refusal is not None:
            await socket.close(refusal.code, refusal.text)
            return
        one = Conversation(self._common, socket, principal, receipts_from, opened=self._connected.opened, ended=self._ended)
        self._connected.enter(one)
        await one.run()

    def revoke(self, device: UUID, generation: int) -> None:
        """The device's tokens below this generation have ended, and so have its sockets."""
        self._connected.revoke(device, generation)

    def forget(self, user: UUID) -> None:
        """The account is erased: nothing more is shown as being from its name."""
        self._common.names.forget(user)

    def acknowledged(self, device: UUID, ids: Sequence[UUID]) -> None:
        """The device has acknowledged these by HTTP here, and the log has it."""
        self._connected.acknowledged(device, ids)

    def drain(self) -> None:
        """Take no more sockets, and begin to close those that are open with 1012. Leaving waits for them."""
        self._draining = True
        self._end_all()

    def _refusal(self, who: Principal) -> End | None:
        if self._draining or self.working.done():
            return RESTART
        if self._connected.is_revoked(who):
            return TOKEN_REVOKED
        if self._connected.count(who.user) >= self._common.options.sockets:
            return TOO_MANY_SOCKETS
        return None

    def _ended(self, one: Conversation, began: bool) -> None:
        self._connected.leave(one, began)
        assert one.over is not None
        SESSION_ENDS.labels(reason=one.over.reason.value).inc()
        if one.finishing is not None:
            self._finishing.add(one.finishing)
            one.finishing.add_done_callback(self._finishing.discard)

    def _end_all(self) -> None:
        for one in self._connected.all():
            one.end(RESTART)

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            for part in (self._listen(), self._tick(), self._lease.run(), self._net.run(), self._endings.run()):
                group.create_task(part)

    async def _listen(self) -> None:
        while True:
            for number, tailed in enumerate(await self._pushes.take()):
                if isinstance(tailed.record, Push):
                    self._order(tailed.record)
                if number % _BURST == _BURST - 1:
                    await asyncio.sleep(0)

    def _order(self, push: Push) -> None:
        if push.gateway != self._common.gateway:
            return
        one = self._connected.find(push.session_id)
        if one is None:
            self._close_unknown(push)
            return
        try:
            if push.kind is PushKind.MESSAGE:
                one.pushed(push)
            elif push.kind is PushKind.REMARK:
                one.mark()
            else:
                one.end(said_by_log(push.reason))
        except Exception as error:  # a fault of one session is no fault of the others
            one.failed(error)

    def _close_unknown(self, push: Push) -> None:
        """The processor believes in a session that is not here. Unless its end is on its way, the log must hear of it."""
        if push.kind is PushKind.CLOSE or self._connected.is_ending(push.session_id, push.epoch):
            return
        self._connected.ending(push.session_id)
        partition = partition_for(push.recipient, self._common.log.partitions)
        unknown = Me(push.session_id, push.recipient, push.device_id, partition)
        self._endings.add([closed(self._common, unknown, EndReason.UNKNOWN_SESSION)])

    async def _tick(self) -> None:
        options = self._common.options
        least, most = _TICK_SECONDS
        pause = max(least, min(most, options.ack_timeout / 10, options.heartbeat / 10))
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(pause)
            wall = self._common.clock()
            for number, one in enumerate(self._connected.all()):
                try:
                    one.tick(loop.time(), wall)
                except Exception as error:  # as above
                    one.failed(error)
                if number % _BURST == _BURST - 1:
                    await asyncio.sleep(0)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
