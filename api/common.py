"""What the conversations of a gateway share, and what each of them is about."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from api.endings import Endings
from api.names import Names
from api.ports import CursorWriter, Keys, MailboxProgress, MailboxReads, ReceiptSource, Tokens
from api.session import StreamOptions
from producers.log import EventLog
from projections.reads import Found

PATIENCE_SECONDS: Final = 5.0
"""One wait for the projection; who still needs it asks again."""

PAGES_AT_ONCE: Final = 4
QUESTIONS_AT_ONCE: Final = 2
"""So many pages, and so many other questions of all sockets, are asked of the projection at a time. A thousand sockets that
come back together queue here, not in the pool, which HTTP calls need, too; and nobody's receipts or acknowledgements queue
behind their pages."""


@dataclass(frozen=True, slots=True)
class Me:
    """A session: whose it is, and the partition of the account's facts."""

    session: UUID
    user: UUID
    device: UUID
    partition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What conversations stand on. `gateway` and `push_partition` are where the processor finds them; `clock` gives seconds
    since the epoch."""

    log: EventLog
    reads: MailboxReads
    progress: MailboxProgress
    keys: Keys
    tokens: Tokens
    cursors: CursorWriter
    receipts: ReceiptSource
    options: StreamOptions
    producer: str
    gateway: str
    push_partition: int
    clock: Callable[[], float]
    endings: Endings
    names: Names
    pages: asyncio.Semaphore
    questions: asyncio.Semaphore

    async def known(self, me: Me, ids: Sequence[UUID]) -> list[Found]:
        """What is known of these messages, all that was answered before included. Raises `LogUnavailable`,
        `ProjectionBehind`, `DatabaseUnavailable`."""
        end = (await self.log.ends())[me.partition]
        await self.progress.reached(me.partition, end, PATIENCE_SECONDS)
        async with self.questions:
            return await self.reads.outstanding(me.user, me.device, ids, floors={me.partition: end})
