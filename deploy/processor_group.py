"""How the processors' consumer group stands, asked from Kafka: the API's health calls say so for the whole service."""

from __future__ import annotations

import time
from collections.abc import Mapping
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

    async def __aenter__(self) -> ProcessorGroup:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._close()

    async def __call__(self) -> Mapping[str, Any]:
        try:
            admin = await self._opened()
            (described,) = await admin.describe_consumer_groups([APP_ID])
            committed = await admin.list_consumer_group_offsets(APP_ID)
        except (KafkaError, OSError) as error:
            await self._close()
            raise LogUnavailable("rejected", f"Kafka does not say how the processors stand: {error!r}") from error
        done = {place.partition: found.offset for place, found in committed.items() if place.topic == LIFECYCLE}
        now = time.monotonic()
        self._lag.sample(now, await self._log.ends(), done)
        members = sum(len(members) for _, _, _, _, _, members, *_ in described.groups)
        return {"members": members, "seconds": max(self._lag.seconds(now).values(), default=0.0)}

    async def _opened(self) -> AIOKafkaAdminClient:
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
