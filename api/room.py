"""What one mailbox holds at most, as far as one process knows: the last count and what was taken since, in messages and in
bytes."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

from api.measure import Measure
from api.problems import Problem
from projections.reads import Held

LOOK_SECONDS: Final = 5.0
"""A count this old is taken anew, in the background, where at least a tenth of a share is held."""

LARGEST: Final = 66_000
"""Bytes that one message can weigh: the largest body, its content type, and what sealing adds."""


class Room:
    """What one recipient holds, at most, as far as this process knows. Senders are the integers of their ids, sizes are the
    bytes that are stored. Pure but for the clock: counting is
    `ask`'s business, which is called where a new count is wanted."""

    __slots__ = ("ask", "asks", "at", "blind", "bytes", "done", "landed", "messages", "task")

    def __init__(self, messages: int, size: int, ask: Callable[["Room"], None]) -> None:
        self.messages = Measure(messages, 1)
        self.bytes = Measure(size, LARGEST)
        self.ask = ask
        self.task: asyncio.Task[None] | None = None
        self.asks = self.done = 0
        self.at = -LOOK_SECONDS
        self.blind = False
        self.landed: list[tuple[int, int, int]] | None = None

    def take(self, sender: int, size: int) -> bool:
        """Reserve room for one message. False where that needs a new count. Must be followed by `land`."""
        if not (self.messages.fits(sender, 1) and self.bytes.fits(sender, size)):
            return False
        self.force(sender, size)
        if self.task is None and (self.messages.much or self.bytes.much) and monotonic() - self.at > LOOK_SECONDS:
            self.ask(self)
        return True

    def force(self, sender: int, size: int) -> None:
        """Reserve without asking what there is."""
        self.messages.add(sender, 1)
        self.bytes.add(sender, size)

    def land(self, sender: int, size: int, offset: int | None, *, rejected: bool = False) -> None:
        """What became of a reservation: its place in the log, or None. Unless certainly rejected, it goes on counting."""
        self.messages.land(sender, 1, rejected=rejected)
        self.bytes.land(sender, size, rejected=rejected)
        if offset is not None and self.landed is not None:
            self.landed.append((sender, size, offset))

    def begin(self) -> None:
        """A count begins."""
        self.asks += 1
        self.landed = []
        self.messages.begin()
        self.bytes.begin()

    def counted(self, held: Held) -> None:
        """The count is there. What it has seen of the messages taken meanwhile is not counted twice."""
        assert self.landed is not None
        for sender, size, offset in self.landed:
            if offset < held.applied:
                self.messages.seen(sender, 1)
                self.bytes.seen(sender, size)
        self.messages.counted(held.messages)
        self.bytes.counted(held.bytes)
        self._end(blind=False)

    def failed(self) -> None:
        """No count was to be had."""
        self.messages.failed()
        self.bytes.failed()
        self._end(blind=True)

    def refusal(self, sender: int, size: int) -> Problem | None:
        """Why the last count leaves no room, or None where it leaves some. While counts are to be had: with all that was
        taken since."""
        for measure, weight, what in ((self.messages, 1, "messages"), (self.bytes, size, "bytes of messages")):
            if self.blind:
                full, much = measure.was_full(weight), measure.was_much(sender, weight)
            else:
                full, much = measure.total + weight > measure.limit, not measure.fits(sender, weight)
            if full:
                return Problem(
                    "mailbox_full", f"The recipient may hold {measure.limit:,} {what}, and has to acknowledge some first."
                )
            if much:
                said = f"The recipient may hold {measure.share:,} {what} of yours, and has to acknowledge some first."
                return Problem("sender_share_full", said)
        return None

    def _end(self, *, blind: bool) -> None:
        self.landed, self.task, self.at, self.done, self.blind = None, None, monotonic(), self.asks, blind
