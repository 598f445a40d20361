"""How the processors' consumer group stands, asked from Kafka: health calls say so for the whole service, and reads of
receipts wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from api.lag import Lag
from producers.connection import KafkaConnection
from producers.log import EventLog, LogUnavailable
from schemas.topics import APP_ID, LIFECYCLE


class ProcessorGroup:
    """Call it for `members` (how many processors Kafka counts) and `seconds` (how long the oldest undecided record has been
    seen waiting). LogUnavailable where Kafka does not answer; the caller bounds the time. `async with` closes it.
    """

    def __init__(self, connection: KafkaConnection, log: EventLog) -> None:
        self._connection = connection
        self._log = log
        self._lag = Lag()
        self._admin: AIOKafkaAdminClient | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> ProcessorGroup:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._close()

    async def __call__(self) -> Mapping[str, Any]:
        async with self._asking() as admin:
            (described,) = await admin.describe_consumer_groups([APP_ID])
        done = await self.committed()
        now = time.monotonic()
        self._lag.sample(now, await self._log.ends(), done)
        members = sum(len(members) for _, _, _, _, _, members, *_ in described.groups)
        return {"members": members, "seconds": max(self._lag.seconds(now).values(), default=0.0)}

    async def committed(self) -> Mapping[int, int]:
        """Up to where the processors have decided, and what they wrote is in the log: partition -> offset. Raises
        LogUnavailable within some seconds."""
        async with self._asking() as admin:
            found = await admin.list_consumer_group_offsets(APP_ID)
        return {place.partition: at.offset for place, at in found.items() if place.topic == LIFECYCLE}

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[AIOKafkaAdminClient]:
        try:
            yield await self._opened()
        except (KafkaError, OSError) as error:
            await self._close()
            raise LogUnavailable("rejected", f"Kafka does not say how the processors stand: {error!r}") from error

    async def _opened(self) -> AIOKafkaAdminClient:
        async with self._opening:
            if self._admin is None:
                admin = AIOKafkaAdminClient(**self._connection.client_options(), request_timeout_ms=2_000)
                try:
                    await admin.start()
                except BaseException:
                    await admin.close()
                    raise
                self._admin = admin
            return self._admin

    async def _close(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None:
            await admin.close()
