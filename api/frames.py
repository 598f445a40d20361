"""The frames of GET /messages/stream: JSON objects with a `type`, what either side may say, and why a socket is closed."""

from enum import IntEnum
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from api.calls import faulty
from api.models import Cursor, Ids, Label, ProblemDocument, Receipt, Received, Time
from api.problems import Problem

SUBPROTOCOL: Final = "restante.v1"
MAX_FRAME_BYTES: Final = 65_536
"""The largest frame of a client, all its fragments together."""

Number = Annotated[int, Meta(ge=0, le=2**53 - 1, description="The client's number of this frame; the answer repeats it.")]
Token = Annotated[str, Meta(min_length=1, max_length=8_000, description="An access token.")]


class CloseCode(IntEnum):
    """Why a socket is closed. The reason beside it is a problem code."""

    BINARY = 1003
    NOT_UTF8 = 1007
    TOO_LARGE = 1009
    FAULT = 1011
    RESTART = 1012
    NOT_A_FRAME = 4400
    TOKEN = 4401
    OVERDUE = 4408
    REPLACED = 4409
    TOO_SLOW = 4413
    TOO_MANY = 4429


MEANINGS: Final = {
    CloseCode.BINARY: "a binary frame",
    CloseCode.NOT_UTF8: "not UTF-8",
    CloseCode.TOO_LARGE: "a frame over 64 KiB",
    CloseCode.FAULT: "a fault here; connect again with jitter",
    CloseCode.RESTART: "this process stops; connect again with jitter",
    CloseCode.NOT_A_FRAME: "not a frame, a receipt cursor that is not this account's, or no device where one must be named",
    CloseCode.TOKEN: "the token has expired, is revoked or missing; refresh it, or log in",
    CloseCode.OVERDUE: "an acknowledgement or any sign of life is overdue; connect again with jitter",
    CloseCode.REPLACED: "the same device opened a newer session; do not connect again",
    CloseCode.TOO_SLOW: "no byte was taken for 30 s; drain the mailbox by HTTP",
    CloseCode.TOO_MANY: "too many calls, frames or sockets; wait",
}


class BadFrame(Exception):
    """The client sent what is no frame (`close_code` says how to close), or one that says nothing valid (None: answer with
    an `error` frame that repeats `n`, and go on)."""

    def __init__(self, close_code: int | None, problem: Problem, n: int | None = None) -> None:
        super().__init__(problem.code)
        self.close_code = close_code
        self.problem = problem
        self.n = n


class SocketClosed(Exception):
    """There is nobody on the other side any more. `code` is the close code that the peer sent (1005: none), 1006 where the
    connection ended without one, or ours where we closed."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class FromClient(Struct, forbid_unknown_fields=True, tag_field="type"):
    """What clients send."""


class Authenticate(FromClient, tag="authenticate"):
    """The first frame where no token came with the request; later it renews the token, for the same account and device.
    Where an outside provider keeps the accounts, the first frame names the device, as the header Restante-Device does."""

    token: Token
    device: Label | None = None


class Ack(FromClient, tag="ack"):
    """Acknowledge messages; answered by `acked` once the log has it."""

    n: Number
    ids: Ids


class ReadFrame(FromClient, tag="read"):
    """Say that messages were read, which acknowledges them, too; answered by `acked`."""

    n: Number
    ids: Ids


class Ping(FromClient, tag="ping"):
    """Answered by `pong`. For clients that cannot send the protocol's own pings, such as browsers."""

    n: Number


ClientFrame = Authenticate | Ack | ReadFrame | Ping


class Ready(Struct, tag_field="type", tag="ready"):
    """The session is open; the whole mailbox follows. `window` is how many messages at most may be unacknowledged."""

    session: UUID
    window: int
    heartbeat_seconds: float
    ack_timeout_seconds: float
    expires_at: Time


class MessageFrame(Received, tag_field="type", tag="message", kw_only=True):
    """A message, as in a sync; `cursor` has passed it."""

    cursor: Cursor


class CaughtUp(Struct, tag_field="type", tag="caught_up"):
    """Everything was sent that waited when the session began. What follows is live."""

    cursor: Cursor


class Acked(Struct, tag_field="type", tag="acked"):
    """The log has what `ack` or `read` number `n` said."""

    n: int
    acknowledged: list[UUID]
    already: list[UUID]
    unknown: list[UUID]


class ReceiptFrame(Receipt, tag_field="type", tag="receipt"):
    """What became of a message that this account sent, as in GET /receipts."""


class Authenticated(Struct, tag_field="type", tag="authenticated"):
    """The renewed token is accepted."""

    expires_at: Time


class Pong(Struct, tag_field="type", tag="pong"):
    """The answer to `ping`."""

    n: int


class ErrorFrame(Struct, tag_field="type", tag="error"):
    """A frame was not accepted; `n` is its number where it had one. `problem` is as in HTTP (ProblemDetails); its request_id
    names the session."""

    problem: ProblemDocument
    n: int | UnsetType = UNSET


ServerFrame = Ready | MessageFrame | CaughtUp | Acked | ReceiptFrame | Authenticated | Pong | ErrorFrame
encode: Final = msgspec.json.Encoder().encode
"""A server frame as the text of a WebSocket message, in UTF-8."""


class _Numbered(Struct):
    type: str
    n: Any = None


_frame: Final = msgspec.json.Decoder[ClientFrame](ClientFrame)
_numbered: Final = msgspec.json.Decoder(_Numbered)


def decode(text: bytes) -> ClientFrame:
    """A frame of a client. Raises `BadFrame`: with close code 4400 where it is no JSON object with a `type`."""
    try:
        frame: ClientFrame = _frame.decode(text)
    except msgspec.ValidationError as error:
        raise BadFrame(None, faulty(error), _number(text)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_a_frame() from error
    return frame


def error_frame(problem: Problem, request_id: str, n: int | None = None) -> bytes:
    """An `error` frame, encoded. `request_id` is what to tell the operator: the session's id, once there is one."""
    return encode(ErrorFrame(problem=problem.document(request_id), n=UNSET if n is None else n))


def _number(text: bytes) -> int | None:
    """The number of a frame that is not valid otherwise."""
    try:
        n = _numbered.decode(text).n
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_a_frame() from error
    return n if type(n) is int and 0 <= n < 2**53 else None


def _not_a_frame() -> BadFrame:
    return BadFrame(CloseCode.NOT_A_FRAME, Problem("malformed", "Send JSON objects with a type, one a frame."))
