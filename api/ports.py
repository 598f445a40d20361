"""What a gateway stands on, besides the log and a tail of its pushes: sockets, mailbox, progress, keys, tokens, receipts.

Each has a real implementation and one in memory (tests/simulation), so that a thousand days of a gateway can be played
through in seconds.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol
from uuid import UUID

from api.frames import ClientFrame, ReceiptFrame
from api.keys import AccountKeys
from api.tokens import DeviceLabel, Principal
from projections.reads import Found, Page


class Socket(Protocol):
    """One WebSocket after its upgrade, as the gateway uses it. Times are those of the event loop."""

    async def receive(self) -> ClientFrame:
        """The next frame. Raises `SocketClosed` once there is nobody any more, `BadFrame` for what is no valid frame."""

    async def send(self, frame: bytes) -> None:
        """Send one JSON text frame; returns when the transport has taken it and wants more. Raises `SocketClosed`."""

    async def close(self, code: int, reason: str) -> None:
        """Say why and close; within 2 s the connection is gone, and `receive` raises `SocketClosed`. Never raises, may be
        called again."""

    def ping(self) -> None:
        """Send a WebSocket ping. Does nothing on a closed socket."""

    @property
    def heard(self) -> float:
        """When something last came from the peer, also a pong or a part of a frame."""

    @property
    def stuck_since(self) -> float | None:
        """Since when bytes wait of which the peer has taken none; None while none wait."""


class MailboxReads(Protocol):
    """What a gateway asks the projection (`projections.reads.Reads`). Every method raises `DatabaseUnavailable`, and with
    floors `ProjectionBehind`."""

    async def page(
        self,
        user: UUID,
        device: UUID,
        *,
        after: int,
        limit: int,
        max_bytes: int,
        floors: Mapping[int, int] = ...,
        counted: bool = ...,
    ) -> Page:
        """A part of a mailbox, oldest first. Asked with `counted=False`: `Page.pending` is not needed."""

    async def outstanding(
        self, user: UUID, device: UUID, ids: Sequence[UUID], *, floors: Mapping[int, int] = ...
    ) -> list[Found]:
        """What is known of those of these messages whose recipient is the user."""

    async def stragglers(
        self, users: Sequence[UUID], devices: Sequence[UUID], after: Sequence[int], *, stored_before_ms: int
    ) -> list[UUID]:
        """Of these devices, each with its user and a position, those whose mailbox has a message above that position which
        was stored before that time."""


class MailboxProgress(Protocol):
    """How far the projection has come (`projections.progress.Progress`)."""

    def applied(self, partition: int) -> int:
        """The offset after the last record of the partition that is known to be in the tables."""

    async def reached(self, partition: int, end: int, timeout: float) -> None:
        """Wait until the records below `end` are in the tables. Raises `ProjectionBehind` after `timeout` seconds."""


class Keys(Protocol):
    """The keys of accounts (`api.directory.Directory`)."""

    async def keys_of(self, user_id: UUID) -> AccountKeys | None:
        """The keys of an account; None where it is erased. Raises `DatabaseUnavailable`."""


class Tokens(Protocol):
    """Renews the token of a socket (`api.tokens.AccessTokens`, `api.outside.OutsideTokens`)."""

    async def renewed(self, token: str, who: Principal) -> Principal:
        """The same account and device with another token. Raises `Problem`."""


class Recognition(Tokens, Protocol):
    """And says who comes with one."""

    async def recognise(self, token: str, device: DeviceLabel) -> Principal:
        """Who this token stands for, on the device of this label where the token does not say. Raises `Problem`."""

    def check(self, who: Principal) -> None:
        """Raises `Problem` where the token was ended before its time."""


class CursorWriter(Protocol):
    """Writes cursors (`api.cursors.Cursors`)."""

    def write(self, user: UUID, device: UUID, position: int) -> str:
        """The cursor that has passed `position`."""


class ReceiptSource(Protocol):
    """The receipts of a sender, as they come into the projection."""

    async def now(self, user: UUID) -> int:
        """The position of the latest there is; what comes live is above it. Raises `LogUnavailable`."""

    async def after(self, user: UUID, position: int, limit: int) -> Sequence[tuple[int, ReceiptFrame]]:
        """The first receipts above a position, with theirs. Raises `DatabaseUnavailable`."""

    def watch(self, user: UUID, wake: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `wake` whenever there may be new receipts of the user. False alarms are allowed, misses are not."""
