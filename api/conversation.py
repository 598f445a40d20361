"""One socket and its session: reads frames, writes frames, and does what they ask for.

The caller's task reads. Everything else (writing, reading pages, appending acknowledgements or a marker, telling receipts)
is an errand. None of them waits for another: a client that takes nothing, a log or a database that is away hold up only
what needs them.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from api.acknowledging import Acknowledging
from api.acks import Kind, Request
from api.catching_up import AccountGone, Markers, Pages
from api.common import Common, Me
from api.deadline import Deadline
from api.ends import (
    ACK_TIMEOUT,
    FAULT,
    FLOOD,
    HEARTBEAT_TIMEOUT,
    LOG_AWAY,
    RESTART,
    TOKEN_EXPIRED,
    TOKEN_REVOKED,
    TOO_SLOW,
    End,
    gone,
    misbehaved,
)
from api.errands import Errands
from api.facts import closed, marker
from api.frames import (
    Ack,
    Authenticate,
    Authenticated,
    BadFrame,
    ClientFrame,
    Ping,
    Pong,
    ReadFrame,
    SocketClosed,
    encode,
    error_frame,
)
from api.ids import new_id
from api.letters import caught_up_frame, message_frame, ready_frame
from api.ports import Socket
from api.problems import Problem
from api.resource import report
from api.session import CaughtUpAt, Session
from api.telling import Telling
from api.times import rfc3339
from api.tokens import Principal
from api.window import Window
from producers.log import LogUnavailable
from projections.reads import MailboxRow
from schemas.events import MessagesDelivered, MessagesRead, SessionOpened
from schemas.partitions import partition_for
from schemas.push import Push

STUCK_SECONDS: Final = 30.0
"""A peer that takes no byte for so long is too slow."""

ANSWERS_WAITING: Final = 64
"""Answers that wait to be written; beyond that nobody reads what else the client says."""

STRANGE_ACKS: Final = 200
STRANGE_SECONDS: Final = 10.0
"""Acknowledgements of what is not in the window cost a question each. Those of which nothing came are few."""

LAST_ACKS_SECONDS: Final = 1.0
"""For so long a session that is over waits for an append under way, before it leaves it to those who end sessions."""

_BURST: Final = 32
_ROUTE: Final = "/messages/stream"

WRITE, READ_PAGES, MARK, ACKNOWLEDGE, CONFIRM, TELL = "write", "read pages", "mark", "acknowledge", "confirm", "tell"
RENEW: Final = "renew"


class Conversation:
    """`run` is its whole life. `opened` and `ended` tell its gateway that the session has begun or is over; after the latter
    nothing is sent any more. Times are those of the event loop."""

    __slots__ = (
        "_acks", "_answers", "_began", "_common", "_deadline", "_ended", "_errands", "_loop", "_markers", "_opened",
        "_pages", "_ping_at", "_renewals", "_room", "_socket", "_strange", "_strange_since", "_telling", "finishing", "me",
        "opened_at", "over", "session", "who",
    )  # fmt: skip

    def __init__(
        self,
        common: Common,
        socket: Socket,
        who: Principal,
        receipts_from: int | None,
        *,
        opened: Callable[["Conversation"], None],
        ended: Callable[["Conversation", bool], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._common = common
        self._socket = socket
        self.who = who
        self.me = Me(new_id(), who.user, who.device, partition_for(who.user, common.log.partitions))
        self._opened = opened
        self._ended = ended
        self.session = Session(Window(common.options.window, common.options.window_bytes))
        self._errands = Errands(self.failed)
        self._renewals: list[str] = []
        self._pages = Pages(common, self.me, self.session)
        self._markers = Markers(common, self.me, self.session)
        self._telling = Telling(common, who.user, receipts_from)
        self._acks = Acknowledging(
            common, self.me, self.session.window, say=self._say, moved=self._advance, strange=self._count_strange
        )
        self._deadline = Deadline(common, self.me, self.session.window, self._acks, self._loop.time())
        self._answers: list[bytes] = []
        self._room: asyncio.Future[None] | None = None
        self._began = False
        self._strange = 0
        self._strange_since = self._loop.time()
        self._ping_at = self._loop.time() + common.options.heartbeat
        self.finishing: asyncio.Task[None] | None = None
        """Closes the socket and leaves the last facts, once the conversation is over."""
        self.opened_at: int | None = None
        self.over: End | None = None

    async def run(self) -> None:
        """From SessionOpened until the socket is closed and SessionClosed is on its way. Raises only CancelledError."""
        try:
            with self._common.receipts.watch(self.me.user, self._receipts_came):
                if await self._open():
                    await self._read()
        except asyncio.CancelledError:
            self.end(RESTART)
            raise
        except Exception as error:
            self.failed(error)
        if self.finishing is not None:
            await asyncio.shield(self.finishing)

    def end(self, end: End) -> None:
        """The session is over for this reason; the first one counts."""
        if self.over is not None:
            return
        self.over = end
        self._errands.stop(but=ACKNOWLEDGE)
        self._let_read()
        self.finishing = self._loop.create_task(self._finish(end))
        self._ended(self, self._began)

    def failed(self, error: Exception) -> None:
        """Something went wrong here: the session ends."""
        if isinstance(error, SocketClosed):
            self.end(gone(error.code))
        elif isinstance(error, AccountGone):
            self.end(TOKEN_REVOKED)
        else:
            report(error, _ROUTE, str(self.me.session))
            self.end(FAULT)

    def pushed(self, push: Push) -> None:
        """The processor sends a message."""
        message = push.message
        if message is None or self.over is not None:
            return
        names = self._common.names
        if message.sender in names:
            self.session.pushed(push, message, names[message.sender])
        else:
            self.session.pushed_unnamed(message.position)
        self._advance()

    def mark(self) -> None:
        """The processor has lost this session, or has never known it: tell it anew."""
        if self.opened_at is not None:
            self._markers.ask()
            self._errands.start(MARK, self._mark)

    def acknowledged(self, ids: Sequence[UUID]) -> None:
        """The device has acknowledged these by HTTP, and was answered."""
        if self.over is None:
            self._acks.elsewhere(ids)

    @property
    def rests(self) -> bool:
        """Whether this session has everything it can have: nothing is lacking, no marker is under way."""
        return self.session.caught_up and not self.session.lacks and MARK not in self._errands and self.over is None

    @property
    def _blocked(self) -> bool:
        return self.session.lacks and READ_PAGES not in self._errands

    def tick(self, now: float, wall: float) -> None:
        """Look at the clocks: of the loop, and the wall's (seconds since the epoch)."""
        if self.over is not None:
            return
        stuck, heartbeat = self._socket.stuck_since, self._common.options.heartbeat
        if wall >= self.who.expires_at:
            self.end(TOKEN_EXPIRED)
        elif stuck is not None and now - stuck >= STUCK_SECONDS:
            self.end(TOO_SLOW)
        elif self._room is None and now - max(self._socket.heard, self._deadline.excused) >= 2 * heartbeat:
            self.end(HEARTBEAT_TIMEOUT)
        elif self._room is None and self._deadline.should_ask(now, blocked=self._blocked):
            self._errands.start(CONFIRM, self._confirm)
        if self.over is None and now >= self._ping_at:
            self._ping_at = now + heartbeat
            self._socket.ping()

    # Opening and ending

    async def _open(self) -> bool:
        """Append SessionOpened and say `ready`. False where the session is over before it began."""
        try:
            await self._telling.begin()
            if self._is_over():
                return False
            self._began = True
            fact = marker(SessionOpened, self._common, self.me)
            appended = await self._common.log.append(fact, partition=self.me.partition)
        except LogUnavailable as error:
            self._began = self._began and error.outcome == "unknown"
            self.end(LOG_AWAY)
            return False
        if self.over is not None:
            return False
        self.opened_at = appended.offset
        self.session.marked(appended.offset)
        self._opened(self)
        self._say(ready_frame(self._common.options, self.me.session, self.who.expires_at))
        return self.over is None

    def _is_over(self) -> bool:
        """Said anew at each call, which mypy does not expect of an attribute."""
        return self.over is not None

    async def _finish(self, end: End) -> None:
        closing = self._loop.create_task(self._socket.close(end.code, end.text))
        try:
            await self._errands.stop_after(ACKNOWLEDGE, LAST_ACKS_SECONDS)
        finally:
            if self._began:
                self._common.endings.add([*self._acks.unfinished(), closed(self._common, self.me, end.reason)])
        await closing

    # Reading

    async def _read(self) -> None:
        while self.over is None:
            if self._acks.full or len(self._answers) >= ANSWERS_WAITING:
                self._room = self._loop.create_future()
                await self._room
                continue
            try:
                self._heard(await self._socket.receive())
            except BadFrame as bad:
                if bad.close_code is not None:
                    self.end(misbehaved(bad.close_code, bad.problem.code))
                else:
                    self._refuse(bad.problem, bad.n)

    def _heard(self, frame: ClientFrame) -> None:
        match frame:
            case Ack():
                self._acknowledge(frame, MessagesDelivered)
            case ReadFrame():
                self._acknowledge(frame, MessagesRead)
            case Ping():
                self._say(encode(Pong(n=frame.n)))
            case Authenticate():
                self._renewals.append(frame.token)
                self._errands.start(RENEW, self._renew)

    def _acknowledge(self, frame: Ack | ReadFrame, kind: Kind) -> None:
        self.session.window.acknowledge(frame.ids, self._loop.time())
        self._acks.add(Request(frame.n, kind, frame.ids))
        self._errands.start(ACKNOWLEDGE, self._acks.work)

    async def _renew(self) -> None:
        while self._renewals:
            try:
                self.who = await self._common.tokens.renewed(self._renewals.pop(0), self.who)
            except Problem as problem:
                self._refuse(problem, None)
            else:
                self._say(encode(Authenticated(expires_at=rfc3339(self.who.expires_at * 1000))))

    def _refuse(self, problem: Problem, n: int | None) -> None:
        self._say(error_frame(problem, str(self.me.session), n))

    def _count_strange(self) -> None:
        now = self._loop.time()
        if now - self._strange_since > STRANGE_SECONDS:
            self._strange, self._strange_since = 0, now
        self._strange += 1
        if self._strange > STRANGE_ACKS:
            self.end(FLOOD)

    def _let_read(self) -> None:
        """Read again. Nothing that the client failed to do meanwhile is held against it."""
        if self._room is not None:
            if not self._room.done():
                self._room.set_result(None)
            self._room = None
            self._deadline.excused = self._loop.time()

    # Writing

    def _say(self, frame: bytes) -> None:
        self._answers.append(frame)
        self._advance()

    def _receipts_came(self) -> None:
        self._telling.wake()
        self._advance()

    def _advance(self) -> None:
        """Start whatever there is to do now."""
        if self.opened_at is None or self.over is not None:
            return
        if self._answers or self.session.outbox or self._telling.frames:
            self._errands.start(WRITE, self._write)
        if self.session.wants():
            self._errands.start(READ_PAGES, self._read_pages)
        if self._telling.wanted:
            self._errands.start(TELL, self._tell)
        if self._room is not None and not self._acks.full and len(self._answers) < ANSWERS_WAITING:
            self._let_read()

    async def _write(self) -> None:
        """Answers first, then messages, then receipts, until there is nothing to write. Lets others have a turn now and
        then, since a socket that takes everything never makes it wait."""
        written = 0
        while frame := self._next_frame():
            await self._socket.send(frame[0])
            if frame[1] is not None:
                self.session.window.written(frame[1].message_id, self._loop.time())
            written += 1
            if not written % _BURST:
                await asyncio.sleep(0)
        self._advance()

    def _next_frame(self) -> tuple[bytes, MailboxRow | None] | None:
        if self._answers:
            return self._answers.pop(0), None
        if self.session.outbox:
            item = self.session.outbox.pop(0)
            cursor = self._common.cursors.write(self.me.user, self.me.device, item.position)
            if isinstance(item, CaughtUpAt):
                return caught_up_frame(cursor), None
            assert self._pages.keys is not None, "whatever is sent came after a page"
            named = self._common.names.renamed(item)
            return message_frame(self._pages.keys, self.me, named, cursor), item
        if self._telling.frames:
            return self._telling.frames.pop(0), None
        return None

    # Errands

    async def _read_pages(self) -> None:
        await self._pages.work(self._advance)

    async def _mark(self) -> None:
        await self._markers.work()
        self._advance()

    async def _tell(self) -> None:
        await self._telling.work()
        self._advance()

    async def _confirm(self) -> None:
        if await self._deadline.ask():
            self.end(ACK_TIMEOUT)
        self._advance()
