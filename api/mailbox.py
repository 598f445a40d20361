"""A device's mailbox: GET /messages/sync, POST /messages/ack, POST /messages/read. Reading never acknowledges."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from time import perf_counter
from typing import Final
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from api.calls import Answer, Call, answer
from api.cursors import START, Cursors
from api.directory import Directory
from api.freshness import Freshness
from api.health import Phase
from api.ids import new_id
from api.lag import LagWatch
from api.models import MAX_PAGE_BYTES, Acknowledged, AcknowledgedCount, Acknowledgement, IdList, Page, Received, SyncQuery
from api.opening import opened
from api.outages import asking_accounts, asking_projection, log_away
from api.own import Handed, HandedOut
from api.problems import Problem, invalid
from api.statuses import IDS_ON_THE_WIRE
from api.times import rfc3339
from api.tokens import Principal
from api.waiting import awaited
from producers.log import EventLog, LogUnavailable
from projections.progress import Progress
from projections.reads import Found, MailboxRow, Reads
from projections.reads import Page as Rows
from schemas.events import MAX_ENTRIES, Entry, MessagesDelivered, MessagesRead, Via
from schemas.metrics import APPEND_SECONDS
from schemas.partitions import partition_for

_ACK: Final = msgspec.json.Decoder(Acknowledgement)
_IDS: Final = msgspec.json.Decoder(IdList)
Floors = Mapping[int, int]
Told = Callable[[UUID, Sequence[UUID]], None]
"""Called with a device and messages that it has acknowledged, once the log has it and before the answer."""


class Mailbox:
    """The handlers. `clock` gives seconds since the epoch."""

    def __init__(
        self,
        *,
        log: EventLog,
        reads: Reads,
        progress: Progress,
        freshness: Freshness,
        directory: Directory,
        cursors: Cursors,
        lag: LagWatch,
        phase: Phase,
        producer: str,
        clock: Callable[[], float],
    ) -> None:
        self._log = log
        self._reads = reads
        self._progress = progress
        self._freshness = freshness
        self._directory = directory
        self._cursors = cursors
        self._lag = lag
        self._phase = phase
        self._producer = producer
        self._clock = clock
        self._handed = HandedOut()
        self._told: list[Told] = []

    def on_acknowledged(self, told: Told) -> None:
        """Tell of every acknowledgement from now on: what a socket of the device has in flight is so no more."""
        self._told.append(told)

    async def sync(self, call: Call) -> Answer:
        """GET /messages/sync."""
        query, who = call.query(SyncQuery), call.principal
        after = self._cursors.read(who.user, who.device, query.cursor) if query.cursor else START
        as_of: int | None = int(self._clock() * 1000)
        floors, complete = await self._floors(who, query.stale == "ok")
        if query.wait and complete:
            seconds = min(query.wait, who.expires_at - self._clock())
            arrivals = self._progress.arrivals(who.user)
            rows = await awaited(
                call,
                self._phase.draining,
                arrivals,
                seconds,
                lambda: self._rows(who, after, query.limit, floors),
                lambda rows: bool(rows.rows),
            )
        else:
            rows = await self._rows(who, after, query.limit, floors)
        if complete:
            self._remember(who, rows, floors)
        else:
            as_of = self._lag.complete_at_ms.get(self._partition(who))
        messages = await self._opened(who, rows.rows, call.request_id)
        return answer(self._page(who, query.cursor, rows, messages, as_of, complete))

    async def ack(self, call: Call) -> Answer:
        """POST /messages/ack."""
        asked, who = await call.body(_ACK, IDS_ON_THE_WIRE), call.principal
        if isinstance(asked.ids, UnsetType) == isinstance(asked.up_to, UnsetType):
            raise invalid("ids", "exactly one of ids and up_to is needed")
        if not isinstance(asked.up_to, UnsetType):
            upto = self._cursors.read(who.user, who.device, asked.up_to)
            return answer(AcknowledgedCount(await self._ack_up_to(who, upto)))
        return await self._acknowledge(who, asked.ids or [], MessagesDelivered, lambda found: found.delivered_to_device)

    async def read(self, call: Call) -> Answer:
        """POST /messages/read. One fact says both: Read implies Delivered."""
        asked, who = await call.body(_IDS, IDS_ON_THE_WIRE), call.principal
        return await self._acknowledge(who, asked.ids, MessagesRead, lambda found: found.read and found.delivered_to_device)

    async def _floors(self, who: Principal, stale: bool) -> tuple[Floors, bool]:
        """What the answer must contain, and whether that is everything."""
        try:
            return await self._freshness.of_account(self._partition(who), who.user), True
        except Problem as problem:
            if stale and problem.code == "log_unavailable":
                return {}, False
            raise

    async def _rows(self, who: Principal, after: int, limit: int, floors: Floors) -> Rows:
        with asking_projection():
            return await self._reads.page(
                who.user, who.device, after=after, limit=limit, max_bytes=MAX_PAGE_BYTES, floors=floors
            )

    def _page(
        self, who: Principal, cursor: str, rows: Rows, messages: list[Received], as_of: int | None, complete: bool
    ) -> Page:
        if rows.rows:
            cursor = self._cursors.write(who.user, who.device, rows.rows[-1].position)
        return Page(
            messages=messages,
            cursor=cursor or self._cursors.write(who.user, who.device, START),
            has_more=rows.has_more,
            pending=rows.pending,
            as_of=None if as_of is None else rfc3339(as_of),
            complete=UNSET if complete else False,
        )

    async def _opened(self, who: Principal, rows: Sequence[MailboxRow], request_id: str) -> list[Received]:
        if not rows:
            return []
        with asking_accounts():
            keys = await self._directory.keys_of(who.user)
        if keys is None:
            raise Problem("token_revoked", "This account has been erased.")
        return [Received(**opened(keys, who.user, row, request_id)) for row in rows]

    async def _acknowledge(
        self,
        who: Principal,
        asked: Iterable[UUID],
        kind: type[MessagesDelivered] | type[MessagesRead],
        done: Callable[[Found], bool],
    ) -> Answer:
        ids = list(dict.fromkeys(asked))
        shown = self._handed.all(who.device, ids) if kind is MessagesDelivered else None
        if shown and await self._freshness.unchanged(self._partition(who), who.user, min(one.since for one in shown)):
            await self._append(who, kind, shown)
            return answer(Acknowledged(acknowledged=ids, already=[], unknown=[]))
        floors = await self._freshness.of_account(self._partition(who), who.user)
        with asking_projection():
            found = {row.message_id: row for row in await self._reads.outstanding(who.user, who.device, ids, floors=floors)}
        new = [found[one] for one in ids if one in found and not done(found[one])]
        if new:
            await self._append(who, kind, new)
        fresh = {row.message_id for row in new}
        return answer(
            Acknowledged(
                acknowledged=[one for one in ids if one in fresh],
                already=[one for one in ids if one in found and one not in fresh],
                unknown=[one for one in ids if one not in found],
            )
        )

    async def _ack_up_to(self, who: Principal, position: int) -> int:
        floors = await self._freshness.of_account(self._partition(who), who.user)
        after, count = START, 0
        while True:
            with asking_projection():
                entries = await self._reads.up_to(
                    who.user, who.device, position, after=after, limit=MAX_ENTRIES, floors=floors
                )
            if entries:
                await self._append(who, MessagesDelivered, entries)
                after, count = entries[-1].position, count + len(entries)
            if len(entries) < MAX_ENTRIES:
                return count

    async def _append(
        self, who: Principal, kind: type[MessagesDelivered] | type[MessagesRead], rows: Sequence[Entry | Found | Handed]
    ) -> None:
        partition = self._partition(who)
        ids = [row.message_id for row in rows]
        self._handed.remove(who.device, ids)
        fact = kind(
            event_id=new_id(),
            producer=self._producer,
            recipient=who.user,
            device_id=who.device,
            entries=tuple(
                Entry(message_id=row.message_id, position=row.position, sender=row.sender)
                for row in sorted(rows, key=lambda row: row.position)
            ),
            via=Via.HTTP,
        )
        started = perf_counter()
        try:
            with self._freshness.own.appending(partition, who.user) as note:
                note((await self._log.append(fact, partition=partition)).offset)
        except LogUnavailable as error:
            raise log_away(error) from error
        APPEND_SECONDS.observe(perf_counter() - started)
        for told in self._told:
            told(who.device, ids)

    def _remember(self, who: Principal, rows: Rows, floors: Floors) -> None:
        since = floors[self._partition(who)]
        self._handed.add(who.device, [Handed(row.message_id, row.position, row.sender, since) for row in rows.rows])

    def _partition(self, who: Principal) -> int:
        return partition_for(who.user, self._log.partitions)
