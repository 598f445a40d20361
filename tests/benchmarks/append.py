"""How fast the log takes records on this machine. Prints a table; judges nothing.

    python -m tests.benchmarks.append 127.0.0.1:9092

Creates the topics where they are missing (one broker: fsync before each answer) and appends messages of 512 sealed bytes to
1,000 recipients: one by one with 64 and with 256 callers at once, in batches of 100 with 8 callers, and, to compare, through
aiokafka's own `send_and_wait`. CPU is this process's, broker not counted.
"""

import argparse
import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from uuid import UUID

import uvloop
from aiokafka import AIOKafkaProducer

from producers.connection import KafkaConnection
from producers.kafka import KafkaLog
from producers.log import Appended
from producers.topics import create_topics, refuse_weak
from schemas.codec import encode
from schemas.events import MessageStored
from schemas.partitions import partition_for
from schemas.topics import LIFECYCLE
from tests import builders

RECIPIENTS = [builders.an_id("acct", number) for number in range(1000)]
BATCH = 100
BODY = b"s" * 512


def messages() -> Iterator[MessageStored]:
    for number in itertools.count():
        yield builders.stored(number, event_id=UUID(int=number), recipient=RECIPIENTS[number % 1000], sealed=BODY)


async def measure(name: str, callers: int, seconds: float, call: Callable[[], Awaitable[int]]) -> None:
    """Let `callers` call again and again; `call` answers how many records the log took."""
    latencies: list[float] = []
    taken = 0
    end = time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal taken
        while (began := time.perf_counter()) < end:
            count = await call()
            taken += count
            latencies.append(time.perf_counter() - began)

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    latencies.sort()
    p50, p99 = latencies[len(latencies) // 2] * 1e3, latencies[len(latencies) * 99 // 100] * 1e3
    print(f"{name:34}{callers:>9}{taken / wall:>12,.0f}{cpu / taken * 1e6:>12.1f}{p50:>9.2f}{p99:>9.2f}")


async def main(bootstrap: str, partitions: int, seconds: float) -> None:
    connection = KafkaConnection(bootstrap=bootstrap)
    await create_topics(connection, partitions=partitions)
    await refuse_weak(connection, partitions=partitions)
    facts = messages()
    print(f"{'':34}{'callers':>9}{'records/s':>12}{'CPU us/rec':>12}{'p50 ms':>9}{'p99 ms':>9}")
    began = time.process_time()
    for _ in range(20_000):
        next(facts)
    print(f"{'making a message':34}{'':>9}{'':>12}{(time.process_time() - began) / 20_000 * 1e6:>12.1f}")
    async with KafkaLog(connection) as log:

        async def one() -> int:
            return 1 if await log.append(next(facts)) else 0

        async def batch() -> int:
            answers = await log.append_all(list(itertools.islice(facts, BATCH)))
            return sum(isinstance(answer, Appended) for answer in answers)

        async def end() -> int:
            return 1 if await log.ends() else 0

        await measure("append", 64, seconds, one)
        await measure("append", 256, seconds, one)
        await measure(f"append_all of {BATCH}", 8, seconds, batch)
        await measure("ends", 64, seconds, end)
    options = connection.client_options()
    async with AIOKafkaProducer(**options, acks="all", enable_idempotence=True, max_batch_size=1 << 20) as producer:

        async def plain() -> int:
            fact = next(facts)
            encoded = encode(fact)
            place = partition_for(fact.recipient, partitions)
            await producer.send_and_wait(LIFECYCLE, encoded.value, encoded.key, place, headers=encoded.headers)
            return 1

        async def plain_batch() -> int:
            futures = []
            for fact in itertools.islice(facts, BATCH):
                encoded = encode(fact)
                place = partition_for(fact.recipient, partitions)
                futures.append(await producer.send(LIFECYCLE, encoded.value, encoded.key, place, headers=encoded.headers))
            return len(await asyncio.gather(*futures))

        await measure("aiokafka send_and_wait", 64, seconds, plain)
        await measure("aiokafka send_and_wait", 256, seconds, plain)
        await measure(f"aiokafka send, {BATCH} gathered", 8, seconds, plain_batch)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How fast the log takes records.")
    parser.add_argument("bootstrap", help="host:port of a Kafka")
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0)
    given = parser.parse_args()
    uvloop.run(main(given.bootstrap, given.partitions, given.seconds))
