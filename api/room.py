"""What one mailbox holds at most, as far as one process knows: the last count and what was taken since."""

import asyncio
from collections import Counter
from collections.abc import Callable
from time import monotonic
from typing import Final

from api.problems import Problem
from projections.reads import Held

SHARES: Final = 10
"""One sender may hold the quota divided by this."""

LOOK_SECONDS: Final = 5.0
"""A count this old is taken anew, in the background, where at least a tenth of a share is held."""


class Room:
    """What one recipient holds, at most, as far as this process knows. Senders are the integers of their ids (they hash
    fastest). Pure but for the clock: counting is `ask`'s business, which is called where a new count is wanted."""

    __slots__ = (
        "ask",
        "asks",
        "at",
        "blind",
        "by_sender",
        "done",
        "flying",
        "held",
        "landed",
        "others",
        "quota",
        "share",
        "taken",
        "task",
        "total",
        "watch",
    )  # fmt: skip

    def __init__(self, quota: int, ask: Callable[["Room"], None]) -> None:
        self.quota = quota
        self.share = max(1, quota // SHARES)
        self.watch = self.share // SHARES
        self.ask = ask
        self.task: asyncio.Task[None] | None = None
        self.asks = self.done = 0
        self.at = -LOOK_SECONDS
        self.blind = False
        self.held = Held(total=0, applied=0, by_sender={})
        self.total = quota  # nothing is taken before the first count
        self.by_sender: dict[int, int] | None = None
        self.others = 0
        self.flying: dict[int, int] = {}
        self.taken: Counter[int] | None = None
        self.landed: list[tuple[int, int]] = []

    def take(self, sender: int) -> bool:
        """Reserve room for one message. False where that needs a new count. Must be followed by `land`."""
        if self.total >= self.quota:
            return False
        if self.by_sender is not None:
            if self.by_sender.get(sender, self.others) >= self.share:
                return False
        elif self.total >= self.share:
            return False
        self.force(sender)
        if self.total >= self.watch and self.task is None and monotonic() - self.at > LOOK_SECONDS:
            self.ask(self)
        return True

    def force(self, sender: int) -> None:
        """Reserve without asking what there is."""
        self.total += 1
        if self.by_sender is not None:
            self.by_sender[sender] = self.by_sender.get(sender, self.others) + 1
        self.flying[sender] = self.flying.get(sender, 0) + 1
        if self.taken is not None:
            self.taken[sender] += 1

    def land(self, sender: int, offset: int | None, *, rejected: bool = False) -> None:
        """What became of a reservation: its place in the log, or None. Unless certainly rejected, it goes on counting."""
        left = self.flying.pop(sender) - 1
        if left:
            self.flying[sender] = left
        if rejected:
            self.total -= 1
            if self.by_sender is not None:
                self.by_sender[sender] -= 1
            if self.taken is not None:
                self.taken[sender] -= 1
        elif offset is not None and self.taken is not None:
            self.landed.append((sender, offset))

    def begin(self) -> None:
        """A count begins: what is on its way now, or comes until it is there, may be missing in it."""
        self.asks += 1
        self.taken, self.landed = Counter(self.flying), []

    def counted(self, held: Held) -> None:
        """The count is there. What it has seen of the messages taken meanwhile is not counted twice."""
        assert self.taken is not None
        for sender, offset in self.landed:
            self.taken[sender] -= offset < held.applied
        self.held, self.others, self.blind = held, held.others, False
        self.total = held.total + self.taken.total()
        self.by_sender = None
        if self.total >= self.share:
            self.by_sender = dict(held.by_sender)
            for sender, count in self.taken.items():
                self.by_sender[sender] = self.by_sender.get(sender, self.others) + count
        self._end()

    def failed(self) -> None:
        """No count was to be had."""
        self.blind = True
        self._end()

    def refusal(self, sender: int) -> Problem | None:
        """Why the last count leaves no room, or None where it leaves some. While counts are to be had: with all that was
        taken since."""
        if self.blind:
            full, much = self.held.total >= self.quota, self.held.by_sender.get(sender, 0) >= self.share
        else:
            full, much = self.total >= self.quota, True
        if full:
            return Problem("mailbox_full", f"The recipient has {self.quota:,} messages to acknowledge first.")
        if much:
            detail = f"The recipient has {self.share:,} of your messages to acknowledge first."
            return Problem("sender_share_full", detail)
        return None

    def _end(self) -> None:
        self.taken, self.task, self.at, self.done = None, None, monotonic(), self.asks
