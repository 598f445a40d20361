"""The last facts of sessions: acknowledgements that no answer waits for any more, then SessionClosed. Tried until the log
has them, in the background, however long it is away."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from api.pause import Pauses
from producers.log import EventLog, LogUnavailable
from schemas.events import MessagesDelivered, MessagesRead, SessionClosed
from schemas.partitions import partition_for

LastFact = MessagesDelivered | MessagesRead | SessionClosed
_AT_ONCE: Final = 500


class Endings:
    """`run` works until it is cancelled. What waits is at most what the open sessions left: none opens while the log is
    away. `held(session, offset)` is called once the log has a session's end."""

    def __init__(self, log: EventLog, held: Callable[[UUID, int], None]) -> None:
        self._log = log
        self._held = held
        self._waiting: list[LastFact] = []
        self._more = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()

    def add(self, facts: Sequence[LastFact]) -> None:
        """Append these, in this order."""
        self._waiting += facts
        self._none.clear()
        self._more.set()

    async def run(self) -> None:
        """Append what waits, for ever."""
        pauses = Pauses()
        while True:
            await self._more.wait()
            if await self._tried():
                pauses = Pauses()
            else:
                await asyncio.sleep(pauses.longer())

    async def done(self) -> None:
        """Wait until the log has everything."""
        await self._none.wait()

    async def _tried(self) -> bool:
        """Append some of it; what failed stays. An acknowledgement that gets behind its session's end makes the message
        Delivered all the same."""
        facts = self._waiting[:_AT_ONCE]
        places = [partition_for(fact.recipient, self._log.partitions) for fact in facts]
        answers = await self._log.append_all(facts, partitions=places)
        left: list[LastFact] = []
        for fact, answer in zip(facts, answers, strict=True):
            if isinstance(answer, LogUnavailable):
                left.append(fact)
            elif isinstance(fact, SessionClosed):
                self._held(fact.session_id, answer.offset)
        self._waiting[: len(facts)] = left
        if not self._waiting:
            self._more.clear()
            self._none.set()
        return not left
