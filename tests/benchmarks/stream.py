"""A lean client of GET /messages/stream, for the same reason as `client`: what it costs is taken from the server."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import cast

import msgspec

_REQUEST = (
    "GET /messages/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: restante.v1\r\n"
    "Authorization: Bearer {token}\r\n\r\n"
)
_END_OF_HEAD = b"\r\n\r\n"
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_MASKED = 0x80
_NO_MASK = bytes(4)
_encode = msgspec.json.Encoder().encode


class Frame(msgspec.Struct):
    """What a benchmark needs to know of a frame."""

    type: str
    id: str = ""
    body: str = ""
    acknowledged: list[str] = []


_decode = msgspec.json.Decoder(Frame).decode
Heard = Callable[["Stream", Frame], None]


class Stream(asyncio.Protocol):
    """One socket. `heard` gets every frame as it comes; it must not raise."""

    def __init__(self, token: str, heard: Heard) -> None:
        self.closed: int | None = None
        self.opened = asyncio.get_running_loop().create_future()
        self._token, self._heard = token, heard
        self._received = bytearray()
        self._shaken = False
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, port: int, token: str, heard: Heard) -> Stream:
        """Connect and shake hands. RuntimeError where the service refuses."""
        _, made = await asyncio.get_running_loop().create_connection(lambda: cls(token, heard), "127.0.0.1", port)
        await made.opened
        return made

    def ack(self, n: int, ids: list[str]) -> None:
        """Send an acknowledgement."""
        self._send(_TEXT, _encode({"type": "ack", "n": n, "ids": ids}))

    def close(self) -> None:
        """Say goodbye and hang up."""
        if self._transport is not None and not self._transport.is_closing():
            self._send(_CLOSE, struct.pack("!H", 1000))
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by what it does, not by its class
        self._transport.write(_REQUEST.format(token=self._token).encode())

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._received += data
        if not self._shaken:
            self._shake()
        if self._shaken:
            self._frames()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self.closed = self.closed or 1006
        if not self.opened.done():
            self.opened.set_exception(ConnectionError("the server closed the connection"))

    def _shake(self) -> None:
        end = self._received.find(_END_OF_HEAD)
        if end < 0:
            return
        status = bytes(self._received[9:12])
        if status != b"101":
            self.opened.set_exception(RuntimeError(f"the stream was refused: {bytes(self._received[:300])!r}"))
            return
        del self._received[: end + len(_END_OF_HEAD)]
        self._shaken = True
        self.opened.set_result(None)

    def _frames(self) -> None:
        received, at = self._received, 0
        while len(received) - at >= 2:
            size, start = received[at + 1], at + 2
            if size == 126:
                start += 2
            elif size == 127:
                start += 8
            if len(received) < start:
                break
            if size >= 126:
                size = int.from_bytes(received[at + 2 : start], "big")
            if len(received) < start + size:
                break
            self._frame(received[at] & 0x0F, bytes(received[start : start + size]))
            at = start + size
        del received[:at]

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == _TEXT:
            self._heard(self, _decode(payload))
        elif opcode == _PING:
            self._send(_PONG, payload)
        elif opcode == _CLOSE:
            self.closed = int.from_bytes(payload[:2], "big")

    def _send(self, opcode: int, payload: bytes) -> None:
        """A masked frame; a mask of zeros leaves the payload as it is."""
        assert self._transport is not None
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 0x80 | opcode, _MASKED | size)
        elif size < 65536:
            head = struct.pack("!BBH", 0x80 | opcode, _MASKED | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, _MASKED | 127, size)
        self._transport.write(head + _NO_MASK + payload)
