"""Folding receipts into their table. A message has one, or Delivered and then Read: the first of its kind counts, and
Erased is the last word on a message that nobody had."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from projections import columns
from projections.apply import QUERIES, Applied
from projections.database import Connection
from schemas.events import Place
from schemas.receipt import Outcome, Receipt


@dataclass(frozen=True, slots=True)
class Told:
    """A receipt with its place, and the append time of its own record in milliseconds."""

    receipt: Receipt
    place: Place
    at_ms: int


async def apply(connection: Connection, records: Iterable[Told]) -> Applied:
    """Fold receipts, each partition's in their order, inside the caller's transaction. What does not count is left out; a
    receipt that says for a second time what was said is no fault, so nothing is counted as ignored."""
    said: dict[tuple[UUID, UUID], list[Outcome]] = {}
    waves: list[list[Told]] = []
    for told in records:
        before = said.setdefault((told.receipt.sender, told.receipt.message_id), [])
        if told.receipt.outcome in before:
            continue
        if len(before) == len(waves):
            waves.append([])
        waves[len(before)].append(told)  # what counts depends on the table, so each message is told one thing at a time
        before.append(told.receipt.outcome)
    for wave in waves:
        await connection.run(
            QUERIES["tell"],
            accounts=columns.uuids([told.receipt.sender for told in wave]),
            positions=columns.bigints([told.place.offset for told in wave]),
            message_ids=columns.uuids([told.receipt.message_id for told in wave]),
            recipients=columns.uuids([told.receipt.recipient for told in wave]),
            outcomes=columns.texts([told.receipt.outcome.value for told in wave]),
            at_ms=columns.bigints([told.receipt.at_ms for told in wave]),
        )
    return Applied()
