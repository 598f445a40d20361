"""HTTP byte by byte, for what no HTTP library would send."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.acceptance.people import Device
from tests.acceptance.service import Service

_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as JSON."""
        content: dict[str, Any] = json.loads(self.body)
        return content


def exchange(service: Service, *parts: bytes, hang_up: bool = False) -> list[Reply]:
    """Send these bytes and give all answers until the service closes, or until we do where we are to `hang_up`."""
    where = urlsplit(service.url)
    with socket.create_connection((where.hostname or "", where.port or 80), _SECONDS) as connection:
        try:
            for part in parts:
                connection.sendall(part)
            if hang_up:
                connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it had heard enough
        return _replies(_all_of(connection))


def head(device: Device, *lines: str, first: str = "POST /messages HTTP/1.1", close: bool = True) -> bytes:
    """The head of a request with this device's token; the service closes after its answer unless told otherwise."""
    said = [first, "Host: localhost", f"Authorization: Bearer {device.token}", "Content-Type: application/json", *lines]
    return "\r\n".join([*said, *(["Connection: close"] if close else []), "", ""]).encode()


def _all_of(connection: socket.socket) -> bytes:
    came = b""
    while True:
        try:
            chunk = connection.recv(65536)
        except ConnectionResetError:
            return came
        if not chunk:
            return came
        came += chunk


def _replies(came: bytes) -> list[Reply]:
    replies = []
    while came:
        head, separator, came = came.partition(b"\r\n\r\n")
        assert separator, f"this is no HTTP answer: {head!r}"
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version in ("HTTP/1.1", "HTTP/1.0")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", len(came)))
        replies.append(Reply(int(status), headers, came[:length]))
        came = came[length:]
    return replies
