"""What became of the messages that an account sent: GET /receipts, and the same live on its sockets.

Positions are offsets in the account's partition of the receipts topic; each receipt stands there once for those who read.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final
from uuid import UUID

from api.calls import Answer, Call, answer
from api.cursors import START, ReceiptCursors
from api.frames import ReceiptFrame
from api.freshness import ReceiptFreshness
from api.health import Phase
from api.models import Receipt, ReceiptPage, ReceiptsQuery
from api.outages import asking_projection
from api.times import rfc3339
from api.waiting import awaited
from producers.log import EventLog
from projections.progress import Progress
from projections.reads import Reads, ReceiptRow
from schemas.partitions import partition_for
from schemas.topics import RECEIPTS

NOW: Final = "now"


class Receipts:
    """The handler, and the source of live frames (`api.ports.ReceiptSource`). `clock` gives seconds since the epoch."""

    def __init__(
        self,
        *,
        log: EventLog,
        reads: Reads,
        progress: Progress,
        freshness: ReceiptFreshness,
        cursors: ReceiptCursors,
        phase: Phase,
        clock: Callable[[], float],
    ) -> None:
        self._log = log
        self._reads = reads
        self._progress = progress
        self._freshness = freshness
        self._cursors = cursors
        self._phase = phase
        self._clock = clock

    async def page(self, call: Call) -> Answer:
        """GET /receipts."""
        query, who = call.query(ReceiptsQuery), call.principal
        given = self.position(who.user, query.cursor)
        partition = partition_for(who.user, self._log.partitions)
        floors = await self._freshness.of(partition)
        after = floors[partition] - 1 if given is None else given

        async def look() -> list[ReceiptRow]:
            return await self._rows(who.user, after, query.limit + 1, floors)

        if query.wait:
            seconds = min(query.wait, who.expires_at - self._clock())
            arrivals = self._progress.receipt_arrivals(who.user)
            rows = await awaited(call, self._phase.draining, arrivals, seconds, look, bool)
        else:
            rows = await look()
        shown = [Receipt(**self._said(who.user, row)) for row in rows[: query.limit]]
        if shown:
            cursor = shown[-1].cursor
        else:
            cursor = query.cursor if query.cursor not in ("", NOW) else self._cursors.write(who.user, after)
        return answer(ReceiptPage(receipts=shown, cursor=cursor, has_more=len(rows) > len(shown)))

    def position(self, user: UUID, cursor: str) -> int | None:
        """The position of a cursor as given: None for `now`, START for an empty one. Raises `Problem` bad_cursor."""
        if cursor == NOW:
            return None
        return self._cursors.read(user, cursor) if cursor else START

    async def now(self, user: UUID) -> int:
        """The position of the latest record in the log, folded or not: right also while the projection is made anew. Raises
        `LogUnavailable`."""
        return (await self._log.ends(RECEIPTS))[partition_for(user, self._log.partitions)] - 1

    async def after(self, user: UUID, position: int, limit: int) -> Sequence[tuple[int, ReceiptFrame]]:
        """The first receipts above a position that are folded, with theirs. Raises `DatabaseUnavailable`."""
        rows = await self._reads.receipts(user, after=position, limit=limit)
        return [(row.position, ReceiptFrame(**self._said(user, row))) for row in rows]

    def watch(self, user: UUID, wake: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `wake` (which must not raise) whenever there may be new receipts of the user."""
        return self._progress.watch_receipts(user, wake)

    async def _rows(self, user: UUID, after: int, limit: int, floors: Mapping[int, int]) -> list[ReceiptRow]:
        with asking_projection():
            return await self._reads.receipts(user, after=after, limit=limit, floors=floors)

    def _said(self, user: UUID, row: ReceiptRow) -> dict[str, Any]:
        return {
            "message_id": row.message_id,
            "to": row.recipient_name,
            "status": row.outcome,
            "at": rfc3339(row.at_ms),
            "cursor": self._cursors.write(user, row.position),
        }
