"""Topics of one test, messages for them, processors in processes of their own, and what they wrote."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from schemas.codec import Record, decode, encode
from schemas.events import DeliveryAttempted, Fact, PendingSync, Place, Recorded
from schemas.gateways import GatewayLease
from schemas.partitions import partition_for
from schemas.topics import CHANGELOG, GATEWAYS, LIFECYCLE, PUSH, QUARANTINE, RECEIPTS, TOPIC_OF
from tests.builders import an_id, stored
from tests.eventually import eventually

TABLE = CHANGELOG.removeprefix("restante-")
"""The changelog as a test's processors name it, behind the prefix."""

NOBODY = b"nobody"
"""The key of bytes that are no record."""

ROOT = Path(__file__).parents[2]


class PrefixedLog:
    """The processor's port on real Kafka, with a prefix before every topic. `async with` opens and closes."""

    def __init__(self, bootstrap: str, prefix: str, partitions: int) -> None:
        self._prefix = prefix
        self._partitions = partitions
        self._producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)

    async def __aenter__(self) -> Self:
        await self._producer.start()
        await self._consumer.start()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._producer.stop()
        await self._consumer.stop()

    async def append_all(self, records: Sequence[Record], *, partitions: Sequence[int | None] | None = None) -> list[Any]:
        sent = []
        for record, partition in zip(records, partitions or (None,) * len(records), strict=True):
            encoded = encode(record)
            sent.append(
                await self._producer.send(
                    self._prefix + TOPIC_OF[type(record)],
                    key=encoded.key,
                    value=encoded.value,
                    headers=encoded.headers,
                    partition=partition,
                )
            )
        return await asyncio.gather(*sent, return_exceptions=True)

    async def raw(self, value: bytes | None, partition: int, headers: Iterable[tuple[str, bytes]] = ()) -> None:
        """Append bytes that may be no record of ours."""
        await self._producer.send_and_wait(
            self._prefix + LIFECYCLE, key=NOBODY, value=value, headers=list(headers), partition=partition
        )

    async def ends(self) -> dict[int, int]:
        parts = [TopicPartition(self._prefix + LIFECYCLE, partition) for partition in range(self._partitions)]
        return {tp.partition: end for tp, end in (await self._consumer.end_offsets(parts)).items()}


def recipient_in(partition: int, partitions: int = 2, number: int = 0) -> UUID:
    """An account whose facts live in this partition."""
    found = (an_id("acct", n) for n in range(100, 10_000) if partition_for(an_id("acct", n), partitions) == partition)
    for _ in range(number):
        next(found)
    return next(found)


@dataclass
class Worker:
    """A processor process and what it printed."""

    process: "subprocess.Popen[bytes]"
    output: Path
    errors: Path

    @property
    def reading(self) -> set[int]:
        """The partitions that it reads now."""
        return {int(part) for part in self._last("reading").split(",") if part}

    @property
    def sessions(self) -> int:
        """How many sessions its metric shows."""
        return int(self._last("sessions") or 0)

    def _last(self, word: str) -> str:
        lines = [line for line in self.output.read_text().splitlines() if line.startswith(word)]
        return lines[-1].partition(" ")[2] if lines else ""

    async def reads(self, *partitions: int) -> None:
        """Wait until it reads these partitions."""

        def there() -> bool:
            assert self.process.poll() is None
            return self.reading == set(partitions)

        try:
            await eventually(there, within=40)
        except AssertionError as error:
            raise AssertionError(f"{error}; it wrote:\n{self.output.read_text()}\n{self.errors.read_text()}") from error

    async def ended(self) -> int:
        """Wait for its end; its exit status."""
        await eventually(lambda: self.process.poll() is not None, within=30)
        return self.process.returncode

    async def stop(self) -> int:
        """Ask it to stop, as a supervisor would; its exit status."""
        self.process.terminate()
        return await self.ended()


@dataclass
class Rig:
    """One test's world."""

    bootstrap: str
    prefix: str
    directory: Path
    log: PrefixedLog
    partitions: int = 2
    stored_ids: list[UUID] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    decisions: dict[UUID, set[UUID]] = field(default_factory=dict)
    """For each message the ids of the decisions about it, as far as `follow` has read."""

    def start(
        self, name: str = "1", *, fail: str = "none", run: int = 500, instance: str | None = None, lease: float = 15.0
    ) -> Worker:
        """Start a processor. `lease` is that of gateways it never heard of, in seconds."""
        number = len(self.workers)
        output, errors = self.directory / f"{number}.out", self.directory / f"{number}.err"
        command = [sys.executable, "-m", "tests.integration.processor_worker", "--bootstrap", self.bootstrap]
        command += ["--prefix", self.prefix, "--name", name, "--partitions", str(self.partitions), "--run", str(run)]
        command += ["--data", str(self.directory / "data"), "--fail", fail, "--lease", str(lease)]
        command += ["--instance", instance] if instance else []
        with output.open("wb") as out, errors.open("wb") as err:
            worker = Worker(subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err), output, errors)
        self.workers.append(worker)
        return worker

    async def store(self, count: int, partition: int = 0, **changes: Any) -> list[UUID]:
        """Append messages to recipients of one partition; their ids."""
        first = len(self.stored_ids)
        to = recipient_in(partition, self.partitions)
        facts = [stored(first + n, event_id=an_id("evst", first + n), **{"recipient": to, **changes}) for n in range(count)]
        await self.append(*facts, partition=partition)
        self.stored_ids += [fact.message_id for fact in facts]
        return [fact.message_id for fact in facts]

    async def append(self, *facts: Fact | GatewayLease, partition: int = 0) -> None:
        """Append records to a partition."""
        answers = await self.log.append_all(facts, partitions=[partition] * len(facts))
        assert not [answer for answer in answers if isinstance(answer, Exception)]

    async def records(self, topic: str = LIFECYCLE) -> list[Recorded]:
        """Everything in a topic that can be decoded, by partition and offset."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False)
        async with consumer:
            count = 1 if topic in (QUARANTINE, GATEWAYS) else self.partitions
            parts = [TopicPartition(self.prefix + topic, partition) for partition in range(count)]
            consumer.assign(parts)
            ends = await consumer.end_offsets(parts)
            for tp, first in (await consumer.beginning_offsets(parts)).items():
                consumer.seek(tp, first)  # seek_to_beginning loses a race against the reset to the latest
            found: list[Recorded] = []
            while [tp for tp in parts if await consumer.position(tp) < ends[tp]]:
                for tp, batch in (await consumer.getmany(timeout_ms=200)).items():
                    for record in batch:
                        if record.value:
                            fact: Any = decode(record.value)
                            found.append(Recorded(fact, Place(topic, tp.partition, record.offset), record.timestamp))
        return sorted(found, key=lambda each: (each.place.partition, each.place.offset))

    async def follow(self) -> None:
        """Note every decision that the log gets, for as long as this runs."""
        parts = [TopicPartition(self.prefix + LIFECYCLE, partition) for partition in range(self.partitions)]
        async with AIOKafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False) as consumer:
            consumer.assign(parts)
            for tp in parts:
                consumer.seek(tp, 0)
            while True:
                for batch in (await consumer.getmany(timeout_ms=100)).values():
                    for fact in [decode(record.value) for record in batch if record.key != NOBODY]:
                        if isinstance(fact, DeliveryAttempted | PendingSync):
                            self.decisions.setdefault(fact.message_id, set()).add(fact.event_id)

    async def all_decided(self) -> None:
        """Wait until every message has a decision, then see that each has one and only one in effect."""

        await eventually(lambda: self.decisions.keys() == set(self.stored_ids), within=40)
        effects = Counter(len(ids) for ids in self.decisions.values())
        assert effects == {1: len(self.stored_ids)}, effects

    async def committed(self) -> Mapping[int, int]:
        """The group's committed offsets of the lifecycle topic."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            offsets = await admin.list_consumer_group_offsets(f"{self.prefix}processor")
        finally:
            await admin.close()
        topic = self.prefix + LIFECYCLE
        return {tp.partition: held.offset for tp, held in offsets.items() if tp.topic == topic and held.offset >= 0}

    async def delete_records(self, *, before: int, topic: str = LIFECYCLE, partition: int = 0) -> None:
        """Lose the first records of a partition for good; -1 is all of them."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            lost = RecordsToDelete(before_offset=before)
            await admin.delete_records({TopicPartition(self.prefix + topic, partition): lost})
        finally:
            await admin.close()

    async def all_committed(self) -> None:
        """Wait until everything in the log is committed."""

        async def complete() -> bool:
            ends = {partition: end for partition, end in (await self.log.ends()).items() if end}
            return await self.committed() == ends

        await eventually(complete, within=40)


@asynccontextmanager
async def rig(bootstrap: str, prefix: str, directory: Path, *, partitions: int = 2) -> AsyncIterator[Rig]:
    """Topics made, log open; every process that is left at the end is killed."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    names = {name: partitions for name in (LIFECYCLE, PUSH, RECEIPTS, TABLE)} | {QUARANTINE: 1, GATEWAYS: 1}
    await admin.create_topics([NewTopic(prefix + name, count, 1) for name, count in names.items()])
    await admin.close()
    async with PrefixedLog(bootstrap, prefix, partitions) as log:
        made = Rig(bootstrap, prefix, directory, log, partitions)
        following = asyncio.create_task(made.follow())
        try:
            yield made
        finally:
            following.cancel()
            await asyncio.wait([following])
            for worker in made.workers:
                if worker.process.poll() is None:
                    worker.process.kill()
                worker.process.wait()
