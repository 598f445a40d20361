"""Topics with a made-up history in them, for programs that read the log."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaProducer

from producers.connection import KafkaConnection
from producers.topics import create_topics
from schemas.topics import LIFECYCLE
from tests.benchmarks.project import PARTITIONS, history

A_MESSAGE = 2.9
"""Records that a message of `project.history` comes to, about."""


async def write(kafka: str, events: int) -> int:
    """Fill the topics; how many records they have."""
    await create_topics(KafkaConnection(bootstrap=kafka), partitions=PARTITIONS)
    made, *_ = history(int(events / A_MESSAGE))
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks=1, linger_ms=5, max_batch_size=1 << 18) as producer:
        for partition, records in made.log.items():
            sent = [
                await producer.send(LIFECYCLE, record.value, record.key, partition=partition, headers=list(record.headers))
                for record in records
            ]
            await asyncio.gather(*sent)
    return made.size
