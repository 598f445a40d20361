"""A real uvicorn on a real port around one ASGI app, and clients for it: the `websockets` library, and bare TCP."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from api.connections import Doors
from api.frames import SUBPROTOCOL
from deploy.serving import server
from tests.eventually import eventually

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[Site]:
    """Serve the app as the role `api` does."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        serving = server(app, "127.0.0.1", port)
        task = asyncio.create_task(serving.serve(sockets=[bound]))
        await eventually(lambda: serving.started)
        site = Site(port, serving.doors)
        try:
            yield site
        finally:
            serving.should_exit = True
            await task


class Site:
    """Where it listens."""

    def __init__(self, port: int, doors: Doors) -> None:
        self.port = port
        self.doors = doors

    def client(self, query: str = "", *, token: str | None = None, **more: Any) -> connect:
        """A client of the stream, from the `websockets` library; `token` goes into the header."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        settings = {"subprotocols": [SUBPROTOCOL], "additional_headers": headers, "ping_interval": None, "proxy": None}
        return connect(f"ws://127.0.0.1:{self.port}/messages/stream{query}", **{**settings, **more})

    @asynccontextmanager
    async def raw(self, *, token: str | None = None, **more: Any) -> AsyncIterator[Raw]:
        """A client that says exactly what it is told to, after the upgrade."""
        async with Raw(self.port, **more) as raw:
            lines = [f"Authorization: Bearer {token}"] if token else []
            head = await raw.upgrade(*lines)
            assert head.startswith(b"HTTP/1.1 101 "), head + await raw.reader.read()
            yield raw


class Raw:
    """A TCP connection that speaks HTTP and WebSocket by hand. `receive_buffer` bounds what the kernel takes for it."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self._port = port
        self._receive_buffer = receive_buffer

    async def __aenter__(self) -> Self:
        kernel = socket.socket()
        if self._receive_buffer is not None:
            kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        kernel.setblocking(False)
        await asyncio.get_running_loop().sock_connect(kernel, ("127.0.0.1", self._port))
        limit = self._receive_buffer or 65_536
        self.reader, self.writer = await asyncio.open_connection(sock=kernel, limit=limit)
        return self

    async def __aexit__(self, *failure: object) -> None:
        self.writer.transport.abort()
        with suppress(OSError):
            await self.writer.wait_closed()

    async def upgrade(
        self, *lines: str, path: str = "/messages/stream", key: str | None = "AAAAAAAAAAAAAAAAAAAAAA=="
    ) -> bytes:
        """Send a handshake; the head of the answer."""
        head = [
            f"GET {path} HTTP/1.1",
            "Host: restante.test",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Protocol: {SUBPROTOCOL}",
            *([f"Sec-WebSocket-Key: {key}"] if key else []),
            *lines,
        ]
        self.writer.write(("\r\n".join(head) + "\r\n\r\n").encode())
        return await self.reader.readuntil(b"\r\n\r\n")

    def say(self, opcode: int, data: bytes = b"", *, fin: bool = True, masked: bool = True) -> None:
        """One WebSocket frame, whatever is in it."""
        self.writer.write(frame(opcode, data, fin=fin, masked=masked))

    async def hear(self) -> tuple[int, bytes]:
        """The next frame of the server."""
        first, second = await self.reader.readexactly(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 0x0F, await self.reader.readexactly(length)

    async def closed(self, *, answer: bool = True) -> tuple[int, str]:
        """Code and reason of the server's close frame, which is answered; what comes before it is passed over."""
        while True:
            opcode, data = await self.hear()
            if opcode == CLOSE:
                if answer:
                    self.say(CLOSE, data)
                return int.from_bytes(data[:2]), data[2:].decode()

    async def ended(self) -> bool:
        """Whether the server ends the connection; waits for it."""
        with suppress(ConnectionResetError):
            while await self.reader.read(65_536):
                pass
        return True


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, masked: bool = True) -> bytes:
    """The bytes of a WebSocket frame."""
    head = bytes([(0x80 if fin else 0) | opcode])
    mask_bit = 0x80 if masked else 0
    if len(data) < 126:
        head += bytes([mask_bit | len(data)])
    elif len(data) < 65_536:
        head += bytes([mask_bit | 126]) + struct.pack("!H", len(data))
    else:
        head += bytes([mask_bit | 127]) + struct.pack("!Q", len(data))
    if not masked:
        return head + data
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))


async def close_of(client: ClientConnection) -> tuple[int | None, str | None]:
    """Code and reason with which the server closes; what it says before is passed over."""
    with suppress(ConnectionClosed):
        while True:
            await client.recv()
    return client.close_code, client.close_reason
