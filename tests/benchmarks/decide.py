"""How fast the processor decides: messages are stored first, then one processor reads them all and appends its decisions.

    python -m tests.benchmarks.decide --kafka HOST:PORT [--messages 50000] [--partitions 8] [--json]

Makes the topics of the service where they are missing, and a group of its own. CPU is that of the processor's process,
its consumer thread and its producer included.
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from processors import worker
from processors.app import Options
from processors.health import Health
from producers.connection import KafkaConnection
from producers.kafka import KafkaLog
from producers.kafka_tail import KafkaTail
from producers.topics import create_topics
from schemas.events import MessageStored
from schemas.topics import GATEWAYS, LIFECYCLE, PRESENCE_TABLE

RECIPIENTS = 1000
BODY_BYTES = 300
CHUNK = 500


async def store(log: KafkaLog, count: int) -> None:
    """Append messages to many recipients."""
    recipients = [uuid.uuid4() for _ in range(RECIPIENTS)]
    sender, device, body = uuid.uuid4(), uuid.uuid4(), os.urandom(BODY_BYTES)
    for first in range(0, count, CHUNK):
        facts = [
            MessageStored(
                event_id=uuid.uuid4(),
                producer="bench/1",
                recipient=recipients[number % RECIPIENTS],
                message_id=uuid.uuid4(),
                sender=sender,
                sender_device=device,
                created_at_ms=0,
                keyed=False,
                sealed=body,
                digest=bytes(32),
            )
            for number in range(first, min(first + CHUNK, count))
        ]
        answers = await log.append_all(facts)
        failed = [answer for answer in answers if isinstance(answer, Exception)]
        if failed:
            raise failed[0]


async def decide(bootstrap: str, partitions: int, app_id: str, count: int) -> dict[str, Any]:
    """In the measured process: decide everything from the beginning of the log until `count` decisions are in it."""
    connection = KafkaConnection(bootstrap=bootstrap)
    options = Options(
        client_options=connection.client_options(),
        producer="processor/bench",
        partitions=partitions,
        data_dir=Path(tempfile.mkdtemp()),
        app_id=app_id,
    )
    stop, decided = asyncio.Event(), 0
    first: tuple[float, float] | None = None

    class Counting(KafkaLog):
        async def append_all(self, records: Any, *, partitions: Any = None) -> Any:
            nonlocal decided, first
            if first is None:
                first = time.monotonic(), time.process_time()
            answers = await super().append_all(records, partitions=partitions)
            decided += len(records)
            if decided >= count:
                stop.set()
            return answers

    async with Counting(connection) as log, KafkaTail(connection, GATEWAYS, start="beginning") as leases:
        running = asyncio.create_task(worker.run(options, log, leases, Health(), stop))
        await stop.wait()
        assert first is not None
        seconds, cpu = time.monotonic() - first[0], time.process_time() - first[1]
        await running
    return {
        "messages": decided,
        "seconds": round(seconds, 2),
        "decided_per_second": round(decided / seconds),
        "cpu_us_per_message": round(cpu / decided * 1e6, 1),
        "decided_per_core_second": round(decided / cpu),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


async def prepare(arguments: argparse.Namespace, app_id: str) -> None:
    connection = KafkaConnection(bootstrap=arguments.kafka)
    await create_topics(connection, partitions=arguments.partitions)
    admin = AIOKafkaAdminClient(bootstrap_servers=arguments.kafka)
    await admin.start()
    await admin.create_topics([NewTopic(f"{app_id}-{PRESENCE_TABLE}-changelog", arguments.partitions, 1)])
    await admin.close()
    async with KafkaLog(connection) as log:
        await begin_at_the_end(arguments.kafka, app_id, await log.ends())
        await store(log, arguments.messages)


async def begin_at_the_end(bootstrap: str, group: str, ends: Mapping[int, int]) -> None:
    """What the log held before is not measured."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    async with consumer:
        places = {TopicPartition(LIFECYCLE, partition): end for partition, end in ends.items()}
        consumer.assign(list(places))
        await consumer.commit(places)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--app-id", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.app_id:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
            found = loop.run(decide(arguments.kafka, arguments.partitions, arguments.app_id, arguments.messages))
        print(json.dumps(found))
        return
    app_id = f"bench-{uuid.uuid4().hex[:8]}"
    asyncio.run(prepare(arguments, app_id))
    measured = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.decide", *sys.argv[1:], "--app-id", app_id],
        check=True,
        stdout=subprocess.PIPE,
    )
    found = json.loads(measured.stdout)
    print(json.dumps(found) if arguments.json else "\n".join(f"{name:26} {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
