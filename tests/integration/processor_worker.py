"""A processor in a process of its own, for tests that kill it. `--fail` names a point at which it goes wrong.

It writes what it is doing to standard output, one line a change: `reading 0,1` with its partitions, `sessions 2` as its
metric says, `stopped`.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from processors import worker
from processors.app import Options, Processor
from processors.desk import Desk
from processors.health import Health
from producers.connection import KafkaConnection
from producers.kafka_tail import KafkaTail
from schemas.codec import Record
from schemas.events import DeliveryAttempted, PendingSync
from schemas.metrics import SESSIONS
from schemas.receipt import Receipt
from schemas.topics import GATEWAYS
from tests.integration.processor_rig import PrefixedLog

FAIL_POINTS = ("none", "run-error", "kill-after-append", "kill-after-receipts", "hold-first-append")


class FailingLog:
    """The log, with the fail points that lie in it."""

    def __init__(self, log: PrefixedLog, fail: str) -> None:
        self._log = log
        self._fail = fail
        self._calls = 0

    async def append_all(self, records: Sequence[Record], *, partitions: Sequence[int | None] | None = None) -> list[Any]:
        after = Receipt if self._fail == "kill-after-receipts" else DeliveryAttempted | PendingSync
        if not any(isinstance(record, after) for record in records):
            return await self._log.append_all(records, partitions=partitions)
        self._calls += 1
        if self._fail == "hold-first-append" and self._calls == 1:
            await asyncio.Event().wait()
        answers = await self._log.append_all(records, partitions=partitions)
        if self._fail.startswith("kill-after"):
            os.kill(os.getpid(), signal.SIGKILL)
        return answers

    async def ends(self) -> dict[int, int]:
        return await self._log.ends()


def arm(fail: str) -> None:
    """Make the agent itself fail on its first run that asks for something."""
    if fail != "run-error":
        return
    read = Desk.read

    def failing(self: Desk, *run: Any) -> Any:
        if read(self, *run).decisions:
            raise RuntimeError("an error in the agent")
        return read(self, *run)

    Desk.read = failing  # type: ignore[method-assign]


async def tell(processors: list[Processor]) -> None:
    """Print the partitions that are being read, and how many sessions are known, whenever that changes."""
    last = {"reading": "", "sessions": ""}
    while True:
        for processor in processors:
            parts = sorted(processor.ledger.partitions) if processor.reading else []
            now = {"reading": ",".join(map(str, parts)), "sessions": f"{SESSIONS._value.get():.0f}"}
            for word in [word for word in now if now[word] != last[word]]:
                print(word, now[word], flush=True)
            last = now
        await asyncio.sleep(0.02)


async def main(arguments: argparse.Namespace) -> None:
    options = Options(
        client_options={"bootstrap_servers": arguments.bootstrap},
        producer=f"processor/{arguments.name}",
        partitions=arguments.partitions,
        data_dir=Path(arguments.data),
        instance_id=arguments.instance,
        session_seconds=6.0,
        app_id=f"{arguments.prefix}processor",
        lifecycle=f"{arguments.prefix}restante.lifecycle",
        max_run_records=arguments.run,
        lease_seconds=arguments.lease,
    )
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    built: list[Processor] = []
    build = worker.build_app
    worker.build_app = lambda *args, **more: built.append(build(*args, **more)) or built[-1]  # type: ignore[assignment]
    telling = asyncio.create_task(tell(built))
    async with (
        PrefixedLog(arguments.bootstrap, arguments.prefix, arguments.partitions) as log,
        KafkaTail(KafkaConnection(bootstrap=arguments.bootstrap), arguments.prefix + GATEWAYS, start="beginning") as leases,
    ):
        await worker.run(options, FailingLog(log, arguments.fail), leases, Health(), stop)
    telling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await telling
    print("stopped", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--name", default="1")
    parser.add_argument("--partitions", type=int, default=2)
    parser.add_argument("--instance")
    parser.add_argument("--run", type=int, default=500)
    parser.add_argument("--lease", type=float, default=15.0)
    parser.add_argument("--data", required=True)
    parser.add_argument("--fail", choices=FAIL_POINTS, default="none")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    arm(chosen.fail)
    asyncio.run(main(chosen))
