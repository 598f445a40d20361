"""Taking messages: POST /messages and POST /messages/batch. 202 is said only after the log holds the message for good."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from api.batches import messages_of
from api.calls import PRIVATE, Answer, Call, answer
from api.contents import checked_key, content_of_message, idempotency_key
from api.directory import Directory, Recipient
from api.intake import Draft, Intake
from api.limits import Limits
from api.models import Accepted, BatchAnswer, BatchMessage, NewMessage
from api.outages import asking_accounts
from api.problems import Problem
from api.times import rfc3339
from api.tokens import Principal

ONE_ON_THE_WIRE: Final = 524_288
"""Bytes of one POST: the largest body with each byte as a JSON escape, and room for the rest."""

BATCH_ON_THE_WIRE: Final = 8_388_608

_ONE: Final = msgspec.json.Decoder(NewMessage)


class Messages:
    """The handlers."""

    def __init__(self, *, directory: Directory, intake: Intake, limits: Limits) -> None:
        self._directory = directory
        self._limits = limits
        self._intake = intake

    async def post(self, call: Call) -> Answer:
        """POST /messages. With a key the rate is asked later: what is stored already is answered whatever the rate says."""
        key = idempotency_key(call.header(b"idempotency-key"))
        if key is None:
            self._limits.message(call.principal.user.int)
        message = await call.body(_ONE, ONE_ON_THE_WIRE)
        content = content_of_message(message)
        recipient = self._directory.known(message.to)
        if recipient is None:
            recipient = await self._found(message.to)
        if recipient is None:
            if key is not None:
                self._limits.message(call.principal.user.int)
            raise _nobody()
        message_id, at_ms, replayed = await self._intake.store_one(call.principal, Draft(recipient, content, key))
        return _accepted(recipient.name, message_id, at_ms, replayed)

    async def batch(self, call: Call) -> Answer:
        """POST /messages/batch: each message on its own, those to one recipient in their order."""
        messages = messages_of(await call.raw_body(BATCH_ON_THE_WIRE))
        drafts = self._counted(call.principal, await self._drafts(messages))
        open_drafts = [draft for draft in drafts if isinstance(draft, Draft)]
        outcomes = iter(await self._intake.store(call.principal, open_drafts))
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

    async def _found(self, name: str) -> Recipient | None:
        with asking_accounts(outcome="rejected"):
            return (await self._directory.find([name])).get(name)

    def _counted(self, who: Principal, drafts: list[Draft | Problem]) -> list[Draft | Problem]:
        """Count what is refused already against the rate, too. The others are counted once it is known that they are new."""
        bad = [at for at, draft in enumerate(drafts) if isinstance(draft, Problem)]
        allowed, refusal = self._limits.messages(who.user.int, len(bad))
        for at in bad[allowed:]:
            drafts[at] = refusal or drafts[at]
        return drafts

    async def _drafts(self, messages: Sequence[BatchMessage | Problem]) -> list[Draft | Problem]:
        names = {message.to for message in messages if not isinstance(message, Problem)}
        try:
            with asking_accounts(outcome="rejected"):
                known = await self._directory.find(names)
                unreachable = None
        except Problem as problem:
            known = {name: found for name in names if (found := self._directory.known(name)) is not None}
            unreachable = problem
        return [_draft(message, known, unreachable) for message in messages]


def _draft(message: BatchMessage | Problem, known: dict[str, Recipient], unreachable: Problem | None) -> Draft | Problem:
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


def _accepted(to: str, message_id: UUID, at_ms: int, replayed: bool) -> Answer:
    headers = [PRIVATE, (b"location", b"/messages/" + str(message_id).encode())]
    if replayed:
        headers.append((b"idempotency-replayed", b"true"))
    return answer(Accepted(message_id, to, rfc3339(at_ms)), 202, headers)


def _result(draft: Draft, became: tuple[UUID, int, bool]) -> Accepted:
    message_id, at_ms, replayed = became
    return Accepted(message_id, draft.recipient.name, rfc3339(at_ms), replayed=True if replayed else UNSET)


def _refuse_if_log_away(results: list[Any]) -> None:
    """Nothing was stored, and the log is why: the whole batch is 503."""
    away = [result["problem"] for result in results if result["problem"]["code"] == "log_unavailable"]
    if away:
        unknown = any(problem["outcome"] == "unknown" for problem in away)
        detail = "None of these messages is known to be in the log. See each result."
        raise Problem("log_unavailable", detail, outcome="unknown" if unknown else "rejected", results=results)


def _nobody() -> Problem:
    return Problem("recipient_unknown", "No account has this name.")
