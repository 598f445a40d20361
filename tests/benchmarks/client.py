"""A lean HTTP/1.1 client: what the load generator costs is taken from the server, they share the machine."""

from __future__ import annotations

import asyncio
from typing import cast

_END_OF_HEAD = b"\r\n\r\n"


def head(method: str, path: str, token: str = "") -> bytes:
    """A request up to the value of Content-Length, so that it is made once and used for many bodies."""
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    lines = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{authorization}Content-Type: application/json\r\nContent-Length: "
    )
    return lines.encode()


class Connection(asyncio.Protocol):
    """One kept-alive connection with one request in flight. Reads answers with a Content-Length, as both servers send."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._wanted = -1  # size of the whole answer, -1 until its head is there
        self._start = 0
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect to a port of this machine. OSError where nobody listens."""
        _, made = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return made

    async def ask(self, request_head: bytes, body: bytes = b"") -> tuple[int, bytes]:
        """Send a request, give status and body of the answer. ConnectionError where the server hangs up."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionError("the server closed the connection")
        self._answer = self._loop.create_future()
        self._transport.write(b"%b%d\r\n\r\n%b" % (request_head, len(body), body))
        return await self._answer

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by what it does, not by its class

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        received = self._received
        received += data
        if self._wanted < 0:
            end = received.find(_END_OF_HEAD)
            if end < 0:
                return
            self._start = end + 4
            self._wanted = self._start + _content_length(bytes(received[:end]).lower())
        if len(received) < self._wanted:
            return
        status, body = int(received[9:12]), bytes(received[self._start : self._wanted])
        received.clear()
        self._wanted = -1
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((status, body))

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server closed the connection"))


def _content_length(answer_head: bytes) -> int:
    at = answer_head.find(b"content-length:")
    return int(answer_head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
