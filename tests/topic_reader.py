"""Reading a partition back from Kafka, from one offset to another."""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition


async def read_partition(bootstrap: str, topic: str, partition: int, first: int, last: int) -> list[Any]:
    """The records of a partition from offset `first` to `last`, both included, as aiokafka gives them."""
    if last < first:
        return []
    place = TopicPartition(topic, partition)
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False) as consumer:
        consumer.assign([place])
        consumer.seek(place, first)
        records: list[Any] = []
        while not records or records[-1].offset < last:
            records += (await consumer.getmany(place, timeout_ms=5000)).get(place, [])
    return [record for record in records if record.offset <= last]
