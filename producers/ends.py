"""How far a topic reaches, asked of Kafka (ListOffsets) on a connection of its own: behind a produce request that waits for
the disk the answer would wait, too."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy
from aiokafka.structs import TopicPartition

from producers.connection import KafkaConnection
from producers.log import DEADLINE_SECONDS, LogUnavailable

_QUESTION_SECONDS = 4.5
_IMPATIENT_SECONDS = 1.0
_RETRY_SECONDS = 0.1
_CLIENT_TIMEOUT_MS = 2_000
_READ_UNCOMMITTED = 0
_ANY_CONSUMER = -1


class Ends:
    """One question at a time for all who ask. Who comes while a question is under way gets the answer of the next one, so
    every answer was asked for after its asker came."""

    def __init__(self, connection: KafkaConnection, topic: str) -> None:
        self._connection = connection
        self._topic = topic
        self._client: AIOKafkaClient | None = None
        self._under_way: asyncio.Task[Mapping[int, int]] | None = None
        self._next: asyncio.Task[Mapping[int, int]] | None = None
        self.failing = False
        """The last question got no answer. The next ones are then tried for a second only."""

    async def ask(self) -> Mapping[int, int]:
        """Partition -> offset after its last readable record. Raises `LogUnavailable` within DEADLINE_SECONDS."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._under_way))
            self._next.add_done_callback(_noticed)
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await asyncio.shield(self._next)
        except (TimeoutError, KafkaError, OSError) as error:
            raise LogUnavailable("rejected", f"Kafka does not say where {self._topic} ends: {error!r}. Ask again") from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise LogUnavailable("rejected", "this log is being closed. Ask another process") from error

    async def close(self) -> None:
        """End what is under way and the connection."""
        for task in (self._next, self._under_way):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        await self._disconnect()

    async def _after(self, previous: "asyncio.Task[Mapping[int, int]] | None") -> Mapping[int, int]:
        if previous is not None:
            await asyncio.wait({previous})
        self._under_way, self._next = self._next, None
        try:
            answer = await self._question()
        except (TimeoutError, KafkaError, OSError):
            self.failing = True
            await self._disconnect()
            raise
        self.failing = False
        return answer

    async def _question(self) -> Mapping[int, int]:
        """Ask until there is an answer or no time. Every failure drops the connection: a new one knows the leaders anew."""
        async with asyncio.timeout(_IMPATIENT_SECONDS if self.failing else _QUESTION_SECONDS):
            while True:
                try:
                    return await self._ask_leaders(await self._connected())
                except (KafkaError, OSError):
                    await self._disconnect()
                await asyncio.sleep(_RETRY_SECONDS)

    async def _ask_leaders(self, client: AIOKafkaClient) -> Mapping[int, int]:
        cluster = client.cluster
        by_leader: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for partition in cluster.partitions_for_topic(self._topic) or ():
            leader = cluster.leader_for_partition(TopicPartition(self._topic, partition))
            by_leader[-1 if leader is None else leader].append((partition, OffsetResetStrategy.LATEST))
        if not by_leader or -1 in by_leader:
            raise KafkaError(f"{self._topic} is missing or has a partition without a leader")
        requests = [
            client.send(leader, OffsetRequest(_ANY_CONSUMER, _READ_UNCOMMITTED, [(self._topic, partitions)]))
            for leader, partitions in by_leader.items()
        ]
        ends: dict[int, int] = {}
        for response in await asyncio.gather(*requests):
            for _, partitions in response.topics:
                for partition, code, _, offset in partitions:
                    if code:
                        raise for_code(code)()
                    ends[partition] = offset
        return ends

    async def _connected(self) -> AIOKafkaClient:
        if self._client is None:
            client = AIOKafkaClient(**self._connection.client_options(), request_timeout_ms=_CLIENT_TIMEOUT_MS)
            self._client = client
            await client.bootstrap()
            await client.set_topics([self._topic])
        return self._client

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()


def _noticed(question: "asyncio.Task[Mapping[int, int]]") -> None:
    """Take note of a failure also where all who asked have stopped waiting; else asyncio prints a stack trace for it."""
    if not question.cancelled():
        question.exception()
