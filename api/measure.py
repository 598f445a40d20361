"""One measure of a mailbox (messages, or bytes), as far as one process knows: an upper bound in all and of each sender."""

from collections import Counter
from typing import Final

from projections.reads import Measured

SHARES: Final = 10
"""One sender may hold the limit divided by this."""


class Measure:
    """The last count and what was taken since. Senders are the integers of their ids (they hash fastest). `largest` is what
    one message can weigh at most; a share holds at least that. Every `add` is followed by `land`."""

    __slots__ = ("_by_sender", "_flying", "_held", "_largest", "_others", "_taken", "limit", "share", "total")

    def __init__(self, limit: int, largest: int) -> None:
        self.limit = limit
        self.share = max(largest, limit // SHARES)
        self.total = limit  # nothing is taken before the first count
        self._largest = largest
        self._held = Measured(total=0, by_sender={})
        self._by_sender: dict[int, int] | None = None
        self._others = 0
        self._flying: dict[int, int] = {}
        self._taken: Counter[int] | None = None

    @property
    def much(self) -> bool:
        """Whether a tenth of a share is held: worth counting now and then."""
        return self.total >= self.share // SHARES

    @property
    def small(self) -> int:
        """Who holds no more than this need not be named by a count: one message more fits his share all the same."""
        return min(self.share // 2, self.share - self._largest)

    def fits(self, sender: int, weight: int) -> bool:
        """Whether there is certainly room for it."""
        total = self.total + weight
        if total > self.limit:
            return False
        if self._by_sender is None:
            return total <= self.share
        return self._by_sender.get(sender, self._others) + weight <= self.share

    def add(self, sender: int, weight: int) -> None:
        """Something is on its way."""
        self.total += weight
        if self._by_sender is not None:
            self._by_sender[sender] = self._by_sender.get(sender, self._others) + weight
        self._flying[sender] = self._flying.get(sender, 0) + weight
        if self._taken is not None:
            self._taken[sender] += weight

    def land(self, sender: int, weight: int, *, rejected: bool) -> None:
        """It has arrived, or nobody knows (and it goes on counting), or it was certainly rejected."""
        left = self._flying.pop(sender) - weight
        if left:
            self._flying[sender] = left
        if rejected:
            self.total -= weight
            if self._by_sender is not None:
                self._by_sender[sender] -= weight
            if self._taken is not None:
                self._taken[sender] -= weight

    def begin(self) -> None:
        """A count begins: what is on its way now, or comes until it is there, may be missing in it."""
        self._taken = Counter(self._flying)

    def seen(self, sender: int, weight: int) -> None:
        """The count has seen this one, which was taken meanwhile."""
        assert self._taken is not None
        self._taken[sender] -= weight

    def counted(self, held: Measured) -> None:
        """The count is there."""
        assert self._taken is not None
        self._held, self._others = held, held.others
        self.total = held.total + self._taken.total()
        self._by_sender = None
        if self.total + self._largest > self.share:
            self._by_sender = dict(held.by_sender)
            for sender, weight in self._taken.items():
                self._by_sender[sender] = self._by_sender.get(sender, self._others) + weight
        self._taken = None

    def failed(self) -> None:
        """No count was to be had."""
        self._taken = None

    def was_full(self, weight: int) -> bool:
        """Whether the last count leaves no room for it, whoever sends it."""
        return self._held.total + weight > self.limit

    def was_much(self, sender: int, weight: int) -> bool:
        """Whether the last count says that this sender has his share."""
        return self._held.by_sender.get(sender, 0) + weight > self.share
