"""What was accepted and what came out: every accepted message must be drained exactly once, by its recipient."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import dataclass, field

BODY_BYTES = 300
_DIGITS = 12
_NOISE = f"{random.Random(1).getrandbits(4 << 16):0{1 << 16}x}"  # bodies that no compression makes smaller than half


@dataclass(frozen=True, slots=True)
class Letter:
    """A message to be sent: its number is written into its text."""

    number: int
    recipient: int

    @property
    def text(self) -> str:
        """The body: the number, then noise, 300 bytes in all."""
        at = (self.number * 7919) % (len(_NOISE) - BODY_BYTES)
        return f"{self.number:0{_DIGITS}d}{_NOISE[at : at + BODY_BYTES - _DIGITS]}"


def number_of(text: str) -> int:
    """The number in a body."""
    return int(text[:_DIGITS])


@dataclass(slots=True)
class Ledger:
    """The books of one service. Numbers never repeat."""

    accepted: dict[int, int] = field(default_factory=dict)
    drained: Counter[int] = field(default_factory=Counter)
    misdirected: int = 0
    came_back: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def letters(self, recipients: list[int]) -> list[Letter]:
        """New messages, one for each recipient named."""
        return [Letter(next(self._numbers), recipient) for recipient in recipients]

    def accept(self, letter: Letter) -> None:
        """The service said yes."""
        self.accepted[letter.number] = letter.recipient

    def refuse(self, why: str) -> None:
        """The service said no, or nothing. RuntimeError where that becomes the rule: the figures would mean nothing."""
        self.errors[why] += 1
        if self.errors.total() > 2_000:
            raise RuntimeError(f"too many requests failed: {dict(self.errors.most_common(3))}")

    def drain(self, recipient: int, number: int) -> None:
        """The message came out of this recipient's mailbox."""
        self.drained[number] += 1
        self.misdirected += self.accepted.get(number, recipient) != recipient

    def summary(self) -> dict[str, int]:
        """The counts to print; all but the first two and the last should be 0."""
        return {
            "accepted": len(self.accepted),
            "drained": len(self.drained),
            "lost": sum(1 for number in self.accepted if number not in self.drained),
            "duplicates": self.drained.total() - len(self.drained),
            "misdirected": self.misdirected,
            "came_back_after_ack": self.came_back,
            "failed_requests": self.errors.total(),
            "asked_again_on_503": self.retries,
        }
