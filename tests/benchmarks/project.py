"""How fast the projector folds: facts a second, and CPU of Python and PostgreSQL for one.

    python -m tests.benchmarks.project postgresql://... [--messages 40000] [--batch 2000]

The log is in memory, encoded as on Kafka: decoding counts, fetching does not. Two thirds of the messages are acknowledged (a
third of those read, too), twenty a recipient, over eight partitions. It takes a database of its own: make an empty one.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID, uuid4

import projections.runner
from projections.conservation import LEAST_SECONDS, SHARE, count
from projections.database import Database
from projections.migrate import migrate
from projections.reads import START, Reads
from projections.runner import Projector
from projections.source import MemorySource, Raw
from schemas.codec import encode
from schemas.events import Entry, Fact
from schemas.partitions import partition_for
from schemas.quarantined import Quarantined
from tests.builders import T0_MS, delivered, pending, read, registered, stored

PARTITIONS = 8
A_RECIPIENT = 20
BODY = os.urandom(228)
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class History:
    """Encoded records by partition."""

    log: dict[int, list[Raw]] = field(default_factory=lambda: {partition: [] for partition in range(PARTITIONS)})

    def append(self, fact: Fact) -> int:
        partition = self.log[partition_for(fact.recipient, PARTITIONS)]
        encoded = encode(replace(fact, event_id=uuid4()))
        offset = len(partition)
        partition.append(Raw(offset, T0_MS + offset, encoded.key, encoded.value, list(encoded.headers)))
        return offset

    @property
    def size(self) -> int:
        return sum(map(len, self.log.values()))


def history(messages: int) -> tuple[History, UUID, UUID]:
    """The records, one recipient and its device."""
    made, accounts = History(), [(uuid4(), uuid4()) for _ in range(max(1, messages // A_RECIPIENT))]
    for account, device in accounts:
        made.append(registered(device, recipient=account))
    owed: list[tuple[UUID, UUID, Entry]] = []
    for number in range(messages):
        account, device = accounts[number % len(accounts)]
        message_id, sender = uuid4(), uuid4()
        position = made.append(stored(message_id=message_id, sender=sender, recipient=account, sealed=BODY))
        made.append(pending(message_id=message_id, position=position, recipient=account))
        if number % 3:
            owed.append((account, device, Entry(message_id=message_id, position=position, sender=sender)))
        if len(owed) > 3 * len(accounts):
            _acknowledge(made, *owed.pop(0), also_read=number % 3 == 1)
    for account, device, entry in owed:
        _acknowledge(made, account, device, entry, also_read=False)
    return made, *accounts[0]


def _acknowledge(made: History, account: UUID, device: UUID, entry: Entry, *, also_read: bool) -> None:
    made.append(delivered(entry, device=device, recipient=account))
    if also_read:
        made.append(read(entry, device=device, recipient=account))


async def nowhere(record: Quarantined) -> None:
    raise RuntimeError(record.reason)


async def folded(made: History, url: str) -> tuple[float, float, float | None]:
    """Wall seconds, and seconds of CPU of this process and (where it can be seen) of the server's process."""
    async with Database(url) as database:
        (name,) = (await database.tuples(b"SELECT current_database()"))[0]
        source = MemorySource(lambda partition: made.log[partition], made.log)
        end = {partition: len(records) for partition, records in made.log.items()}
        wall, cpu, server = time.perf_counter(), time.process_time(), _server_cpu(name)
        task = asyncio.create_task(Projector(source, database, nowhere).run())
        while await Reads(database).offsets() != end and not task.done():
            await asyncio.sleep(0.05)
        took = time.perf_counter() - wall, time.process_time() - cpu
        task.cancel()
        now = _server_cpu(name)
        return *took, None if now is None or server is None else now - server


def _server_cpu(database: str) -> float | None:
    """Seconds of CPU of this database's server processes, where this machine shows them: their titles carry its name."""
    total, found = 0, False
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f" {database} " not in (process / "cmdline").read_text() or (process / "comm").read_text() != "postgres\n":
                continue
            ticks = (process / "stat").read_text().rsplit(")", 1)[1].split()[11:13]
        except OSError:
            continue
        total, found = total + sum(map(int, ticks)), True
    return total / TICK if found else None


async def main(url: str, messages: int) -> None:
    await migrate(url)
    made, account, device = history(messages)
    gc.freeze()  # the history is no part of a projector, and the collector would look at it again and again
    wall, cpu, server = await folded(made, url)
    print(f"{made.size} facts about {messages} messages in {wall:.2f} s: {made.size / wall:,.0f} facts/s")
    print(f"Python {1e6 * cpu / made.size:.1f} us a fact", end="")
    print("" if server is None else f", PostgreSQL {1e6 * server / made.size:.1f} us a fact,", end=" ")
    print("" if server is None else f"together {made.size / (cpu + server):,.0f} facts/s a core")
    async with Database(url) as database:
        reads, times = Reads(database), []
        for _ in range(200):
            began = time.perf_counter()
            await reads.page(account, device, after=START, limit=100, max_bytes=1 << 20)
            times.append(time.perf_counter() - began)
        (name,) = (await database.tuples(b"SELECT current_database()"))[0]
        began, before, here = time.perf_counter(), _server_cpu(name), time.process_time()
        await count(database)
        took, here, after = time.perf_counter() - began, time.process_time() - here, _server_cpu(name)
    burnt = here + (0.0 if before is None or after is None else after - before)
    period = max(LEAST_SECONDS, took / SHARE)
    print(f"counting {messages} messages by state: {1e3 * took:.0f} ms, {1e3 * burnt:.0f} ms of CPU,", end=" ")
    print(f"each {period:.0f} s: {100 * burnt / period:.2f} % of a core")
    print(f"a page of a mailbox: p50 {1e3 * sorted(times)[100]:.2f} ms, p99 {1e3 * sorted(times)[198]:.2f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--messages", type=int, default=40_000)
    parser.add_argument("--batch", type=int, default=projections.runner.MOST_RECORDS)
    given = parser.parse_args()
    projections.runner.MOST_RECORDS = given.batch  # type: ignore[misc]
    asyncio.run(main(given.url, given.messages))
