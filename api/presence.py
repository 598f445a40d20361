"""GET /presence/{name}: whether somebody is there, for those who correspond with them."""

import re
from collections.abc import Callable
from typing import Final
from uuid import NAMESPACE_URL, uuid5

from api.calls import Answer, Call, answer
from api.directory import Directory
from api.freshness import Freshness
from api.models import NAME, Presence
from api.outages import asking_accounts, asking_projection
from api.problems import Problem
from api.times import maybe_rfc3339
from projections.presence import PresenceReads
from schemas.partitions import partition_for

_IS_NAME: Final = re.compile(NAME).match


class PresenceCalls:
    """The handler. Who may know is decided by the projection: each must have sent the other a message. Of an unknown name
    the same is asked, of an account that nobody has, so that neither an outage nor a clock tells it from a known one.
    `partitions` is how many the lifecycle topic has, `clock` gives seconds since the epoch."""

    def __init__(
        self,
        *,
        directory: Directory,
        presence: PresenceReads,
        freshness: Freshness,
        partitions: int,
        clock: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._presence = presence
        self._freshness = freshness
        self._partitions = partitions
        self._clock = clock

    async def of(self, call: Call) -> Answer:
        """GET /presence/{name}."""
        name, user = call.path("name"), call.principal.user
        with asking_accounts():
            known = (await self._directory.find([name] if _IS_NAME(name) else [])).get(name)
        other = known.user_id if known else uuid5(NAMESPACE_URL, name)
        partitions = {partition_for(account, self._partitions) for account in (user, other)}
        floors = await self._freshness.of(*partitions)
        with asking_projection():
            found = await self._presence.between(user, other, floors=floors)
        if found is None:
            raise _unknown()
        last_seen_at_ms = int(self._clock() * 1000) if found.online else found.last_seen_at_ms
        return answer(Presence(name=name, online=found.online, last_seen_at=maybe_rfc3339(last_seen_at_ms)))


def _unknown() -> Problem:
    return Problem("presence_unknown", "Nobody of this name has both sent you a message and got one from you.")
