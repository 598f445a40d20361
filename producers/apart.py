"""Pushes on a connection of their own: somebody waits for them, and behind facts they would wait for the disk, partition by
partition. The topic of pushes is not synced, so theirs is quick."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Self

from producers.connection import KafkaConnection
from producers.kafka import KafkaLog
from producers.lanes import Answer
from producers.log import Appended
from schemas.codec import Record
from schemas.push import Push
from schemas.topics import LIFECYCLE


class PushesApart:
    """`producers.log.EventLog` over two of `KafkaLog`, one of them for pushes. The order of a partition is kept."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._facts, self._pushes = KafkaLog(connection), KafkaLog(connection)

    @property
    def partitions(self) -> int:
        return self._facts.partitions

    @property
    def healthy(self) -> bool:
        return self._facts.healthy and self._pushes.healthy

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._facts)
            await stack.enter_async_context(self._pushes)
            stack.pop_all()  # both are open: closing them is our own exit's business
        return self

    async def __aexit__(self, *failure: object) -> None:
        await asyncio.gather(self._facts.__aexit__(*failure), self._pushes.__aexit__(*failure))

    async def append(self, record: Record, *, partition: int | None = None) -> Appended:
        return await self._log(record).append(record, partition=partition)

    async def append_all(self, records: Sequence[Record], *, partitions: Sequence[int | None] | None = None) -> list[Answer]:
        wanted = partitions if partitions is not None else (None,) * len(records)
        groups: dict[KafkaLog, list[int]] = {}
        for at, record in enumerate(records):
            groups.setdefault(self._log(record), []).append(at)
        answers: dict[int, Answer] = {}

        async def take(log: KafkaLog, group: list[int]) -> None:
            taken = await log.append_all([records[at] for at in group], partitions=[wanted[at] for at in group])
            answers.update(zip(group, taken, strict=True))

        await asyncio.gather(*(take(log, group) for log, group in groups.items()))
        return [answers[at] for at in range(len(records))]

    async def ends(self, topic: str = LIFECYCLE) -> Mapping[int, int]:
        return await self._facts.ends(topic)

    def _log(self, record: Record) -> KafkaLog:
        return self._pushes if isinstance(record, Push) else self._facts
