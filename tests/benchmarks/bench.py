"""What every scenario gets: a service, how to speak to it, its books, and how to wait until it has nothing left to do."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import msgspec

from schemas.partitions import partition_for
from tests.benchmarks.client import Connection
from tests.benchmarks.dialect import Dialect, Restante
from tests.benchmarks.ledger import Ledger, Letter
from tests.benchmarks.load import ask_patiently, drain, post_batches, post_each
from tests.benchmarks.measure import Phase, cpu_seconds
from tests.benchmarks.service import Running

CONNECTIONS = 64
PARTITIONS = 8
BATCH_SENDERS = 16
_DECIDED = frozenset({"DeliveryAttempted", "PendingSync", "Delivered", "Read"})
_SETTLE_SECONDS = 180.0
_QUIET_CORES, _QUIET_WINDOW, _QUIET_SECONDS = 0.15, 0.25, 10.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything: accounts, messages, and rounds where one would be over too soon."""

    recipients: int = 200
    senders: int = 64
    single: int = 20_000
    batch: int = 100_000
    deep: int = 50_000
    rounds_of_20: int = 5
    rounds_of_100: int = 2
    warm_up: int = 6_000
    push_per_s: int = 500
    push_seconds: int = 20
    pushed: int = 20_000
    backlog: int = 10_000
    waiting: int = 2_000


QUICK = Sizes(
    recipients=40, senders=24, single=4_000, batch=10_000, deep=5_000, rounds_of_20=1, rounds_of_100=1, warm_up=1_000,
    push_per_s=500, push_seconds=4, pushed=4_000, backlog=2_000, waiting=200,
)  # fmt: skip


@dataclass(slots=True)
class Outcome:
    """What scenarios found: figures by name, and processor microseconds a message by phase and role. `restarts` are those
    that a scenario has made itself."""

    figures: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, dict[str, float]] = field(default_factory=dict)
    restarts: int = 0

    def note_cpu(self, phase: str, measured: Phase | Sequence[Phase], messages: int) -> None:
        """Keep where the processor's time went, the generator's own and strangers' (in cores) apart."""
        phases = [measured] if isinstance(measured, Phase) else measured
        roles = {role: sum(one.cpu[role] for one in phases) for role in phases[0].cpu}
        per_message = {role: seconds / max(messages, 1) * 1e6 for role, seconds in roles.items()}
        self.cpu[phase] = {**per_message, "generator": sum(one.generator for one in phases) / max(messages, 1) * 1e6}
        wall = sum(one.wall for one in phases)
        self.figures[f"{phase}_cpu_us"] = sum(per_message.values())
        self.figures[f"{phase}_strangers_cores"] = sum(one.others * one.wall for one in phases) / max(wall, 1e-9)


@dataclass(slots=True)
class Bench:
    """One service with its books. The accounts of senders come after those of recipients."""

    service: Running
    dialect: Dialect
    sizes: Sizes
    ledger: Ledger = field(default_factory=Ledger)
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.service.port

    @property
    def senders(self) -> Sequence[int]:
        """The accounts that send."""
        return range(self.sizes.recipients, self.sizes.recipients + self.sizes.senders)

    @property
    def recipients(self) -> Sequence[int]:
        """The accounts whose mailboxes are measured."""
        return range(self.sizes.recipients)

    def phase(self) -> Phase:
        """Measure a stretch of time."""
        return Phase(self.service.roles())

    def random_letters(self, count: int) -> list[Letter]:
        """New messages to recipients by chance."""
        return self.ledger.letters([self.dice.choice(self.recipients) for _ in range(count)])

    async def post(self, letters: Sequence[Letter]) -> list[float]:
        """One by one, on 64 connections; the seconds of each."""
        senders = [self.senders[connection % len(self.senders)] for connection in range(CONNECTIONS)]
        return await post_each(self.port, self.dialect, self.ledger, letters, senders)

    async def fill(self, letters: Sequence[Letter]) -> list[float]:
        """As fast as the service offers: in batches where it knows them; the seconds of each request."""
        if isinstance(self.dialect, Restante):
            return await post_batches(self.port, self.dialect, self.ledger, letters, self.senders[:BATCH_SENDERS])
        return await self.post(letters)

    async def drain(self, accounts: Sequence[int] | None = None, drainers: int = 32) -> int:
        """Empty mailboxes, those of all recipients if none are named; how many messages came."""
        return await drain(self.port, self.dialect, self.ledger, accounts or self.recipients, drainers)

    async def drain_again(self) -> None:
        """What comes now was acknowledged before: there must be nothing."""
        self.ledger.came_back += await self.drain()

    async def settle(self) -> None:
        """Wait until every message accepted so far is decided and in its mailbox.

        One more message goes to each partition of the log; once these are decided, so is all before them. They go to
        accounts of senders, whose mailboxes are no part of any scenario (`sweep` empties them).
        """
        if not isinstance(self.dialect, Restante):
            return  # 202 says so there
        marks = self.ledger.letters(self._one_account_a_partition(self.dialect))
        sender = self.senders[0]
        async with asyncio.timeout(_SETTLE_SECONDS):
            connection = await Connection.open(self.port)
            ids = []
            for mark in marks:
                answer = await ask_patiently(
                    connection, self.ledger, self.dialect.post_head(sender), self.dialect.post_body(mark)
                )
                self.ledger.accept(mark)
                ids.append(msgspec.json.decode(answer)["id"])
            while True:
                answer = await ask_patiently(connection, self.ledger, *self.dialect.status(sender, ids))
                if all(found["status"] in _DECIDED for found in msgspec.json.decode(answer)["messages"]):
                    break
                await asyncio.sleep(0.02)
            connection.close()

    async def sweep(self) -> None:
        """Empty the mailboxes of `settle`; a sync of every partition, so that all acknowledgements are projected too."""
        if isinstance(self.dialect, Restante):
            await self.drain(self._one_account_a_partition(self.dialect), drainers=PARTITIONS)

    async def quiet(self) -> float:
        """Wait until the service does next to nothing; the cores that it uses then."""
        deadline = time.monotonic() + _QUIET_SECONDS
        pids = [pid for role in self.service.roles().values() for pid in role]
        while True:
            before = cpu_seconds(pids)
            await asyncio.sleep(_QUIET_WINDOW)
            cores = (cpu_seconds(pids) - before) / _QUIET_WINDOW
            if cores < _QUIET_CORES or time.monotonic() > deadline:
                return cores

    def _one_account_a_partition(self, dialect: Restante) -> list[int]:
        found: dict[int, int] = {}
        for account in (*self.senders, *self.recipients):
            found.setdefault(partition_for(UUID(dialect.accounts[account].user_id), PARTITIONS), account)
        return list(found.values())
