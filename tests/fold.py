"""A projector in a few lines, over a log in memory: the real `apply`, offsets and announcements, one transaction a look."""

from __future__ import annotations

import asyncio

from producers.memory import MemoryLog
from projections.apply import apply
from projections.database import Database
from projections.progress import CHANNEL, announcements
from schemas.topics import LIFECYCLE

_ADVANCE = b"""
INSERT INTO offsets (topic, partition, next_offset) VALUES (%(topic)s, %(partition)s, %(next_offset)s)
ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset
"""
_ANNOUNCE = b"SELECT pg_notify(%(channel)s, %(payload)s)"


async def folding(log: MemoryLog, database: Database) -> None:
    """Fold what the log holds and what comes, without end."""
    applied = dict(await database.tuples(b"SELECT partition, next_offset FROM offsets"))
    while True:
        for partition in range(log.partitions):
            records = log.records(partition, applied.get(partition, 0))
            if records:
                applied[partition] = records[-1].place.offset + 1
                async with database.transaction() as transaction:
                    await apply(transaction, records)
                    await transaction.run(_ADVANCE, topic=LIFECYCLE, partition=partition, next_offset=applied[partition])
                    recipients = {recorded.fact.recipient for recorded in records}
                    for payload in announcements(partition, applied[partition], recipients):
                        await transaction.run(_ANNOUNCE, channel=CHANNEL, payload=payload)
        await asyncio.sleep(0.002)
