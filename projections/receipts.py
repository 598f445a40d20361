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


def counts(outcome: Outcome, before: Iterable[Outcome]) -> bool:
    """Whether a receipt tells something after those that came before it about the same message."""
    return all(earlier is Outcome.DELIVERED and outcome is Outcome.READ for earlier in before)


async def apply(connection: Connection, records: Iterable[Told]) -> Applied:
    """Fold receipts, each partition's in their order, inside the caller's transaction. What does not count is left out; a
    receipt that says for a second time what was said is no fault, so nothing is counted as ignored."""
    known: dict[tuple[UUID, UUID], list[Outcome]] = {}
    kept: list[Told] = []
    for told in records:
        before = known.setdefault((told.receipt.sender, told.receipt.message_id), [])
        if counts(told.receipt.outcome, before):
            before.append(told.receipt.outcome)
            kept.append(told)
    if kept:
        await connection.run(
            QUERIES["tell"],
            accounts=columns.uuids([told.receipt.sender for told in kept]),
            positions=columns.bigints([told.place.offset for told in kept]),
            message_ids=columns.uuids([told.receipt.message_id for told in kept]),
            recipients=columns.uuids([told.receipt.recipient for told in kept]),
            outcomes=columns.texts([told.receipt.outcome.value for told in kept]),
            at_ms=columns.bigints([told.receipt.at_ms for told in kept]),
        )
    return Applied()
