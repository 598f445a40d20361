"""GET /presence/{name}: whether somebody is there, for those who correspond with them."""

import re
from collections.abc import Callable
from typing import Final

from api.calls import Answer, Call, answer
from api.freshness import Freshness
from api.models import NAME, Presence
from api.outages import asking_projection
from api.problems import Problem
from api.times import maybe_rfc3339
from projections.presence import PresenceReads

_IS_NAME: Final = re.compile(NAME).match


class PresenceCalls:
    """The handler. Who may know is decided by the projection: each must have sent the other a message. It waits for all
    partitions, and asks one statement, whether somebody has the name or not: neither an outage nor a clock tells that.
    `clock` gives seconds since the epoch."""

    def __init__(self, *, presence: PresenceReads, freshness: Freshness, clock: Callable[[], float]) -> None:
        self._presence = presence
        self._freshness = freshness
        self._clock = clock

    async def of(self, call: Call) -> Answer:
        """GET /presence/{name}."""
        name = call.path("name")
        if not _IS_NAME(name):
            raise _unknown()
        floors = await self._freshness.of_all()
        with asking_projection():
            found = await self._presence.between(call.principal.user, name, floors=floors)
        if found is None:
            raise _unknown()
        last_seen_at_ms = int(self._clock() * 1000) if found.online else found.last_seen_at_ms
        return answer(Presence(name=name, online=found.online, last_seen_at=maybe_rfc3339(last_seen_at_ms)))


def _unknown() -> Problem:
    return Problem("presence_unknown", "Nobody of this name has both sent you a message and got one from you.")
