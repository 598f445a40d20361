"""One life of an aiokafka producer, from connecting to its first fatal error.

Read in aiokafka 0.14 (`producer/sender.py`, `producer/message_accumulator.py`) and pinned by the contract suite:
- an idempotent batch is retried for ever and keeps its sequence number, so a retry makes no second record;
- the future of `send_batch` holds the base offset and the broker's append time (-1 where the topic keeps the client's);
- a batch that fails for good leaves a gap in the sequence of its partition, after which the broker refuses everything from
  this producer there, and an unexpected error ends the sender. So the first failure of any batch ends the session;
- the first record of a batch is taken at any size, so a record larger than the batch goes alone.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerClosed
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata, TopicPartition

from producers.connection import KafkaConnection
from producers.lanes import Place

BATCH_BYTES = 1_048_576
REQUEST_TIMEOUT_MS = 5_000
OPEN_SECONDS = 5.0
CLOSE_SECONDS = 3.0
_RETRY_MS = 100


class _Batches(set[Any]):
    """aiokafka's batches on their way. One that waits for its retry is not among them, and when it then fails its callback
    takes it out once more: KeyError in the event loop (0.14, `MessageAccumulator.reenqueue` and `_pop_batch`)."""

    remove = set.discard


class Session:
    """A started producer. `broken` is set once it can not be trusted any more."""

    def __init__(self, producer: AIOKafkaProducer, partitions: dict[str, int]) -> None:
        self._producer = producer
        self.partitions = partitions
        self.broken = asyncio.Event()

    @classmethod
    async def open(cls, connection: KafkaConnection, topics: Iterable[str]) -> "Session":
        """Connect and learn the partitions of `topics`. Raises KafkaError, OSError or TimeoutError within OPEN_SECONDS."""
        producer = AIOKafkaProducer(
            **connection.client_options(),
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=BATCH_BYTES,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            retry_backoff_ms=_RETRY_MS,
        )
        producer._message_accumulator._pending_batches = _Batches()
        session = cls(producer, {})
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await producer.start()
                for topic in topics:
                    session.partitions[topic] = len(await producer.partitions_for(topic))
        except BaseException:
            await session.close()
            raise
        producer._sender.sender_task.add_done_callback(lambda _: session.broken.set())
        return session

    def builder(self) -> BatchBuilder:
        """An empty batch."""
        return self._producer.create_batch()

    def leader(self, place: Place) -> int | None:
        """The broker that this partition's requests go to; None while none is known."""
        leader: int | None = self._producer.client.cluster.leader_for_partition(TopicPartition(*place))
        return leader

    async def hand_over(self, builder: BatchBuilder, place: Place) -> "asyncio.Future[RecordMetadata]":
        """Give a batch to the sender. An exception here means that it did not get it."""
        topic, partition = place
        builder.close()
        future: asyncio.Future[Any] = await self._producer.send_batch(builder, topic, partition=partition)
        return future

    async def close(self) -> None:
        """End the producer within CLOSE_SECONDS. Batches that it still holds fail; their outcome stays unknown.

        `stop` alone waits for ever for batches that are retried for ever, so the sender is ended and its batches are failed
        first; aiokafka has no public name for either. In a task of its own, because ending a sender that waits for the
        broker makes `stop` raise CancelledError.
        """
        sender = self._producer._sender.sender_task
        if sender is not None:
            sender.cancel()
        self._producer._message_accumulator.fail_all(ProducerClosed())
        ending = asyncio.create_task(self._end())
        await asyncio.wait({ending}, timeout=CLOSE_SECONDS)
        ending.cancel()

    async def _end(self) -> None:
        for end in (self._producer.client.close, self._producer.stop):  # one connection may fail to close
            with contextlib.suppress(KafkaError, OSError):
                await end()
