"""Messages on their way into the log: each draft becomes one record, unless its idempotency key says that it did before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from uuid import UUID

from api.directory import Recipient
from api.ids import new_id
from api.lag import LagWatch
from api.limits import Limits
from api.outages import log_away
from api.problems import Problem
from api.quota import Quota
from api.replays import Became, Replays, Storing, judged
from api.room import Room
from api.sealing import SEALED_MORE, digest_of, keyed_id, seal
from api.tokens import Principal
from producers.log import EventLog, LogUnavailable
from projections.errors import DatabaseUnavailable
from projections.reads import Reads
from schemas.events import MessageStored
from schemas.metrics import APPEND_SECONDS, MESSAGES_ACCEPTED


@dataclass(slots=True)
class Draft:
    """A message on its way: checked, addressed, not yet in the log."""

    recipient: Recipient
    content: bytes
    key: str | None = None
    message_id: UUID | None = None
    digest: bytes = b""

    @property
    def size(self) -> int:
        """Bytes that the mailbox will hold of it."""
        return len(self.content) + SEALED_MORE


Outcome = tuple[UUID, int, bool] | Problem
"""Message id, append time in milliseconds, whether it was stored before; or why not."""


class Intake:
    """Seals and appends. `clock` gives seconds since the epoch."""

    def __init__(
        self,
        *,
        log: EventLog,
        reads: Reads,
        quota: Quota,
        limits: Limits,
        lag: LagWatch,
        producer: str,
        clock: Callable[[], float],
    ) -> None:
        self._log = log
        self._reads = reads
        self._quota = quota
        self._limits = limits
        self._lag = lag
        self._producer = producer
        self._clock = clock
        self._replays = Replays()

    async def store_one(self, who: Principal, draft: Draft) -> tuple[UUID, int, bool]:
        """Append one draft, on the short way if it has no key, as nearly every message; that one is counted against the rate
        already. Raises `Problem`."""
        if draft.key is not None:
            (became,) = await self.store(who, [draft])
            if isinstance(became, Problem):
                raise became
            return became
        if self._lag.overloaded:
            raise _overloaded()
        sender, size, room = who.user.int, draft.size, draft.recipient.room
        if room is None or not room.take(sender, size):
            room = await self._quota.reserve(draft.recipient, sender, size)
        offset, rejected = None, False
        try:
            fact, started = self._fact(who, draft), perf_counter()
            appended = await self._log.append(fact, partition=draft.recipient.partition)
            offset = appended.offset
        except LogUnavailable as error:
            rejected = error.outcome == "rejected"
            raise log_away(error, str(fact.message_id)) from error
        finally:
            room.land(sender, size, offset, rejected=rejected)
        APPEND_SECONDS.observe(perf_counter() - started)
        MESSAGES_ACCEPTED.inc()
        return fact.message_id, appended.at_ms, False

    async def store(self, who: Principal, drafts: Sequence[Draft]) -> list[Outcome]:
        """Append what is new, as far as rate and quota let it, and recognise what is not; one outcome a draft, in their
        order."""
        outcomes: list[Outcome | None] = [None] * len(drafts)
        waiting = await self._recognise(who, drafts, outcomes)
        new = [at for at, outcome in enumerate(outcomes) if outcome is None and at not in waiting]
        try:
            await self._store_new(who, drafts, outcomes, new)
        finally:
            self._settle(drafts, outcomes, new)
        for at, storing in waiting.items():
            outcomes[at] = _replayed(drafts[at], judged(await storing, drafts[at].digest))
        return [outcome for outcome in outcomes if outcome is not None]

    async def _recognise(
        self, who: Principal, drafts: Sequence[Draft], outcomes: list[Outcome | None]
    ) -> dict[int, Storing]:
        """Fill in the outcomes of replays. What is being stored already, here or earlier in this batch, is returned to wait
        for; for every other keyed draft this call has begun to store it."""
        waiting: dict[int, Storing] = {}
        begun: dict[int, UUID] = {}
        for at, draft in enumerate(drafts):
            if draft.key is None:
                continue
            keys, recipient = draft.recipient.keys, draft.recipient.user_id
            draft.message_id = keyed_id(keys, who.user, recipient, draft.key)
            draft.digest = digest_of(keys, draft.content)
            recent = self._replays.recent(draft.message_id, draft.digest)
            if recent is not None:
                outcomes[at] = _replayed(draft, recent)
            elif (storing := self._replays.storing(draft.message_id)) is not None:
                waiting[at] = storing
            else:
                self._replays.begin(draft.message_id)
                begun[at] = draft.message_id
        if begun:
            await self._recall(who.user, drafts, outcomes, begun)
        return waiting

    async def _recall(
        self, sender: UUID, drafts: Sequence[Draft], outcomes: list[Outcome | None], begun: dict[int, UUID]
    ) -> None:
        """Ask the projection. While PostgreSQL is away we append all the same: the fold rejects a repeat."""
        try:
            stored = await self._reads.stored_all(sender, list(begun.values()))
        except DatabaseUnavailable:
            return
        except BaseException:
            for message_id in begun.values():
                self._replays.end(message_id, _fault())
            raise
        for at, message_id in begun.items():
            if message_id in stored:
                became = (stored[message_id].digest, stored[message_id].stored_at_ms)
                outcomes[at] = _replayed(drafts[at], judged(became, drafts[at].digest))
                self._replays.end(message_id, became)

    async def _store_new(
        self, who: Principal, drafts: Sequence[Draft], outcomes: list[Outcome | None], new: Sequence[int]
    ) -> None:
        allowed, refusal = self._limits.messages(who.user.int, len(new))
        for at in new[allowed:]:
            outcomes[at] = refusal
        if self._lag.overloaded:
            for at in new[:allowed]:
                outcomes[at] = _overloaded()
            return
        rooms: dict[int, Room] = {}
        try:
            for at in new[:allowed]:
                try:
                    rooms[at] = await self._quota.reserve(drafts[at].recipient, who.user.int, drafts[at].size)
                except Problem as problem:
                    outcomes[at] = problem
            await self._append_all(who, drafts, outcomes, rooms)
        finally:
            for at, room in rooms.items():
                room.land(who.user.int, drafts[at].size, None)

    async def _append_all(
        self, who: Principal, drafts: Sequence[Draft], outcomes: list[Outcome | None], rooms: dict[int, Room]
    ) -> None:
        """Append what has room. What the log answers for leaves `rooms`."""
        new = list(rooms)
        if not new:
            return
        facts, started = [self._fact(who, drafts[at]) for at in new], perf_counter()
        appended = await self._log.append_all(facts, partitions=[drafts[at].recipient.partition for at in new])
        APPEND_SECONDS.observe(perf_counter() - started)
        stored = 0
        for at, fact, became in zip(new, facts, appended, strict=True):
            if isinstance(became, LogUnavailable):
                outcomes[at] = log_away(became, str(fact.message_id))
                rooms.pop(at).land(who.user.int, drafts[at].size, None, rejected=became.outcome == "rejected")
            else:
                outcomes[at] = (fact.message_id, became.at_ms, False)
                rooms.pop(at).land(who.user.int, drafts[at].size, became.offset)
                stored += 1
        MESSAGES_ACCEPTED.inc(stored)

    def _settle(self, drafts: Sequence[Draft], outcomes: Sequence[Outcome | None], new: Sequence[int]) -> None:
        """Tell those who wait for keyed messages what became of them."""
        for at in new:
            draft, outcome = drafts[at], outcomes[at]
            if draft.message_id is not None:
                became: Became = (draft.digest, outcome[1]) if isinstance(outcome, tuple) else outcome or _fault()
                self._replays.end(draft.message_id, became)

    def _fact(self, who: Principal, draft: Draft) -> MessageStored:
        recipient = draft.recipient
        keys, user_id = recipient.keys, recipient.user_id
        message_id = draft.message_id or new_id()
        return MessageStored(
            event_id=new_id(),
            producer=self._producer,
            recipient=user_id,
            message_id=message_id,
            sender=who.user,
            sender_device=who.device,
            created_at_ms=int(self._clock() * 1000),
            keyed=draft.key is not None,
            sealed=seal(keys, message_id, who.user, user_id, draft.content),
            digest=draft.digest or digest_of(keys, draft.content),
        )


def _replayed(draft: Draft, judgement: int | Problem) -> Outcome:
    assert draft.message_id is not None
    return judgement if isinstance(judgement, Problem) else (draft.message_id, judgement, True)


def _overloaded() -> Problem:
    return Problem("overloaded", "Mailboxes are too far behind the log to take more. Try again after Retry-After.")


def _fault() -> Problem:
    return Problem("internal_error", "The service failed while it stored the same message for another call.")
