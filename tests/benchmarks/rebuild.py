"""How fast the projection is made anew: records a second, and the memory that it takes.

    python -m tests.benchmarks.rebuild [--events 60000] [--lines 3]

A log of so many records is written to a real broker (as in `project`: two thirds of the messages acknowledged, twenty a
recipient, eight partitions), the live projection is empty, and a rebuild does the rest: fetching, decoding, folding,
tidying and the swap, in a process of its own. A million records: `--events 1000000`.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
import uuid
from pathlib import Path

from producers.connection import KafkaConnection
from producers.recorded import LogReader
from projections import refold
from projections.migrate import migrate
from projections.rebuild import rebuild
from projections.refold import Log, Tally
from schemas.topics import LIFECYCLE, RECEIPTS
from tests import rungs
from tests.benchmarks.filled import write


async def measured(kafka: str, url: str, lines: int) -> None:
    """In the process that is measured."""
    refold.LINES = lines  # type: ignore[misc]
    connection, began, cpu = KafkaConnection(bootstrap=kafka), time.perf_counter(), time.process_time()
    early: list[int] = []

    def told(tally: Tally) -> None:
        if not early and tally.records > tally.due / 4:
            early.append(_peak())

    async with LogReader(connection, LIFECYCLE) as facts, LogReader(connection, RECEIPTS) as receipts:
        tally = (await rebuild(url, Log(facts, receipts), told)).tally
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(f"{tally.records} records in {wall:.2f} s: {tally.records / wall:,.0f} records/s", end="; ")
    print(f"Python {1e6 * cpu / tally.records:.1f} us a record")
    print(f"memory: {early[0] // 1024} MB after a quarter of them, {_peak() // 1024} MB at the end")


def _peak() -> int:
    """The most memory that this process ever had, in kilobytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise RuntimeError("this machine does not tell")


def main(events: int, lines: int) -> None:
    """Start the servers, write, measure in a process of its own."""
    with rungs.broker() as kafka, rungs.database() as server:
        url = f"{server.rsplit('/', 1)[0]}/rebuild_{uuid.uuid4().hex[:8]}"
        _create(server, url)
        asyncio.run(migrate(url))
        asyncio.run(write(kafka, events))
        command = [sys.executable, "-m", "tests.benchmarks.rebuild", "--lines", str(lines), "--measure", kafka, url]
        subprocess.run(command, check=True)


def _create(server: str, url: str) -> None:
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {url.rsplit('/', 1)[1]}".encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--lines", type=int, default=refold.LINES)
    parser.add_argument("--measure", nargs=2, metavar=("KAFKA", "URL"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        asyncio.run(measured(*given.measure, given.lines))
    else:
        main(given.events, given.lines)
