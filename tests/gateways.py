"""A gateway on a virtual clock, with a log in memory, a mailbox that is its fold, and sockets without a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from api.cursors import Cursors
from api.frames import BadFrame, ClientFrame, ReceiptFrame, SocketClosed, decode
from api.gateway import Gateway, StreamOptions
from api.keys import AccountKeys
from api.problems import Problem
from api.sealing import TEXT, content_of, seal
from api.tokens import Principal
from producers.log import LogUnavailable
from producers.memory import MemoryLog
from producers.memory_tail import MemoryTail
from projections.errors import DatabaseUnavailable
from projections.reads import NO_FLOORS, Floors, Found, MailboxRow, Page
from schemas.events import EndReason, Fact, MessageStored, SessionClosed, SessionMarked, SessionOpened
from schemas.lifecycle import Message, Recipient, fold
from schemas.push import Push, PushedMessage, PushKind
from schemas.topics import PUSH
from tests.builders import ALICE, BOB, PHONE, an_id, registered, stored
from tests.simulation.loop import run

T = TypeVar("T")

EPOCH = 1_790_000_000.0
OPTIONS = StreamOptions(ack_timeout=15, heartbeat=25, lease=15, window=4, window_bytes=4000, sockets=3)
NAME = "gateway/1"
KEYS = AccountKeys(b"k" * 32)
EXPIRES = int(EPOCH) + 900
ME = Principal(BOB, PHONE, EXPIRES, 1)


def now() -> float:
    return EPOCH + asyncio.get_running_loop().time()


class FakeSocket:
    """`api.ports.Socket`; `say` is the client's side, `frames` is what it was sent. A `blocked` one takes nothing, a
    `deaf` one answers no ping."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self.heard = asyncio.get_running_loop().time()
        self.stuck_since: float | None = None
        self.pings = 0
        self.deaf = False
        self.blocked = asyncio.Event()
        self._inbound: asyncio.Queue[bytes | Exception] = asyncio.Queue()

    async def receive(self) -> ClientFrame:
        item = await self._inbound.get()
        if isinstance(item, Exception):
            raise item
        self.heard = asyncio.get_running_loop().time()
        return decode(item)

    async def send(self, frame: bytes) -> None:
        if self.blocked.is_set():
            await asyncio.get_running_loop().create_future()
        self.frames.append(msgspec.json.decode(frame))

    async def close(self, code: int, reason: str) -> None:
        if self.closed is None:
            self.closed = (code, reason)
            self._inbound.put_nowait(SocketClosed(code))

    def ping(self) -> None:
        self.pings += 1
        if not self.deaf:
            self.heard = asyncio.get_running_loop().time()

    def say(self, **frame: Any) -> None:
        """The client sends a frame."""
        self._inbound.put_nowait(msgspec.json.encode(frame))

    def breaks(self, error: BadFrame | SocketClosed) -> None:
        """The client sends what is none, or is gone."""
        self._inbound.put_nowait(error)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The frames of a type that came."""
        return [frame for frame in self.frames if frame["type"] == kind]

    @property
    def unread(self) -> int:
        """Frames of the client that the gateway has not taken."""
        return self._inbound.qsize()

    @property
    def is_open(self) -> bool:
        return self.closed is None

    @property
    def positions(self) -> list[int]:
        return [frame["position"] for frame in self.of("message")]


class FoldReads:
    """`api.ports.MailboxReads` and `MailboxProgress`: the log's fold, always up to date unless `away`."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self.away = False
        self.asked = 0

    def applied(self, partition: int) -> int:
        return len(self._log.records(partition))

    async def reached(self, partition: int, end: int, timeout: float) -> None:
        assert self.applied(partition) >= end

    async def page(
        self,
        user: UUID,
        device: UUID,
        *,
        after: int,
        limit: int,
        max_bytes: int,
        floors: Floors = NO_FLOORS,
        counted: bool = True,
    ) -> Page:
        await self._look()
        markers = [at for at, one in enumerate(self._log.records(0)) if isinstance(one.fact, SessionOpened | SessionMarked)]
        assert floors[0] > markers[0], "asked of a projection that need not have the session's marker"
        above = [message for message in self._state().mailbox(device) if message.position > after]
        rows = [self._row(message) for message in above[:limit]]
        return Page(rows=rows, has_more=len(above) > len(rows), pending=0)

    async def outstanding(self, user: UUID, device: UUID, ids: Sequence[UUID], *, floors: Floors = NO_FLOORS) -> list[Found]:
        await self._look()
        known = self._state().messages
        return [_found(known[one], device) for one in ids if one in known]

    async def stragglers(
        self, users: Sequence[UUID], devices: Sequence[UUID], after: Sequence[int], *, stored_before_ms: int
    ) -> list[UUID]:
        await self._look()
        return [
            device
            for device, position in zip(devices, after, strict=True)
            if any(
                message.position > position and message.stored.at_ms < stored_before_ms
                for message in self._state().mailbox(device)
            )
        ]

    async def _look(self) -> None:
        self.asked += 1
        await asyncio.sleep(0.001)
        if self.away:
            raise DatabaseUnavailable("away")

    def _state(self) -> Recipient:
        return fold(self._log.records(0))

    def _row(self, message: Message) -> MailboxRow:
        fact = self._log.records(0)[message.position].fact
        assert isinstance(fact, MessageStored)
        return MailboxRow(
            message_id=fact.message_id,
            sender=fact.sender,
            sender_name="alice",
            sealed=fact.sealed,
            stored_at_ms=message.stored.at_ms,
            position=message.position,
            status=message.status,
        )


class FakeReceipts:
    """`api.ports.ReceiptSource`: whatever a test puts in."""

    def __init__(self) -> None:
        self.frames: list[ReceiptFrame] = []
        self.silent = False
        self._wakes: list[Callable[[], None]] = []

    def put(self, frame: ReceiptFrame) -> None:
        self.frames.append(frame)
        for wake in self._wakes:
            wake()

    async def now(self, user: UUID) -> int:
        await asyncio.sleep(0.001)
        if self.silent:
            raise LogUnavailable("rejected", "silent")
        return len(self.frames) - 1

    async def after(self, user: UUID, position: int, limit: int) -> Sequence[tuple[int, ReceiptFrame]]:
        return list(enumerate(self.frames))[position + 1 :][:limit]

    @contextmanager
    def watch(self, user: UUID, wake: Callable[[], None]) -> Iterator[None]:
        self._wakes.append(wake)
        yield
        self._wakes.remove(wake)


class World:
    """One gateway with everything around it. Bob's phone is registered at position 0 of the only partition."""

    def __init__(self) -> None:
        self.log = MemoryLog(1, clock=lambda: int(now() * 1000))
        self.reads = FoldReads(self.log)
        self.receipts = FakeReceipts()
        self.tokens: Mapping[str, Principal] = {}
        self.gateway = Gateway(
            log=self.log,
            pushes=MemoryTail(self.log, PUSH, partition=0, start="end"),
            reads=self.reads,
            progress=self.reads,
            keys=self,
            tokens=self,
            cursors=Cursors([b"c" * 32]),
            receipts=self.receipts,
            options=OPTIONS,
            producer=NAME,
            name=NAME,
            push_partition=0,
            clock=now,
        )
        self._serving: list[asyncio.Task[None]] = []

    async def keys_of(self, user_id: UUID) -> AccountKeys | None:
        return KEYS if user_id == BOB else None

    async def renewed(self, token: str, who: Principal) -> Principal:
        fresh = self.tokens.get(token)
        if fresh is None or (fresh.user, fresh.device) != (who.user, who.device):
            raise Problem("token_invalid", "no")
        return fresh

    def connect(self, who: Principal = ME, receipts_from: int | None = None) -> FakeSocket:
        """A socket that the gateway serves from now on."""
        socket = FakeSocket()
        self._serving.append(asyncio.create_task(self.gateway.serve(socket, who, receipts_from)))
        return socket

    async def connected(self, who: Principal = ME, receipts_from: int | None = None) -> FakeSocket:
        """A socket that has caught up."""
        socket = self.connect(who, receipts_from)
        await until(lambda: socket.of("caught_up"))
        return socket

    async def store(self, number: int, body: str = "hello") -> int:
        """A message to Bob; its position. Nobody pushes it."""
        content = content_of(TEXT, "text/plain", body.encode())
        sealed = seal(KEYS, an_id("msg", number), ALICE, BOB, content)
        return (await self.log.append(stored(number, sealed=sealed, event_id=an_id("evst", number)))).offset

    async def push(self, number: int, position: int, before: int, epoch: int | None = None) -> None:
        """The processor pushes a stored message to the latest session."""
        fact = self.facts()[position]
        assert isinstance(fact, MessageStored)
        message = PushedMessage(
            message_id=fact.message_id,
            sender=fact.sender,
            position=position,
            stored_at_ms=int(now() * 1000),
            sealed=fact.sealed,
        )
        await self.order(PushKind.MESSAGE, epoch=epoch, predecessor=before, message=message)

    async def send(self, number: int, before: int) -> int:
        """A message that is stored and pushed; its position."""
        position = await self.store(number)
        await self.push(number, position, before)
        return position

    async def order(
        self, kind: PushKind, *, epoch: int | None = None, session: UUID | None = None, gateway: str = NAME, **more: Any
    ) -> None:
        """What a processor tells the gateway about the latest session, or another one."""
        opened = self.all(SessionOpened)[-1]
        order = Push(
            event_id=an_id("push", 1),
            producer="processor/1",
            kind=kind,
            gateway=gateway,
            recipient=BOB,
            session_id=session or opened.session_id,
            device_id=opened.device_id,
            epoch=self.epoch() if epoch is None else epoch,
            **more,
        )
        await self.log.append(order, partition=0)

    def facts(self) -> list[Fact]:
        return [recorded.fact for recorded in self.log.records(0)]

    def all(self, kind: type[T]) -> list[T]:
        return [fact for fact in self.facts() if isinstance(fact, kind)]

    def epoch(self) -> int:
        """The position of the latest marker."""
        return max(at for at, fact in enumerate(self.facts()) if isinstance(fact, SessionOpened | SessionMarked))

    def ends(self) -> list[EndReason]:
        return [fact.reason for fact in self.all(SessionClosed)]

    async def over(self) -> None:
        """Wait until every socket has been served."""
        await asyncio.gather(*self._serving)


@asynccontextmanager
async def running() -> AsyncIterator[World]:
    """A gateway at work. At the end everything is closed in order, and every session has its end in the log."""
    world = World()
    await world.log.append(registered())
    async with world.gateway:
        yield world
    await world.over()


async def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Let virtual time pass until this is so."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        assert loop.time() < deadline, "not in time"
        await asyncio.sleep(0.01)


def someone_else(number: int) -> Principal:
    """Bob on another device."""
    return replace(ME, device=an_id("dev", number))


def _found(message: Message, device: UUID) -> Found:
    return Found(
        message_id=message.message_id,
        position=message.position,
        sender=message.sender,
        delivered_to_device=device in message.deliveries,
        read=message.read is not None,
    )


def on_a_gateway(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    """Run a test with a gateway at work."""

    @wraps(test)
    def played() -> None:
        async def work() -> None:
            async with running() as world:
                await test(world)

        run(work())

    del played.__wrapped__  # its argument is no fixture
    return played


def ids(*numbers: int) -> list[str]:
    return [str(an_id("msg", number)) for number in numbers]
