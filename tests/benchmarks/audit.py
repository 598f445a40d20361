"""What an audit costs: events a second of one core, and memory, over a log of a million events.

    python -m tests.benchmarks.audit [--events 1000000] [--kafka HOST:PORT] [--json]

The log is made up as the service writes it: accounts with a device that is there half of the time, messages that the policy
itself decides on, acknowledged a little later in bunches, one bunch in four read. It is made outside the measured time and
handed to the audit of one partition. With `--kafka` it is appended to a topic of its own first and read back through the log
reader, which is then measured, too.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import psutil
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.evidence.auditing import few_collections
from processors.audit.partition import PartitionAudit
from processors.audit.shelves import Disk
from processors.decisions import decide
from processors.presence import NOBODY, Here, after
from producers.connection import KafkaConnection
from producers.recorded import LogReader
from schemas.codec import encode
from schemas.events import (
    DeviceRegistered,
    EndReason,
    Entry,
    Fact,
    FactBase,
    MessagesDelivered,
    MessagesRead,
    MessageStored,
    Place,
    Recorded,
    SessionClosed,
    SessionOpened,
    Via,
)
from schemas.raw import RawRecord
from schemas.topics import LIFECYCLE

ACCOUNTS = 1000
BODY_BYTES = 300
CHUNK = 10_000
START_MS = 1_790_000_000_000


@dataclass
class Account:
    """Somebody with one device."""

    user: uuid.UUID
    device: uuid.UUID
    session: uuid.UUID | None = None
    here: Here = field(default_factory=lambda: NOBODY)
    owed: list[Entry] = field(default_factory=list)


class Writer:
    """Makes records, one after the other."""

    def __init__(self) -> None:
        self._random = random.Random(6)
        self._accounts = [Account(self._id(), self._id()) for _ in range(ACCOUNTS)]
        self._offset = 0

    def records(self) -> Iterator[RawRecord]:
        """Without end."""
        for account in self._accounts:
            yield self._raw(DeviceRegistered(device_id=account.device, **self._common(account)))
        while True:
            yield from self._turn(self._random.choice(self._accounts))

    def _turn(self, account: Account) -> Iterator[RawRecord]:
        if self._random.random() < 0.02:
            yield from self._come_or_go(account)
        message = MessageStored(
            message_id=self._id(),
            sender=self._id(),
            sender_device=self._id(),
            created_at_ms=START_MS + self._offset,
            keyed=self._random.random() < 0.5,
            sealed=self._random.randbytes(BODY_BYTES),
            digest=bytes(32),
            **self._common(account),
        )
        recorded = Recorded(message, Place(LIFECYCLE, 0, self._offset), START_MS + self._offset)
        yield self._raw(message)
        decided = decide(account.here, recorded, "processor/bench")[0].record
        assert isinstance(decided, FactBase)
        yield self._raw(decided)
        account.owed.append(Entry(message_id=message.message_id, position=recorded.place.offset, sender=message.sender))
        if len(account.owed) >= self._random.randint(1, 4):
            yield from self._acknowledge(account)

    def _come_or_go(self, account: Account) -> Iterator[RawRecord]:
        session, account.session = account.session, self._id() if account.session is None else None
        fact: SessionOpened | SessionClosed
        if session is None:
            assert account.session is not None
            fact = SessionOpened(
                session_id=account.session, device_id=account.device, gateway="gateway/bench", push_partition=0,
                **self._common(account),
            )  # fmt: skip
        else:
            reason = EndReason.CLIENT_CLOSED
            fact = SessionClosed(session_id=session, device_id=account.device, reason=reason, **self._common(account))
        account.here = after(account.here, Recorded(fact, Place(LIFECYCLE, 0, self._offset), START_MS + self._offset))
        yield self._raw(fact)

    def _acknowledge(self, account: Account) -> Iterator[RawRecord]:
        kind = MessagesRead if self._random.random() < 0.25 else MessagesDelivered
        entries, account.owed = tuple(account.owed), []
        yield self._raw(kind(device_id=account.device, entries=entries, via=Via.HTTP, **self._common(account)))

    def _common(self, account: Account) -> dict[str, Any]:
        return {"event_id": self._id(), "producer": "api/bench", "recipient": account.user}

    def _id(self) -> uuid.UUID:
        return uuid.UUID(bytes=self._random.randbytes(16), version=4)

    def _raw(self, fact: Fact) -> RawRecord:
        encoded, offset = encode(fact), self._offset
        self._offset += 1
        return RawRecord(0, offset, START_MS + offset, encoded.key, encoded.value, tuple(encoded.headers))


class Meter:
    """Processor time of the audit alone, and the memory that it added."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.began = self.memory()
        self.most = self.began
        self.seconds = 0.0
        self.halfway = 0

    def memory(self) -> int:
        """Resident bytes now."""
        return int(self._process.memory_info().rss)

    def read(self, audit: PartitionAudit, records: Sequence[RawRecord]) -> None:
        """A part of the log."""
        began = time.process_time()
        for record in records:
            audit.read(record)
        self.seconds += time.process_time() - began
        self.most = max(self.most, self.memory())

    def figures(self, events: int, audit: PartitionAudit) -> dict[str, Any]:
        """What came of it."""
        return {
            "events": events,
            "findings": sum(audit.notes.findings.counts.values()),
            "events_per_cpu_second": round(events / self.seconds),
            "memory_added_mib": round((self.most - self.began) / 2**20, 1),
            "memory_added_by_the_second_half_mib": round((self.most - self.halfway) / 2**20, 1),
            "states": dict(audit.notes.counts.states),
        }


def in_memory(events: int) -> dict[str, Any]:
    """Without Kafka."""
    records, done = Writer().records(), 0
    warm = list(islice(records, CHUNK))
    gc.collect()
    meter = Meter()
    with Disk() as disk, few_collections():
        audit = PartitionAudit(0, 1, disk)
        while done < events:
            part = warm if not done else list(islice(records, min(CHUNK, events - done)))
            meter.read(audit, part)
            done += len(part)
            if done <= events // 2:
                meter.halfway = meter.most
        began = time.process_time()
        audit.close(done, START_MS + done, 10**12)
        meter.seconds += time.process_time() - began
    return meter.figures(done, audit)


async def on_kafka(events: int, bootstrap: str) -> dict[str, Any]:
    """The same log, appended and read back. The wall clock counts, too: it is what an operator waits."""
    topic = f"benchmark-audit-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])
        async with AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=1 << 19) as producer:
            for record in islice(Writer().records(), events):
                await producer.send(topic, record.value, key=record.key, headers=list(record.headers), partition=0)
        gc.collect()
        meter, began, used = Meter(), time.monotonic(), time.process_time()
        with Disk() as disk, few_collections():
            audit = PartitionAudit(0, 1, disk)
            async with LogReader(KafkaConnection(bootstrap=bootstrap), topic) as reader:
                async for part in reader.batches(0, 0, events):
                    meter.read(audit, part)
                    if part[-1].offset <= events // 2:
                        meter.halfway = meter.most
            audit.close(events, START_MS + events, 10**12)
        meter.seconds = time.process_time() - used
        return {**meter.figures(events, audit), "events_per_second": round(events / (time.monotonic() - began))}
    finally:
        await admin.delete_topics([topic])
        await admin.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--kafka", metavar="HOST:PORT")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    figures = asyncio.run(on_kafka(given.events, given.kafka)) if given.kafka else in_memory(given.events)
    if given.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name.replace('_', ' ')}: {value:,}" if isinstance(value, int | float) else f"{name}: {value}")


if __name__ == "__main__":
    main()
