"""Readers that no WebSocket library would be: slow, stalled, or silently gone. Bytes are taken from the socket at a pace."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from tests.acceptance.people import Device
from tests.acceptance.sockets import SUBPROTOCOL, address, bearer
from tests.eventually import soon

_RECEIVE_BUFFER = 16 * 1024
_CHUNKS_A_SECOND = 20
_HANDSHAKE_SECONDS = 30.0


class Reader:
    """A device whose line is thin: takes `bytes_per_second` from the `with` block's start on; None: not one byte.

    It answers nothing where it is `mute`: no pong, no acknowledgement, as if it had vanished without a word. Else it
    acknowledges what it has read. `positions` and `bodies` are what it read, `sessions` how often it had to connect.
    """

    def __init__(self, device: Device, bytes_per_second: float | None, *, mute: bool = False) -> None:
        self.positions: list[int] = []
        self.bodies: list[str] = []
        self.caught_up = 0
        self.closed = False
        self.failure: BaseException | None = None
        self._rate, self._mute, self._number = bytes_per_second, mute, 0
        where = urlsplit(device.service.url)
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._socket.settimeout(_HANDSHAKE_SECONDS)
        self._socket.connect((where.hostname or "", where.port or 80))
        self._protocol = ClientProtocol(parse_uri(address(device.service.url)), subprotocols=[SUBPROTOCOL], max_size=None)
        request = self._protocol.connect()
        request.headers.update(bearer(device))
        self._protocol.send_request(request)
        self._flush()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._take(self._socket.recv(256))

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._socket.close()
        self._thread.join(20)
        if self.failure is not None and kind is None:
            raise self.failure

    def until(self, condition: Callable[[], object], within: float, what: str) -> None:
        """Wait for a condition, or for the failure of this reader."""
        soon(lambda: self.failure or condition(), within, what)
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            if self._rate is None:
                self._over.wait()
                return
            pause, turn = max(1 / _CHUNKS_A_SECOND, 1 / self._rate), time.monotonic()
            while not self._over.wait(max(0.0, turn - time.monotonic())):
                turn = max(turn + pause, time.monotonic() - 1.0)  # what it was late for is made up for, a second at most
                if not self._read(max(1, round(self._rate / _CHUNKS_A_SECOND))):
                    self.closed = True
                    return
        except OSError:
            self.closed = True
        except BaseException as failure:
            self.failure = failure

    def _read(self, size: int) -> bool:
        """Take so many bytes, or what there is; False at the end."""
        self._socket.settimeout(1.0)
        while size > 0:
            try:
                came = self._socket.recv(min(size, 65536))
            except TimeoutError:
                return True
            if not came:
                return False
            size -= len(came)
            self._take(came)
        return True

    def _take(self, came: bytes) -> None:
        self._protocol.receive_data(came)
        ids = []
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                assert event.status_code == 101, event
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                ids += self._understand(json.loads(bytes(event.data)))
        if ids:
            self._number += 1
            self._protocol.send_text(json.dumps({"type": "ack", "n": self._number, "ids": ids}).encode())
        self._flush()

    def _understand(self, frame: dict[str, Any]) -> list[str]:
        """Note a frame; the id to acknowledge, if it has one."""
        if frame["type"] == "caught_up":
            self.caught_up += 1
        if frame["type"] != "message":
            return []
        self.positions.append(frame["position"])
        self.bodies.append(frame["body"])
        return [frame["id"]]

    def _flush(self) -> None:
        """Send what is to be said, also pongs; whoever is mute says no more than the request."""
        for data in self._protocol.data_to_send():
            if data and (not self._mute or self._protocol.state.name == "CONNECTING"):
                self._socket.sendall(data)
