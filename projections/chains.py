"""How far the projector's own chains have come, for the notary to compare."""

from collections.abc import Mapping
from typing import Final

from projections.database import Database, load_queries
from schemas.chain import Link

_QUERIES: Final = load_queries("projections", "reads.sql")


async def projected_chains(database: Database) -> Mapping[tuple[str, int], Link]:
    """(topic, partition) -> its chain, as it was committed together with its offset. Without those that are older than the
    chain. Raises `DatabaseUnavailable`."""
    rows = await database.tuples(_QUERIES["chains"])
    return {(topic, partition): Link(next_offset, h) for topic, partition, next_offset, h in rows}
