"""The stream's endpoint with a gateway that does what a test says, and tokens that are words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID, uuid4

from starlette.routing import WebSocketRoute

from api.app import App
from api.frames import Ack, Acked, BadFrame, ClientFrame, CloseCode, Ping, Pong, SocketClosed, encode, error_frame
from api.health import Phase
from api.limits import Limits
from api.ports import Socket
from api.problems import Code, Problem
from api.resource import Edge, Resource
from api.stream import PATH, Stream
from api.tokens import DeviceLabel, Principal
from api.web import Web
from producers.memory import MemoryLog
from tests.socket_rig import Site, listening

USER, DEVICE = uuid4(), uuid4()
PING_FRAME = b'{"type":"ping","n":1}'
_CODES: dict[str, Code] = {"old": "token_expired", "ended": "token_revoked"}


class Words:
    """Recognises the token `good`."""

    async def recognise(self, token: str, device: DeviceLabel) -> Principal:
        if token != "good":
            raise Problem(_CODES.get(token, "token_invalid"), "no")
        return Principal(USER, DEVICE, 4_000_000_000, 0)

    def check(self, principal: Principal) -> None:
        return None


class Nobody:
    """Keeps no book of who was seen."""

    def note(self, device: UUID) -> None:
        return None


async def answering(socket: Socket, seen: list[ClientFrame]) -> None:
    """Answer pings and acknowledgements, close for what is no frame, until the end."""
    while True:
        try:
            frame = await socket.receive()
        except BadFrame as bad:
            if bad.close_code is not None:
                await socket.close(bad.close_code, bad.problem.code)
                return
            await socket.send(error_frame(bad.problem, "test", bad.n))
            continue
        seen.append(frame)
        match frame:
            case Ping(n=n):
                await socket.send(encode(Pong(n=n)))
            case Ack(n=n, ids=ids):
                await socket.send(encode(Acked(n=n, acknowledged=[], already=[], unknown=ids)))


@dataclass
class Scripted:
    """A gateway that plays one script with every socket."""

    play: Callable[[Socket, list[ClientFrame]], Awaitable[None]] = answering
    served: list[tuple[Principal, int | None]] = field(default_factory=list)
    sockets: list[Any] = field(default_factory=list)
    seen: list[ClientFrame] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    async def serve(self, socket: Socket, principal: Principal, receipts_from: int | None = None) -> None:
        self.served.append((principal, receipts_from))
        self.sockets.append(socket)
        try:
            await self.play(socket, self.seen)
        except SocketClosed as closed:
            self.ends.append(closed.code)


@dataclass
class Rig:
    """What a test has in its hands."""

    site: Site
    gateway: Scripted
    log: MemoryLog
    phase: Phase


def receipt_position(user: UUID, cursor: str) -> int | None:
    """Cursors are `now` and numbers."""
    if cursor != "now" and not cursor.isdigit():
        raise Problem("bad_cursor", "no")
    return None if cursor == "now" else int(cursor)


@asynccontextmanager
async def streaming(*, web: Web | None = None, limits: Limits | None = None) -> AsyncIterator[Rig]:
    """The endpoint under a real server."""
    limits = limits or Limits(on=False)
    async with MemoryLog(2) as log:
        gateway, phase, tokens = Scripted(), Phase(), cast(Any, Words())
        edge = Edge(tokens, limits, cast(Any, Nobody()), web or Web())
        stream = Stream(
            edge=edge,
            limits=limits,
            gateway=gateway,
            log=log,
            phase=phase,
            receipt_position=receipt_position,
        )
        app = App(routes=[WebSocketRoute(PATH, stream)])
        app.router.default = Resource(edge, "unmatched", [])
        async with listening(app) as site:
            yield Rig(site, gateway, log, phase)


__all__ = ["DEVICE", "PING_FRAME", "USER", "CloseCode", "Rig", "Scripted", "Socket", "answering", "streaming"]
