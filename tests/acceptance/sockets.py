"""One socket at GET /messages/stream in the hands of a test."""

from __future__ import annotations

import json
import socket
import struct
from collections import Counter
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.acceptance.people import Device

Frame = dict[str, Any]

SUBPROTOCOL = Subprotocol("restante.v1")
NO_CLOSE_FRAME = 1006
PATIENCE = 30.0
_ACK_EVERY = 50


def address(url: str, **query: str) -> str:
    """The stream of a service."""
    rest = f"?{urlencode(query)}" if query else ""
    return f"ws{url.removeprefix('http')}/messages/stream{rest}"


def bearer(device: Device) -> dict[str, str]:
    """How a device says who it is before the upgrade."""
    return {"Authorization": f"Bearer {device.token}"}


class Socket:
    """One session of a device. Nothing is done that the test does not say, but that pings are answered.

    `at` is the URL of an API process, by default the service's; `query` goes into the address.
    """

    def __init__(self, device: Device, *, at: str | None = None, **query: str) -> None:
        self._opened = connect(
            address(at or device.service.url, **query),
            subprotocols=[SUBPROTOCOL],
            additional_headers=bearer(device),
            compression=None,
            max_size=None,
            ping_interval=None,
            proxy=None,
            close_timeout=5,
        )
        self.connection = self._opened.__enter__()
        self.came: list[Frame] = []
        self._waiting: list[Frame] = []
        self._number = 0
        try:
            self.ready = self.take("ready")
        except BaseException:
            self.vanish()
            raise

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Say goodbye."""
        self._opened.__exit__(None, None, None)

    def take(self, *kinds: str, within: float = PATIENCE) -> Frame:
        """The next frame of one of these kinds; what comes before it of others is kept for their `take`."""
        for place, kept in enumerate(self._waiting):
            if kept["type"] in kinds:
                return self._waiting.pop(place)
        while True:
            try:
                frame: Frame = json.loads(self.connection.recv(within))
            except TimeoutError:
                raise AssertionError(f"no {kinds} frame within {within:g} s; came {self.kinds()}") from None
            except ConnectionClosed as closed:
                raise AssertionError(f"no {kinds} frame, but the end: {closed}; came {self.kinds()}") from None
            self.came.append(frame)
            if frame["type"] in kinds:
                return frame
            self._waiting.append(frame)

    def messages(self, count: int) -> list[Frame]:
        """The next messages."""
        return [self.take("message") for _ in range(count)]

    def backlog(self, *, ack: bool = True) -> list[Frame]:
        """All up to `caught_up`, by default acknowledged in parts as they come."""
        taken: list[Frame] = []
        acked = 0
        while (frame := self.take("message", "caught_up"))["type"] == "message":
            taken.append(frame)
            if ack and len(taken) - acked == _ACK_EVERY:
                self.ack(taken[acked:])
                acked = len(taken)
        if ack and taken[acked:]:
            self.ack(taken[acked:])
        return taken

    def say(self, **frame: Any) -> None:
        """Send a frame."""
        self.connection.send(json.dumps(frame))

    def tell(self, kind: str, frames: Sequence[Frame | str]) -> Frame:
        """`ack` or `read`, and the answer to it."""
        self._number += 1
        ids = [frame if isinstance(frame, str) else frame["id"] for frame in frames]
        self.say(type=kind, n=self._number, ids=ids)
        answer = self.take("acked")
        assert answer["n"] == self._number, answer
        return answer

    def ack(self, frames: Sequence[Frame | str]) -> Frame:
        """Acknowledge, and wait until the log has it."""
        return self.tell("ack", frames)

    def read(self, frames: Sequence[Frame | str]) -> Frame:
        """Say that they were read, and wait until the log has it."""
        return self.tell("read", frames)

    def closed(self, within: float = PATIENCE) -> tuple[int, str]:
        """Wait for the service to close; code and reason. Frames that come before are kept."""
        while True:
            try:
                self.came.append(json.loads(self.connection.recv(within)))
                self._waiting.append(self.came[-1])
            except TimeoutError:
                raise AssertionError(f"it was not closed within {within:g} s; came {self.kinds()}") from None
            except ConnectionClosed as closed:
                return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (NO_CLOSE_FRAME, "")

    def vanish(self) -> None:
        """Be gone at once, without a close frame: the connection is reset."""
        raw = self.connection.socket
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.shutdown(socket.SHUT_RDWR)
        self.close()

    def kinds(self) -> dict[str, int]:
        """How many frames of which kind came."""
        return dict(Counter(frame["type"] for frame in self.came))
