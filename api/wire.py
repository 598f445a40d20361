"""The WebSocket protocol without I/O, as we speak it: refusals are problems, reasons of closing are problem codes, pings are
answered when the peer takes it, and nothing that a peer sent is ever logged (the library logs frames at level debug)."""

import logging
import os
from typing import Final

import msgspec
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from api.frames import MAX_FRAME_BYTES, BadFrame, CloseCode
from api.problems import MEDIA_TYPE, Code, Problem
from api.web import EVERYWHERE

NOWHERE: Final = logging.Logger("restante.sockets", logging.CRITICAL + 1)
"""Says nothing to anybody."""

_REASONS: Final[dict[int, tuple[Code, str]]] = {
    1002: ("malformed", "This breaks the WebSocket protocol (RFC 6455)."),
    1007: ("malformed", "A text frame is not UTF-8."),
    1009: ("body_too_large", f"A frame is over {MAX_FRAME_BYTES:,} bytes, or comes in too many pieces."),
    1011: ("internal_error", "The service failed."),
}


class Wire(ServerProtocol):
    """One side of a connection. `pong` is the answer that the latest ping has not had yet."""

    def __init__(self) -> None:
        super().__init__(max_size=MAX_FRAME_BYTES, logger=NOWHERE)
        self.pong: Frame | None = None

    def send_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PONG:
            self.pong = frame
        else:
            super().send_frame(frame)

    def answer_ping(self) -> None:
        """Let the latest ping have its answer."""
        pong, self.pong = self.pong, None
        if pong is not None and self.state is OPEN:
            super().send_frame(pong)

    def fail(self, code: int, reason: str = "") -> None:
        super().fail(code, _REASONS[code][0] if code in _REASONS else "")

    def has_failed(self) -> bool:
        """Whether the library has given up on what the peer sends."""
        return self.parser_exc is not None

    def reject(self, status: int, text: str) -> Response:
        """What never becomes a WebSocket, nor a call of the application, is told as any other refusal."""
        kind: Code = "internal_error" if status >= 500 and status != 505 else "malformed"
        refused = Problem(kind, "This is no well-formed request for a WebSocket (RFC 6455, section 4.2.1).")
        response = super().reject(refused.status, msgspec.json.encode(refused.document(os.urandom(6).hex())).decode())
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = MEDIA_TYPE.decode()
        for name, value in EVERYWHERE:
            response.headers[name.decode()] = value.decode()
        return response


def broken(code: int) -> BadFrame:
    """What is wrong where this code is ours to close with."""
    problem, detail = _REASONS.get(code, _REASONS[CloseCode.FAULT])
    return BadFrame(code, Problem(problem, detail))
