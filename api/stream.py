"""GET /messages/stream until a gateway takes over: who may connect, the token where it comes in the first frame, and the
socket as the gateway uses it."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Final, Protocol
from uuid import UUID

from starlette.types import Receive, Scope, Send

from api import bounds
from api.calls import Answer, Call
from api.frames import SUBPROTOCOL, Authenticate, BadFrame, ClientFrame, CloseCode, Ping, SocketClosed, decode
from api.health import Phase
from api.limits import Limits, address_of
from api.models import ReceiptCursor, Strict
from api.ports import Socket
from api.problems import Code, Problem
from api.resource import Edge, internal_error, refuse_upgrade, report
from api.sockets import EXTENSION, Connection, Pace
from api.tokens import Principal
from producers.log import EventLog
from schemas.metrics import HTTP_REQUESTS, SOCKETS

PATH: Final = "/messages/stream"
TOKEN_SECONDS: Final = 5.0
"""For so long a socket without a token may stay."""

CHATTER: Final = 100
CHATTER_SECONDS: Final = 10.0
"""Frames that move nothing: pings, renewed tokens, and what is not valid."""

_CLOSE_CODES: Final[dict[Code, CloseCode]] = {
    "token_missing": CloseCode.TOKEN,
    "token_invalid": CloseCode.TOKEN,
    "token_expired": CloseCode.TOKEN,
    "token_revoked": CloseCode.TOKEN,
    "signup_closed": CloseCode.TOKEN,
    "invalid_request": CloseCode.NOT_A_FRAME,
    "rate_limited": CloseCode.TOO_MANY,
    "bad_cursor": CloseCode.NOT_A_FRAME,
    "gateway_restart": CloseCode.RESTART,
}


class StreamQuery(Strict):
    """Query of GET /messages/stream."""

    receipts_from: ReceiptCursor = ""


class Sessions(Protocol):
    """Takes over an authenticated socket (`api.gateway.Gateway`)."""

    async def serve(self, socket: Socket, principal: Principal, receipts_from: int | None = None) -> None:
        """The whole life of the socket; returns when it is over."""


class FrameSocket:
    """`api.ports.Socket` on a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._chatter = Pace(CHATTER, CHATTER_SECONDS)

    async def receive(self) -> ClientFrame:
        text = await self._connection.receive_text()
        try:
            frame = decode(text)
        except BadFrame as bad:
            if bad.close_code is None:
                self._count_chatter()
            raise
        if isinstance(frame, Ping | Authenticate):
            self._count_chatter()
        return frame

    async def send(self, frame: bytes) -> None:
        await self._connection.send_text(frame)

    async def close(self, code: int, reason: str) -> None:
        await self._connection.close(code, reason)

    def ping(self) -> None:
        self._connection.send_ping()

    @property
    def heard(self) -> float:
        return self._connection.heard

    @property
    def stuck_since(self) -> float | None:
        return self._connection.stuck_since

    def _count_chatter(self) -> None:
        if self._chatter.exceeded(monotonic()):
            said = f"Over {CHATTER} frames that move nothing in {CHATTER_SECONDS:g} s."
            raise BadFrame(CloseCode.TOO_MANY, Problem("rate_limited", said))


class Stream:
    """The endpoint, as an ASGI application. `receipt_position` reads a receipt cursor of a user (None for `now`) and raises
    `Problem` bad_cursor."""

    def __init__(
        self,
        *,
        edge: Edge,
        limits: Limits,
        gateway: Sessions,
        log: EventLog,
        phase: Phase,
        receipt_position: Callable[[UUID, str], int | None],
    ) -> None:
        self._edge = edge
        self._limits = limits
        self._gateway = gateway
        self._log = log
        self._phase = phase
        self._receipt_position = receipt_position
        self._strangers: Counter[str] = Counter()

    async def plain(self, call: Call) -> Answer:
        """GET /messages/stream without an upgrade."""
        raise Problem("upgrade_required", f"Connect here by WebSocket, with the subprotocol {SUBPROTOCOL}.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Accept one WebSocket, or refuse it with a problem."""
        call = Call(scope, receive, self._edge.request_id())
        try:
            visitor = await self._admitted(call)
        except Exception as error:  # a refusal, or a fault of ours
            problem = error if isinstance(error, Problem) else internal_error(error, PATH, call.request_id)
            _count(problem.status)
            await refuse_upgrade(scope, send, problem, call.request_id, self._edge.web)
            return
        accepted = [(b"x-request-id", call.request_id.encode())]
        try:
            await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL, "headers": accepted})
            _count(101)
            with SOCKETS.track_inprogress():
                await self._hold(FrameSocket(scope["extensions"][EXTENSION]), visitor, call.request_id)
        finally:
            self._no_stranger(visitor)

    async def _admitted(self, call: Call) -> "_Visitor":
        """Everything that can be said before the upgrade. Raises `Problem`."""
        self._edge.web.admit(call.scope)
        if self._phase.draining.is_set():
            raise _stopping()
        self._limits.request_from(address_of(call.scope))
        if not self._edge.web.welcomes(call.scope):
            raise Problem("foreign_origin", "Web pages of other sites may not connect here.")
        if SUBPROTOCOL not in call.scope["subprotocols"]:
            raise Problem("subprotocol_missing", f"Ask for it: Sec-WebSocket-Protocol: {SUBPROTOCOL}.")
        visitor = _Visitor(call.query(StreamQuery).receipts_from)
        if call.header(b"authorization") is not None:
            await self._edge.authorise(call)
            self._welcome(visitor, call.principal)
        else:
            self._admit_stranger(visitor, address_of(call.scope))
        return visitor

    def _admit_stranger(self, visitor: "_Visitor", address: str) -> None:
        """Room for one whose token is yet to come: few, because each of them costs memory. Raises `Problem`."""
        if self._strangers.total() >= bounds.STRANGERS or self._strangers[address] >= bounds.STRANGERS_EACH:
            said = "Too many sockets wait for their token. Send it with the request, or try again after Retry-After."
            raise Problem("rate_limited", said)
        self._strangers[address] += 1
        visitor.address = address

    def _no_stranger(self, visitor: "_Visitor") -> None:
        """He has said who he is, or has gone."""
        if visitor.address is not None:
            self._strangers[visitor.address] -= 1
            if not self._strangers[visitor.address]:
                del self._strangers[visitor.address]
            visitor.address = None

    def _welcome(self, visitor: "_Visitor", who: Principal) -> None:
        """What can be asked once we know who it is. Raises `Problem`."""
        self._limits.request(who.user.int)
        if visitor.asked:
            visitor.receipts_from = self._receipt_position(who.user, visitor.asked)
        if not self._log.healthy:
            raise Problem("log_unavailable", "No session can begin while the log is away. Sync with stale=ok meanwhile.")
        visitor.who = who

    async def _hold(self, socket: FrameSocket, visitor: "_Visitor", request_id: str) -> None:
        """From the upgrade to the end of the connection."""
        code, reason = CloseCode.FAULT, "internal_error"
        try:
            with suppress(SocketClosed):
                await self._serve(socket, visitor)
        except Problem as problem:
            code, reason = _CLOSE_CODES.get(problem.code, CloseCode.FAULT), problem.code
        except Exception as error:  # whatever it is, the client gets a close code and the operator a line
            report(error, PATH, request_id)
        finally:
            await socket.close(code, reason)

    async def _serve(self, socket: FrameSocket, visitor: "_Visitor") -> None:
        if visitor.who is None:
            try:
                first = await _first_frame(socket)
            except BadFrame as bad:
                await socket.close(
                    bad.close_code or CloseCode.TOKEN, bad.problem.code if bad.close_code else "token_missing"
                )
                return
            self._welcome(visitor, await self._edge.recognise(first.token, lambda: first.device))
            self._no_stranger(visitor)
        if self._phase.draining.is_set():
            raise _stopping()
        assert visitor.who is not None
        await self._gateway.serve(socket, visitor.who, visitor.receipts_from)


@dataclass(slots=True)
class _Visitor:
    """Who connects, as far as it is known yet, and the receipt cursor as given. `address` is that of a stranger."""

    asked: str
    address: str | None = None
    who: Principal | None = None
    receipts_from: int | None = None


async def _first_frame(socket: FrameSocket) -> Authenticate:
    """The first frame, with the token. Raises `Problem` where there is none, `BadFrame` and `SocketClosed`."""
    try:
        async with asyncio.timeout(TOKEN_SECONDS):
            frame = await socket.receive()
    except TimeoutError as error:
        raise Problem("token_missing", f"No token came within {TOKEN_SECONDS:g} s.") from error
    if not isinstance(frame, Authenticate):
        raise Problem("token_missing", "The first frame must be authenticate.")
    return frame


def _stopping() -> Problem:
    return Problem("gateway_restart", "This process is stopping. Connect again in a moment.")


def _count(status: int) -> None:
    HTTP_REQUESTS.labels(route=PATH, method="GET", status=str(status)).inc()
