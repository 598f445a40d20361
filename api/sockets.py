"""WebSockets under uvicorn, bounded on both sides, with what a gateway must know of them: when a peer was last heard, and
since when it takes nothing.

uvicorn's protocol class does the handshake; from then on the connection is driven from here. What differs from uvicorn's:
- at most one read of the kernel's (64 KiB and what came with it) waits unparsed, and one message parsed;
- pings are answered by one pong at a time (RFC 6455, 5.5.3 allows it), none while the peer takes nothing, and a flood ends
  the connection;
- every way to close it ends within CLOSE_SECONDS, by force if need be; the peer gets to read why (closing at once, with data
  of the peer unread, would reset the connection and take our close frame with it);
- no timer, no ping of its own: the gateway owns the clocks.
"""

import asyncio
import socket
from asyncio import BaseTransport, TimerHandle
from collections import deque
from typing import Any, Final, cast

import structlog
from uvicorn._types import ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN

from api.frames import BadFrame, CloseCode, SocketClosed
from api.problems import Problem
from api.wire import NOWHERE, Wire, broken

EXTENSION: Final = "restante.connection"
"""Where the ASGI scope's extensions hold the `Connection`."""

CLOSE_SECONDS: Final = 2.0
SEND_BUFFER_BYTES: Final = 262_144
"""What the kernel keeps for a peer that does not read; by itself it would take up to 4 MB."""

_SLICE: Final = 4096
_TURNS: Final = 16
_UNPARSED: Final = 65_536
_FRAGMENTS: Final = 1024
PINGS: Final = 100
PINGS_SECONDS: Final = 10.0

_ABNORMAL: Final = 1006
_log = structlog.get_logger("restante.api")


class Pace:
    """So many in so many seconds, and a flood beyond that."""

    __slots__ = ("_amount", "_count", "_seconds", "_since")

    def __init__(self, amount: int, seconds: float) -> None:
        self._amount = amount
        self._seconds = seconds
        self._since = 0.0
        self._count = 0

    def exceeded(self, now: float) -> bool:
        """Count one more. True where that is too many."""
        if now - self._since > self._seconds:
            self._since, self._count = now, 0
        self._count += 1
        return self._count > self._amount


class Connection(WebSocketsSansIOProtocol):
    """One peer. The ASGI application accepts or refuses it as any other, finds this object in `scope["extensions"]`
    under EXTENSION, and uses the public methods from then on. One task may receive, another send."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = NOWHERE
        self.conn: Wire = Wire()
        self.ping_interval = None
        self.heard = self.loop.time()
        self._unparsed = bytearray()
        self._received: deque[bytes | BadFrame] = deque()
        self._asked: asyncio.Future[None] | None = None
        self._over: int | None = None
        self._gone = asyncio.Event()
        self._force: TimerHandle | None = None
        self._pings = Pace(PINGS, PINGS_SECONDS)
        self._turns = 0
        self._written = 0
        self._taken = 0
        self._taken_at = self.heard

    # What the application uses

    async def receive_text(self) -> bytes:
        """The next text message, in UTF-8. Raises `BadFrame` for what is none, and `SocketClosed` at the end; what came
        before the end is given first, except where we closed. One who sends many at once does not keep others waiting."""
        self._turns += 1
        if self._turns % _TURNS == 0:
            await asyncio.sleep(0)
        while True:
            self._parse()
            if self._received:
                item = self._received.popleft()
                if isinstance(item, BadFrame):
                    raise item
                return item
            if self._over is not None:
                raise SocketClosed(self._over)
            if self.disconnected:
                raise SocketClosed(_ABNORMAL)
            self._asked = self.loop.create_future()
            await self._asked

    async def send_text(self, text: bytes) -> None:
        """Hand over one text message, in UTF-8, once the peer has taken enough of what waits. Raises `SocketClosed`."""
        await self.writable.wait()
        if self._over is not None or self.disconnected:
            raise SocketClosed(self._over or _ABNORMAL)
        self.conn.send_text(text)
        self._flush()

    def send_ping(self) -> None:
        """Ping the peer, unless so much waits for it already that it would not notice."""
        if self._over is None and not self.disconnected and self.writable.is_set():
            self.conn.send_ping(b"restante")
            self._flush()

    async def close(self, code: int, reason: str) -> None:
        """Close, and return when the connection is gone: within CLOSE_SECONDS. Safe to call again."""
        self._close(code, reason)
        await self._gone.wait()

    @property
    def stuck_since(self) -> float | None:
        """Loop time since when bytes wait here and the peer has taken none of them; None where none wait. Exact to the
        time between two looks."""
        if self.disconnected:
            return None
        waiting = self.transport.get_write_buffer_size()
        if not waiting:
            return None
        if self._written - waiting > self._taken:
            self._taken, self._taken_at = self._written - waiting, self.loop.time()
        return self._taken_at

    # What the transport calls

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        kernel = transport.get_extra_info("socket")
        if kernel is not None and kernel.family in (socket.AF_INET, socket.AF_INET6):
            kernel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        self.heard = self.loop.time()
        if not self.handshake_initiated:
            super().data_received(data)
            if not self.handshake_initiated:  # it has a refusal to send, and uvicorn overlooks that
                self.handshake_initiated = self.handshake_complete = True
                self._flush()
                self._end()
            return
        if self.conn.has_failed():
            return  # read on, so that the peer can read why it ended
        self._unparsed += data
        self._parse()
        if len(self._unparsed) > _UNPARSED and not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._force is not None:
            self._force.cancel()
        self._gone.set()
        self._wake()

    def shutdown(self) -> None:
        """The server stops. A handshake under way is the application's to answer: it knows that it stops."""
        if self.handshake_complete:
            self._close(CloseCode.RESTART, "gateway_restart")

    # The handshake

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            extensions = cast(dict[str, Any], self.scope["extensions"])
            extensions[EXTENSION] = self

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.accept":
            self._parse()

    # What comes in

    def _parse(self) -> None:
        """Go on with what was read until a message is whole. The peer's end is seen in its turn."""
        if not self.handshake_complete:
            return
        while self._unparsed and not self._received and not self.conn.has_failed():
            piece = bytes(self._unparsed[:_SLICE])
            del self._unparsed[:_SLICE]
            self.conn.receive_data(piece)
            for event in self.conn.events_received():
                self._take(cast(Frame, event))
            self._flush()
            if self.conn.has_failed():
                self._failed()
        if self._received or self._over is not None:
            self._wake()
        if self.read_paused and not self._unparsed:
            self.read_paused = False
            self.transport.resume_reading()

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            self._closed_by_peer()
        elif self._over is not None or frame.opcode is Opcode.PONG:
            return
        elif frame.opcode is Opcode.PING:
            if self._pings.exceeded(self.heard):
                self._put(BadFrame(CloseCode.TOO_MANY, Problem("rate_limited", "These are too many pings.")))
        else:
            self._take_data(frame)

    def _take_data(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            self.curr_msg_data_type = "text" if frame.opcode is Opcode.TEXT else "bytes"
        self.frames.append(bytes(frame.data))
        if not frame.fin:
            if len(self.frames) >= _FRAGMENTS:
                self._put(broken(CloseCode.TOO_LARGE))
            return
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.curr_msg_data_type == "bytes":
            self._put(BadFrame(CloseCode.BINARY, Problem("unsupported_media_type", "Frames are text: JSON in UTF-8.")))
        elif not _is_utf8(data):
            self._put(broken(CloseCode.NOT_UTF8))
        else:
            self._put(data)

    def _put(self, item: bytes | BadFrame) -> None:
        """Nothing follows what must end the connection."""
        if not (self._received and isinstance(self._received[-1], BadFrame)):
            self._received.append(item)

    def _failed(self) -> None:
        """The library has given up on what the peer sends, and has written a close frame."""
        sent = self.conn.close_sent
        code = sent.code if sent is not None else CloseCode.FAULT
        if code == CloseCode.FAULT:
            _log.error("socket_fault", error=type(self.conn.parser_exc).__name__)
        self._unparsed.clear()
        if self._over is None:
            self._put(broken(code))
            self._over = int(code)
        if not self.disconnected and not self.transport.is_closing():
            self.transport.write_eof()
        self._linger()

    def _closed_by_peer(self) -> None:
        if self._over is None:
            said = self.conn.close_rcvd
            self._over = said.code if said is not None else _ABNORMAL
        self._flush()
        self._end()

    def _wake(self) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(None)

    # What goes out

    def _flush(self) -> None:
        """Write what the library has for the peer, and one pong if the peer takes it."""
        if self.writable.is_set():
            self.conn.answer_ping()
        data = b"".join(self.conn.data_to_send())
        if not data or self.disconnected or self.transport.is_closing():
            return
        if not self.transport.get_write_buffer_size():
            self._taken, self._taken_at = self._written, self.loop.time()
        self._written += len(data)
        self.transport.write(data)

    def _close(self, code: int, reason: str) -> None:
        if self.disconnected:
            return
        if self._over is None:
            self._over = int(code)
            self._received.clear()
            if self.conn.state is OPEN:
                self.conn.send_close(code, reason)
            self._flush()
            self._wake()
        self._linger()

    def _linger(self) -> None:
        """We have said that it is over. Read on, so that the peer's answer is taken, but not for long."""
        self.close_sent = True
        if self.disconnected:
            return
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self._by_force()

    def _end(self) -> None:
        """Both have said so, or there is nothing to say: close once what waits is written, but not later than soon."""
        self.close_sent = True
        if not self.disconnected:
            self.transport.close()
            self._by_force()

    def _by_force(self) -> None:
        if self._force is None:
            self._force = self.loop.call_later(CLOSE_SECONDS, self.transport.abort)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
