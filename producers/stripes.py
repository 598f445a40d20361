"""Several connections to Kafka side by side, each with partitions of its own.

A broker serves one request of a connection at a time, and within it one partition after the other, waiting for the disk at
each (`flush.messages=1`). Side by side they wait at the same time, and the file system makes one commit of what waits
together: with 64 callers on 8 partitions 4 connections took two to four times as many records as one, for a third more
processor time a record.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Self

from producers.connection import KafkaConnection
from producers.kafka import MAX_BYTES, MAX_RECORDS, KafkaLog
from producers.lanes import Answer, Place
from producers.log import Appended
from schemas.codec import Encoded, Record
from schemas.topics import LIFECYCLE

STRIPES = 4
PACE_SECONDS = 0.01
"""Every request has the broker sync each partition in it three times over: fewer and fuller ones."""


class SideBySide(ABC):
    """`producers.log.EventLog` over several of `KafkaLog`. Every partition of a topic belongs to one of them, so its records
    keep their order."""

    def __init__(self, logs: Sequence[KafkaLog]) -> None:
        self._logs = logs

    @abstractmethod
    def _log(self, place: Place) -> KafkaLog:
        """The one that this partition belongs to."""

    @property
    def partitions(self) -> int:
        return self._logs[0].partitions

    @property
    def healthy(self) -> bool:
        return all(log.healthy for log in self._logs)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for log in self._logs:
                await stack.enter_async_context(log)
            stack.pop_all()  # all are open: closing them is our own exit's business
        return self

    async def __aexit__(self, *failure: object) -> None:
        """Close all at once: each may need its whole bound."""
        await asyncio.gather(*(log.__aexit__(*failure) for log in self._logs))

    async def append(self, record: Record, *, partition: int | None = None) -> Appended:
        place, encoded = self._logs[0].address(record, partition)
        return await self._log(place).take(place, encoded)

    async def append_all(self, records: Sequence[Record], *, partitions: Sequence[int | None] | None = None) -> list[Answer]:
        wanted = partitions if partitions is not None else (None,) * len(records)
        groups: dict[KafkaLog, list[tuple[int, tuple[Place, Encoded]]]] = {}
        for at, (record, partition) in enumerate(zip(records, wanted, strict=True)):
            addressed = self._logs[0].address(record, partition)
            groups.setdefault(self._log(addressed[0]), []).append((at, addressed))
        answers: dict[int, Answer] = {}

        async def take(log: KafkaLog, group: list[tuple[int, tuple[Place, Encoded]]]) -> None:
            taken = await log.take_all([addressed for _, addressed in group])
            answers.update(zip([at for at, _ in group], taken, strict=True))

        await asyncio.gather(*(take(log, group) for log, group in groups.items()))
        return [answers[at] for at in range(len(records))]

    async def ends(self, topic: str = LIFECYCLE) -> Mapping[int, int]:
        return await self._logs[0].ends(topic)


class StripedLog(SideBySide):
    """`stripes` connections that share out the partitions. The bounds are those of one log, shared out."""

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        stripes: int = STRIPES,
        max_records: int = MAX_RECORDS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__(
            [
                KafkaLog(
                    connection,
                    max_records=max_records // stripes,
                    max_bytes=max_bytes // stripes,
                    pace_seconds=PACE_SECONDS,
                )
                for _ in range(stripes)
            ]
        )

    def _log(self, place: Place) -> KafkaLog:
        return self._logs[place[1] % len(self._logs)]
