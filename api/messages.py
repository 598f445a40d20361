"""Taking messages: POST /messages and POST /messages/batch. 202 is said only after the log holds the message for good."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from api.calls import PRIVATE, Answer, Call, answer, decoded, faulty
from api.contents import checked_key, content_of_message, idempotency_key
from api.directory import Directory, Recipient
from api.ids import new_id
from api.lag import LagWatch
from api.models import MAX_IDS, Accepted, BatchAnswer, BatchMessage, NewMessage
from api.outages import asking_accounts, log_away
from api.problems import Problem, invalid
from api.replays import Became, Replays, Storing, judged
from api.sealing import digest_of, keyed_id, seal
from api.times import rfc3339
from api.tokens import Principal
from producers.log import EventLog, LogUnavailable
from projections.errors import DatabaseUnavailable
from projections.reads import Reads
from schemas.events import MessageStored
from schemas.metrics import MESSAGES_ACCEPTED

ONE_ON_THE_WIRE: Final = 524_288
"""Bytes of one POST: the largest body with each byte as a JSON escape, and room for the rest."""

BATCH_ON_THE_WIRE: Final = 8_388_608

_ONE = msgspec.json.Decoder(NewMessage)
_BATCH = msgspec.json.Decoder(list[BatchMessage])
_LOOSE = msgspec.json.Decoder(list[msgspec.Raw])
_ITEM = msgspec.json.Decoder(BatchMessage)


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """A batch before its messages are looked at, so that one bad message does not refuse the others."""

    messages: msgspec.Raw


_ENVELOPE = msgspec.json.Decoder(Envelope)


@dataclass(slots=True)
class Draft:
    """A message on its way: checked, addressed, not yet in the log."""

    recipient: Recipient
    content: bytes
    key: str | None = None
    message_id: UUID | None = None
    digest: bytes = b""


Outcome = tuple[UUID, int, bool] | Problem
"""Message id, append time in milliseconds, whether it was stored before; or why not."""


class Messages:
    """The handlers. `clock` gives seconds since the epoch."""

    def __init__(
        self, *, log: EventLog, directory: Directory, reads: Reads, lag: LagWatch, producer: str, clock: Callable[[], float]
    ) -> None:
        self._log = log
        self._directory = directory
        self._reads = reads
        self._lag = lag
        self._producer = producer
        self._clock = clock
        self._replays = Replays()

    async def post(self, call: Call) -> Answer:
        """POST /messages."""
        message = await call.body(_ONE, ONE_ON_THE_WIRE)
        key = idempotency_key(call.header(b"idempotency-key"))
        content = content_of_message(message)
        recipient = self._directory.known(message.to)
        if recipient is None:
            recipient = await self._found(message.to)
        if key is not None:
            return await self._post_keyed(call.principal, Draft(recipient, content, key))
        self._check_load()
        fact = self._fact(call.principal, Draft(recipient, content))
        try:
            appended = await self._log.append(fact, partition=recipient.partition)
        except LogUnavailable as error:
            raise log_away(error, str(fact.message_id)) from error
        MESSAGES_ACCEPTED.inc()
        return _accepted(recipient.name, fact.message_id, appended.at_ms)

    async def batch(self, call: Call) -> Answer:
        """POST /messages/batch: each message on its own, those to one recipient in their order."""
        messages = _messages_of(await call.raw_body(BATCH_ON_THE_WIRE))
        drafts = await self._drafts(messages)
        open_drafts = [draft for draft in drafts if isinstance(draft, Draft)]
        outcomes = iter(await self.store(call.principal, open_drafts))
        results: list[Any] = []
        accepted = 0
        for draft in drafts:
            became = next(outcomes) if isinstance(draft, Draft) else draft
            if isinstance(became, Problem):
                results.append({"problem": became.document(call.request_id)})
            else:
                accepted += 1
                results.append(_result(draft, became))  # type: ignore[arg-type]
        if not accepted:
            _refuse_if_log_away(results)
        return answer(BatchAnswer(accepted, len(results) - accepted, results), 202)

    async def store(self, who: Principal, drafts: Sequence[Draft]) -> list[Outcome]:
        """Append what is new and recognise what is not; one outcome a draft, in their order."""
        outcomes: list[Outcome | None] = [None] * len(drafts)
        waiting = await self._recognise(who, drafts, outcomes)
        new = [at for at, outcome in enumerate(outcomes) if outcome is None and at not in waiting]
        try:
            await self._append_all(who, drafts, outcomes, new)
        finally:
            self._settle(drafts, outcomes, new)
        for at, storing in waiting.items():
            outcomes[at] = _replayed(drafts[at], judged(await storing, drafts[at].digest))
        return [outcome for outcome in outcomes if outcome is not None]

    async def _post_keyed(self, who: Principal, draft: Draft) -> Answer:
        (became,) = await self.store(who, [draft])
        if isinstance(became, Problem):
            raise became
        message_id, at_ms, replayed = became
        return _accepted(draft.recipient.name, message_id, at_ms, replayed)

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
            await self._recall(drafts, outcomes, begun)
        return waiting

    async def _recall(self, drafts: Sequence[Draft], outcomes: list[Outcome | None], begun: dict[int, UUID]) -> None:
        """Ask the projection. While PostgreSQL is away we append all the same: the fold rejects a repeat."""
        try:
            stored = await self._reads.stored_all(list(begun.values()))
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

    async def _append_all(
        self, who: Principal, drafts: Sequence[Draft], outcomes: list[Outcome | None], new: Sequence[int]
    ) -> None:
        if not new:
            return
        if self._lag.overloaded:
            for at in new:
                outcomes[at] = _overloaded()
            return
        facts = [self._fact(who, drafts[at]) for at in new]
        appended = await self._log.append_all(facts, partitions=[drafts[at].recipient.partition for at in new])
        stored = 0
        for at, fact, became in zip(new, facts, appended, strict=True):
            if isinstance(became, LogUnavailable):
                outcomes[at] = log_away(became, str(fact.message_id))
            else:
                outcomes[at] = (fact.message_id, became.at_ms, False)
                stored += 1
        MESSAGES_ACCEPTED.inc(stored)

    def _settle(self, drafts: Sequence[Draft], outcomes: Sequence[Outcome | None], new: Sequence[int]) -> None:
        """Tell those who wait for keyed messages what became of them."""
        for at in new:
            draft, outcome = drafts[at], outcomes[at]
            if draft.message_id is not None:
                became: Became = (draft.digest, outcome[1]) if isinstance(outcome, tuple) else outcome or _fault()
                self._replays.end(draft.message_id, became)

    async def _found(self, name: str) -> Recipient:
        with asking_accounts(outcome="rejected"):
            recipient = (await self._directory.find([name])).get(name)
        if recipient is None:
            raise _nobody()
        return recipient

    async def _drafts(self, messages: Sequence[BatchMessage | Problem]) -> list[Draft | Problem]:
        names = {message.to for message in messages if not isinstance(message, Problem)}
        try:
            with asking_accounts(outcome="rejected"):
                known = await self._directory.find(names)
                unreachable = None
        except Problem as problem:
            known = {name: found for name in names if (found := self._directory.known(name)) is not None}
            unreachable = problem
        return [self._draft(at, message, known, unreachable) for at, message in enumerate(messages)]

    def _draft(
        self, at: int, message: BatchMessage | Problem, known: dict[str, Recipient], unreachable: Problem | None
    ) -> Draft | Problem:
        if isinstance(message, Problem):
            return message
        recipient = known.get(message.to)
        if recipient is None:
            return unreachable or _nobody()
        try:
            content = content_of_message(message)
            key = message.idempotency_key
            return Draft(recipient, content, None if isinstance(key, UnsetType) else checked_key("idempotency_key", key))
        except Problem as problem:
            return problem

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

    def _check_load(self) -> None:
        if self._lag.overloaded:
            raise _overloaded()


def _messages_of(raw: bytes) -> list[BatchMessage | Problem]:
    """The messages of a batch, each valid or with what is wrong with it. Raises `Problem` where it is no batch at all."""
    messages = decoded(raw, _ENVELOPE).messages
    found: list[BatchMessage | Problem]
    try:
        found = [*decoded(messages, _BATCH)]
    except Problem as problem:
        if problem.code != "invalid_request":
            raise
        found = [_item(item) for item in _loose(messages)]
    if not 1 <= len(found) <= MAX_IDS:
        raise invalid("messages", f"must have 1 to {MAX_IDS} messages")
    return found


def _loose(messages: msgspec.Raw) -> list[msgspec.Raw]:
    try:
        return _LOOSE.decode(messages)
    except msgspec.ValidationError as error:
        raise faulty(error, at="messages") from error


def _item(item: msgspec.Raw) -> BatchMessage | Problem:
    try:
        return _ITEM.decode(item)
    except msgspec.ValidationError as error:
        return faulty(error)


def _accepted(to: str, message_id: UUID, at_ms: int, replayed: bool = False) -> Answer:
    headers = [PRIVATE, (b"location", b"/messages/" + str(message_id).encode())]
    if replayed:
        headers.append((b"idempotency-replayed", b"true"))
    return answer(Accepted(message_id, to, rfc3339(at_ms)), 202, headers)


def _result(draft: Draft, became: tuple[UUID, int, bool]) -> Accepted:
    message_id, at_ms, replayed = became
    return Accepted(message_id, draft.recipient.name, rfc3339(at_ms), replayed=True if replayed else UNSET)


def _replayed(draft: Draft, judgement: int | Problem) -> Outcome:
    assert draft.message_id is not None
    return judgement if isinstance(judgement, Problem) else (draft.message_id, judgement, True)


def _refuse_if_log_away(results: list[Any]) -> None:
    """Nothing was stored, and the log is why: the whole batch is 503."""
    away = [result["problem"] for result in results if result["problem"]["code"] == "log_unavailable"]
    if away:
        unknown = any(problem["outcome"] == "unknown" for problem in away)
        detail = "None of these messages is known to be in the log. See each result."
        raise Problem("log_unavailable", detail, outcome="unknown" if unknown else "rejected", results=results)


def _nobody() -> Problem:
    return Problem("recipient_unknown", "No account has this name.")


def _overloaded() -> Problem:
    return Problem("overloaded", "Mailboxes are too far behind the log to take more. Try again after Retry-After.")


def _fault() -> Problem:
    return Problem("internal_error", "The service failed while it stored the same message for another call.")
