"""One session: what its socket has, what it lacks, and what may be sent next. Pure: no I/O, no clock.

`handled` is the position up to which this socket has everything: sent, or in no need of sending. `target` is how far it
must come by reading the mailbox: while `handled` is below it the session *lacks* something, and what is pushed meanwhile is
held back or, beyond a small bound, raises the target. Otherwise it is live: a push is sent if nothing is missing before it.
Why there is neither a hole nor a repetition: docs/decisions/0007.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from api.window import Window
from projections.reads import START, MailboxRow
from schemas.events import Entry
from schemas.lifecycle import Status
from schemas.push import Push, PushedMessage

HELD_MESSAGES: Final = 32
HELD_BYTES: Final = 262_144
PAGE_MESSAGES: Final = 128
PAGE_BYTES: Final = 262_144


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """Times in seconds. `window` messages or `window_bytes` of sealed bodies may be unacknowledged on a session; an account
    may have `sockets` in this process."""

    ack_timeout: float = 15.0
    heartbeat: float = 25.0
    lease: float = 15.0
    window: int = 256
    window_bytes: int = 1_048_576
    sockets: int = 32


@dataclass(frozen=True, slots=True)
class Wanted:
    """A page of the mailbox that the session can use now: above `after`, from a projection that has passed `upto`."""

    after: int
    upto: int
    limit: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class CaughtUpAt:
    """In the outbox: the mailbox as it was when the session began has been sent, everything up to here."""

    position: int


class Session:
    """`outbox` is what the writer sends next, in order. It is in the window, except for what was acknowledged before it was
    sent: of that no more is kept than the window has."""

    __slots__ = ("_held", "_held_bytes", "_next_size", "caught_up", "epoch", "handled", "outbox", "target", "window")

    def __init__(self, window: Window) -> None:
        self.window = window
        self.outbox: list[MailboxRow | CaughtUpAt] = []
        self.epoch: int | None = None
        self.handled = START
        self.target = START
        self.caught_up = False
        self._held: list[tuple[Push, PushedMessage, str | None]] = []
        self._held_bytes = 0
        self._next_size = 0

    @property
    def lacks(self) -> bool:
        """Whether the mailbox must be read."""
        return self.handled < self.target

    def marked(self, position: int) -> None:
        """The log has a marker of this session here, its first or a fresh one: an epoch begins. What is older is read from
        the mailbox, what is newer is pushed."""
        if self.epoch is None or position > self.epoch:
            self.epoch = position
            self.target = max(self.target, position)

    def pushed(self, push: Push, message: PushedMessage, name: str | None) -> None:
        """The processor pushed this message of the sender called `name`. An epoch that we know nothing of is that of a
        marker whose append nobody has confirmed yet: it is in the log, as the processor has read it."""
        if message.position <= self.handled:
            return
        if self.epoch is not None and push.epoch > self.epoch:
            self.marked(push.epoch)
        if self.epoch is None or self.lacks:
            self._hold(push, message, name)
        else:
            self._live(push, message, name)

    def pushed_unnamed(self, position: int) -> None:
        """The processor pushed a message of a sender whose name nobody knows here: the mailbox tells it."""
        self.target = max(self.target, position)

    def wants(self) -> Wanted | None:
        """The page to ask for now; None while nothing is lacking, or there is no room for it."""
        if self.epoch is None or not self.lacks:
            return None
        messages, size = self.window.room()
        if not messages or not self.window.takes(self._next_size):
            return None
        return Wanted(self.handled, self.target, min(messages, PAGE_MESSAGES), min(size, PAGE_BYTES))

    def page(self, wanted: Wanted, rows: Sequence[MailboxRow], has_more: bool) -> None:
        """The page that was wanted. All of it that has room is sent (a page has one row at least, however large), also what
        is newer than the target: one view of a partition has no holes."""
        self._next_size = 0
        for row in rows:
            if not self.window.takes(len(row.sealed)):
                self._next_size = len(row.sealed)
                break
            self._send(row)
        if not has_more and not self._next_size:
            self.handled = max(self.handled, wanted.upto)
        if self.lacks:
            return
        if not self.caught_up:
            self.caught_up = True
            self.outbox.append(CaughtUpAt(self.handled))
        held, self._held, self._held_bytes = self._held, [], 0
        for push, message, name in held:
            self.pushed(push, message, name)

    def _live(self, push: Push, message: PushedMessage, name: str | None) -> None:
        if push.epoch != self.epoch:
            return  # an older epoch: the drain up to the newer marker has brought it, or will
        before = push.predecessor
        if before is None or before > self.handled or not self.window.takes(len(message.sealed)):
            self.target = message.position
            return
        self._send(
            MailboxRow(
                message_id=message.message_id,
                sender=message.sender,
                sender_name=name,
                sealed=message.sealed,
                stored_at_ms=message.stored_at_ms,
                position=message.position,
                status=Status.DELIVERY_ATTEMPTED,
            )
        )

    def _hold(self, push: Push, message: PushedMessage, name: str | None) -> None:
        size = len(message.sealed)
        if len(self._held) < HELD_MESSAGES and self._held_bytes + size <= HELD_BYTES and self.window.takes(size):
            self._held.append((push, message, name))
            self._held_bytes += size
        else:
            self.target = max(self.target, message.position)

    def _send(self, row: MailboxRow) -> None:
        self.handled = row.position
        if row.message_id in self.window:
            return  # a rejected repeat
        self.window.add(Entry(message_id=row.message_id, position=row.position, sender=row.sender), len(row.sealed))
        self.outbox.append(row)
        if len(self.outbox) > len(self.window) + 1:
            self.outbox = [one for one in self.outbox if isinstance(one, CaughtUpAt) or one.message_id in self.window]
