"""Watching the gateways: what is read of their leases, and the end of the sessions of those that are lost."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol
from uuid import UUID

import structlog

from processors.app import Processor
from processors.decisions import decision_id
from processors.leases import Leases, Reach
from processors.outbox import Log, append_until_held
from schemas.codec import Record
from schemas.events import EndReason, SessionClosed
from schemas.gateways import GatewayLease
from schemas.presence import PresenceRow

LOOKS_PER_LEASE: Final = 10
LONGEST_LOOK_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 2.0
"""A log that takes longer than that to say where it ends counts as away."""

logger = structlog.get_logger()


class Tailed(Protocol):
    """One record of a tail."""

    @property
    def record(self) -> Record: ...


class Tail(Protocol):
    """The gateways topic from its beginning on (the Tail port of `producers`, which must not be imported here)."""

    async def take(self) -> Sequence[Tailed]:
        """What came since the last call; waits until there is something."""

    def reached(self) -> Mapping[int, int]:
        """For each partition the offset after the last record that `take` has given."""

    async def ends(self) -> Mapping[int, int]:
        """For each partition the offset after its last record; an exception where Kafka does not answer."""


class GatewayWatch:
    """Ends the sessions of lost gateways in the partitions that this process reads. `leases` must be open."""

    def __init__(
        self,
        processor: Processor,
        log: Log,
        leases: Tail,
        *,
        producer: str,
        lease_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._processor = processor
        self._log = log
        self._tail = leases
        self._producer = producer
        self._leases = Leases(seconds=lease_seconds)
        self._pause = min(LONGEST_LOOK_SECONDS, lease_seconds / LOOKS_PER_LEASE)
        self._clock = clock
        self._closed: set[tuple[UUID, int]] = set()

    async def run(self) -> None:
        """Returns never; raises what is unforeseen."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_hearing())
            tasks.create_task(self._keep_looking())

    async def hear(self) -> None:
        """Wait for leases, and note them."""
        for tailed in await self._tail.take():
            if isinstance(tailed.record, GatewayLease):
                self._leases.heard(tailed.record, self._clock())

    async def look(self) -> None:
        """End the sessions of those that are lost now."""
        if self._processor.reading:
            await self._end(await self._lost())

    async def _keep_hearing(self) -> None:
        while True:
            await self.hear()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            await self.look()

    async def _lost(self) -> list[tuple[PresenceRow, int]]:
        """The sessions of lost gateways, and their partitions."""
        now = self._clock()
        ends = await self._ends()
        processor = self._processor
        if not processor.reading:
            return []
        processor.recall()
        mentioned = {row.gateway for _, row in self._sessions()}
        lost = self._leases.lost(mentioned, now, ends, self._read())
        if not lost:
            self._closed.clear()
            return []
        sessions = [(row, partition) for partition, row in self._sessions() if row.gateway in lost]
        self._closed &= {(row.session_id, row.epoch) for row, _ in sessions}
        return sessions

    def _sessions(self) -> Iterator[tuple[int, PresenceRow]]:
        processor = self._processor
        return ((partition, row) for partition in processor.ledger.partitions for row in processor.desk.rows(partition))

    async def _ends(self) -> Reach | None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                lifecycle, gateways = await asyncio.gather(self._log.ends(), self._tail.ends())
        except Exception:  # the log is away: that is all we want to know; appending says why
            return None
        return Reach(lifecycle, gateways)

    def _read(self) -> Reach:
        ledger = self._processor.ledger
        done = {partition: offset for partition in ledger.partitions if (offset := ledger.done(partition)) is not None}
        return Reach(done, self._tail.reached())

    async def _end(self, sessions: Sequence[tuple[PresenceRow, int]]) -> None:
        """Say so in the log. Until that is read back they are known here, but not ended once more."""
        new = [(row, partition) for row, partition in sessions if (row.session_id, row.epoch) not in self._closed]
        if not new:
            return
        logger.warning("processor.gateways_lost", gateways=sorted({row.gateway for row, _ in new}), sessions=len(new))
        facts = [self._closing(row) for row, _ in new]
        await append_until_held(self._log, facts, [place for _, place in new], waiting=self._processor.waits)
        self._closed.update((row.session_id, row.epoch) for row, _ in new)

    def _closing(self, row: PresenceRow) -> SessionClosed:
        return SessionClosed(
            event_id=decision_id(None, row.session_id, EndReason.GATEWAY_LOST),
            producer=self._producer,
            recipient=row.recipient,
            causation_id=row.event_id,
            session_id=row.session_id,
            device_id=row.device_id,
            reason=EndReason.GATEWAY_LOST,
        )
