"""The net below the pushes: once in a while, look whether a message waits for a session that has everything else.

That happens where the processor does not know of a session and so asks nobody for a marker (its table lost the row). One
query for all sessions of this process.
"""

import asyncio
from collections.abc import Callable, Sequence

from api.common import Common
from api.conversation import Conversation
from projections.errors import DatabaseUnavailable


class Net:
    """`run` looks once a heartbeat. A message is late when it was stored more than two ack timeouts ago."""

    def __init__(self, common: Common, conversations: Callable[[], Sequence[Conversation]]) -> None:
        self._common = common
        self._conversations = conversations

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            await asyncio.sleep(self._common.options.heartbeat)
            await self.look()

    async def look(self) -> None:
        """Mark anew each session that rests and was not told of a message that is late."""
        asked = [(one, one.session.handled) for one in self._conversations() if one.rests]
        if not asked:
            return
        late_before = self._common.clock() - 2 * self._common.options.ack_timeout
        try:
            found = await self._common.reads.stragglers(
                [one.me.user for one, _ in asked],
                [one.me.device for one, _ in asked],
                [handled for _, handled in asked],
                stored_before_ms=int(late_before * 1000),
            )
        except DatabaseUnavailable:
            return
        devices = set(found)
        for one, handled in asked:
            if one.me.device in devices and one.rests and one.session.handled == handled:
                one.mark()
