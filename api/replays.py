"""The same idempotency key again is the same message. Three memories, asked in this order: what this process stored
lately, what it is storing right now, what the projection knows."""

import asyncio
from collections import OrderedDict
from typing import Final
from uuid import UUID

from api.problems import Problem

REMEMBERED: Final = 20_000


Became = tuple[bytes, int] | Problem
"""The digest that the log has and the append time in milliseconds; or why it is not known to be in the log."""

Storing = asyncio.Future[Became]
"""A keyed message on its way into the log."""


class Replays:
    """What this process remembers of keyed messages."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._recent: OrderedDict[UUID, tuple[bytes, int]] = OrderedDict()
        self._storing: dict[UUID, Storing] = {}

    def recent(self, message_id: UUID, digest: bytes) -> int | Problem | None:
        """When the message was stored, if it was lately; a `Problem` where it had another content."""
        known = self._recent.get(message_id)
        return None if known is None else judged(known, digest)

    def storing(self, message_id: UUID) -> Storing | None:
        """The message's append that is under way in this process."""
        return self._storing.get(message_id)

    def begin(self, message_id: UUID) -> None:
        """From now on equal posts wait for this one. Must be followed by `end`."""
        self._storing[message_id] = asyncio.get_running_loop().create_future()

    def end(self, message_id: UUID, became: Became) -> None:
        """What became of it, for those who wait and those who come later."""
        if not isinstance(became, Problem):
            self._recent[message_id] = became
            while len(self._recent) > self._remembered:
                self._recent.popitem(last=False)
        waiting = self._storing.pop(message_id)
        if not waiting.done():
            waiting.set_result(became)


def judged(became: Became, digest: bytes) -> int | Problem:
    """A replay's append time if its content is the stored one."""
    if isinstance(became, Problem):
        return became
    if became[0] == digest:
        return became[1]
    return Problem("idempotency_conflict", "A message with this key and another content was sent to this recipient before.")
