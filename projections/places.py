"""Where the records about a message or an account are: an index for whoever reads the log itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from projections.database import Database, load_queries
from schemas.topics import LIFECYCLE

_QUERIES: Final = load_queries("projections", "evidence.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Offsets in the recipient's partition of the lifecycle log. What is at `folded` or later the projection has not read;
    `receipts` are offsets in the sender's partition of the receipts topic."""

    recipient: UUID
    partition: int
    positions: Sequence[int]
    folded: int
    sender: UUID | None
    receipts: Sequence[int]


async def places(database: Database, message_id: UUID) -> Places | None:
    """Those of a message, or None where the projection does not know it. Raises `DatabaseUnavailable`."""
    async with database.snapshot() as snapshot:
        found = await snapshot.tuples(_QUERIES["message"], topic=LIFECYCLE, id=message_id)
        if not found:
            return None
        positions = await snapshot.tuples(_QUERIES["positions"], id=message_id)
        told = await snapshot.tuples(_QUERIES["receipts"], id=message_id)
    ((recipient, partition, folded),) = found
    return Places(
        recipient=recipient,
        partition=partition,
        positions=sorted(position for (position,) in positions),
        folded=folded,
        sender=told[0][0] if told else None,
        receipts=[position for _, position in told],
    )


async def account_named(database: Database, name: str) -> UUID | None:
    """The account of a name, also of one that was erased since. Raises `DatabaseUnavailable`."""
    rows = await database.tuples(_QUERIES["account"], name=name)
    return rows[0][0] if rows else None
