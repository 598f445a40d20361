"""How long to wait before the next try."""

import random
from typing import Final

LEAST_SECONDS: Final = 0.1
MOST_SECONDS: Final = 2.0


class Pauses:
    """Doubling from LEAST_SECONDS to MOST_SECONDS, with jitter, so that a thousand sockets do not ask as one."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = LEAST_SECONDS

    def longer(self) -> float:
        """Seconds until the next try."""
        pause, self._next = self._next, min(2 * self._next, MOST_SECONDS)
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load, guards nothing)
