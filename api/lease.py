"""The lease of this gateway: a record on restante.gateways that says that it lives, renewed three times in its time."""

import asyncio
from collections.abc import Callable
from typing import Final

from api.ids import new_id
from producers.log import EventLog, LogUnavailable
from schemas.gateways import GatewayLease

GIVE_UP_SECONDS: Final = 120.0
"""A gateway that could not renew for so long ends its sockets: whoever can reach the log has long judged it lost."""

_AGAIN_SECONDS: Final = 1.0


class Lease:
    """`run` renews until it is cancelled, and calls `lost` each time that it could not for GIVE_UP_SECONDS."""

    def __init__(
        self,
        log: EventLog,
        *,
        producer: str,
        gateway: str,
        push_partition: int,
        seconds: float,
        lost: Callable[[], None],
    ) -> None:
        self._log = log
        self._producer = producer
        self._gateway = gateway
        self._push_partition = push_partition
        self._seconds = seconds
        self._lost = lost

    async def begin(self) -> None:
        """The first one. Where the log does not take it, `run` tries again."""
        await self._renewed(ended=False)

    async def run(self) -> None:
        """Renew it, for ever."""
        loop = asyncio.get_running_loop()
        renewed, pause = loop.time(), self._seconds / 3
        while True:
            await asyncio.sleep(pause)
            begun = loop.time()
            if await self._renewed(ended=False):
                renewed, pause = begun, self._seconds / 3
                continue
            pause = min(_AGAIN_SECONDS, self._seconds / 3)
            if loop.time() - renewed >= GIVE_UP_SECONDS:
                renewed = loop.time()
                self._lost()

    async def end(self) -> None:
        """Say that this gateway went in order. Where the log does not take it, the lease runs out by itself."""
        await self._renewed(ended=True)

    async def _renewed(self, *, ended: bool) -> bool:
        lease = GatewayLease(
            event_id=new_id(),
            producer=self._producer,
            gateway=self._gateway,
            push_partition=self._push_partition,
            lease_ms=int(self._seconds * 1000),
            ended=ended,
        )
        try:
            await self._log.append(lease)
        except LogUnavailable:
            return False
        return True
