"""The processor's host in the simulated world: Faust's part (fetch, table, commits, rebalance) around the real desk."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from processors.desk import Desk, Findings
from processors.gateways import GatewayWatch
from processors.ledger import Ledger, Run
from processors.outbox import append_until_held
from schemas.codec import Headers
from schemas.partitions import partition_for
from schemas.presence import PresenceRow
from schemas.topics import GATEWAYS, LIFECYCLE
from tests.simulation.log import Wire, WorldLog, WorldTail
from tests.simulation.loop import Process

FETCH_SECONDS: Final = 0.003
COMMIT_SECONDS: Final = 0.25
MAX_RUN: Final = 40


@dataclass(frozen=True, slots=True)
class Fetched:
    """A record as Kafka gives it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Group:
    """What outlives a processor: the committed offsets, the table's changelog, and who owns which partition."""

    def __init__(self, log: WorldLog) -> None:
        self.log = log
        self.committed: dict[int, int] = {}
        self.rows: dict[UUID, PresenceRow] = {}
        self.lost_rows = 0.0
        self.lost_some = False
        self.owner: dict[int, Worker] = {}

    def recovered(self, partition: int) -> Iterable[PresenceRow]:
        """The table's rows of a partition."""
        return [row for row in self.rows.values() if partition_for(row.recipient, len(self.log.facts)) == partition]

    def write(self, findings: Findings) -> None:
        """The changelog takes the rows; the last seconds of a dying process never get there."""
        for device, row in findings.rows.items():
            if self.log.chance.happens(self.lost_rows):
                self.lost_some = True
                continue
            if row is None:
                self.rows.pop(device, None)
            else:
                self.rows[device] = row

    def commit(self, worker: "Worker", partition: int, offset: int) -> None:
        """Only the owner's commits count."""
        if self.owner.get(partition) is worker:
            self.committed[partition] = max(offset, self.committed.get(partition, 0))


class Worker:
    """One processor process, from its start until it is killed or told to go."""

    def __init__(self, group: Group, number: int, lease_seconds: float) -> None:
        self.process = Process(f"processor/{number}")
        self.slowness = FETCH_SECONDS
        self._group = group
        self._log = group.log
        self._wire = Wire(group.log)
        self._lease_seconds = lease_seconds
        self.ledger = Ledger()
        self._tables: dict[int, list[PresenceRow]] = {}
        self.desk = Desk(self.process.name, self._recovered, partitions=group.log.counts[LIFECYCLE])
        self._under_way: set[asyncio.Task[None]] = set()

    def start(self, partitions: Sequence[int]) -> None:
        """Begin to read. From now on the group knows no other owner of these partitions."""
        self.assign(partitions)
        self.process.start(self._work())

    def assign(self, partitions: Iterable[int]) -> None:
        """These partitions are its own, from their committed offset on."""
        for partition in partitions:
            self._group.owner[partition] = self
            self._tables[partition] = list(self._group.recovered(partition))
            self.ledger.restart(partition, self._group.committed.get(partition, 0))

    def revoke(self, partitions: Iterable[int]) -> None:
        """These are another's now, and it knows."""
        self.ledger.drop(partitions)
        self.desk.keep(self.ledger.partitions)

    # What `processors.gateways.GatewayWatch` asks of a processor

    @property
    def reading(self) -> bool:
        """Whether partitions are its own."""
        return bool(self.ledger.partitions)

    def waits(self, refused: bool) -> None:
        """The log refuses, or does not any more."""

    def recall(self) -> None:
        """As `processors.app.Processor.recall`."""
        self.desk.keep(self.ledger.partitions)
        for partition, first in self.ledger.untouched().items():
            if not self.desk.knows(partition, first):
                self.desk.recall(partition, first, self._recovered(partition))

    def _recovered(self, partition: int) -> Iterable[PresenceRow]:
        return self._tables.get(partition, [])

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        async with WorldTail(self._log, GATEWAYS, start="beginning") as leases:
            watch = GatewayWatch(
                self,  # type: ignore[arg-type]
                self._wire,
                leases,
                producer=self.process.name,
                lease_seconds=self._lease_seconds,
                clock=loop.time,
            )
            await watch.run()

    async def _work(self) -> None:
        self.process.start(self._commit())
        self.process.start(self._watch())
        while True:
            ready = [p for p in sorted(self.ledger.partitions) if self._behind(p)]
            if not ready or not self.ledger.has_room:
                await self._log.grown[LIFECYCLE].wait()
                continue
            await self._log.chance.pause(self.slowness)
            await self._log.outage.over()
            partition = self._log.chance.choice(ready)
            if self._behind(partition):
                self._take(partition)

    def _behind(self, partition: int) -> bool:
        wanted = self.ledger.wanted(partition)
        return wanted is not None and wanted < len(self._log.facts[partition])

    def _take(self, partition: int) -> None:
        """As `processors.app.Processor._take`."""
        run = self.ledger.offer(partition, self._fetch(partition))
        assert isinstance(run, Run)
        self.recall()
        assert self.ledger.begin(run)
        findings = self.desk.read(partition, run.first, run.records, run.next)
        self._group.write(findings)
        task = asyncio.create_task(self._deliver(run, findings))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _fetch(self, partition: int) -> list[Fetched]:
        first = self.ledger.wanted(partition)
        assert first is not None
        there = self._log.facts[partition][first : first + MAX_RUN]
        some = there[: self._log.chance.randint(1, len(there))]
        encoded = self._log.encoded[partition]
        return [
            Fetched(LIFECYCLE, partition, at, recorded.at_ms, encoded[at].key, encoded[at].value, encoded[at].headers)
            for at, recorded in enumerate(some, first)
        ]

    async def _deliver(self, run: Run, findings: Findings) -> None:
        await self._log.chance.pause(FETCH_SECONDS)
        records, partitions = findings.records()
        await append_until_held(self._wire, records, partitions, waiting=lambda _: None)
        self.ledger.finish(run)

    async def _commit(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            for partition in sorted(self.ledger.partitions):
                offset = self.ledger.committable(partition)
                if offset is not None:
                    self._group.commit(self, partition, offset)
