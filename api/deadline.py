"""How long a client has owed an acknowledgement, and whether that is too long. Times are those of the event loop."""

import asyncio
from typing import Final

from api.acknowledging import Acknowledging
from api.common import Common, Me
from api.window import Window
from producers.log import LogUnavailable
from projections.errors import DatabaseUnavailable, ProjectionBehind

CONFIRM_EVERY_SECONDS: Final = 1.0


class Deadline:
    """Of one session. Before a verdict the projection is asked: what this socket sent may have been acknowledged by HTTP,
    and then takes no room any more, either."""

    __slots__ = ("_acks", "_asked", "_common", "_me", "_window", "excused")

    def __init__(self, common: Common, me: Me, window: Window, acks: Acknowledging, now: float) -> None:
        self._common = common
        self._me = me
        self._window = window
        self._acks = acks
        self._asked = now
        self.excused = now
        """What the client failed to do before this is not held against it: we did not listen."""

    def waited(self, now: float) -> float:
        """Seconds. The time that the client waits for an answer of ours does not count: it may do one thing after the
        other."""
        since = self._window.waits_since()
        if since is None or self._acks.answers_since is not None:
            return 0.0
        return now - max(since, self._acks.answered, self.excused)

    def should_ask(self, now: float, *, blocked: bool) -> bool:
        """Whether it is time to ask: the deadline has passed, or a full window has `blocked` the session for a moment."""
        least = CONFIRM_EVERY_SECONDS if blocked else self._common.options.ack_timeout
        return now - self._asked >= CONFIRM_EVERY_SECONDS and self.waited(now) >= least

    async def ask(self) -> bool:
        """Ask, and say whether the deadline has passed for certain. While nobody can tell, it has not."""
        loop = asyncio.get_running_loop()
        try:
            found = await self._common.known(self._me, self._window.waiting())
        except (LogUnavailable, ProjectionBehind, DatabaseUnavailable):
            return False
        finally:
            self._asked = loop.time()
        elsewhere = [row.message_id for row in found if row.delivered_to_device]
        self._acks.elsewhere(elsewhere)
        return self.waited(self._asked) >= self._common.options.ack_timeout
