"""How fast the log is signed, verified and exported: records a second, and the memory that it takes.

    python -m tests.benchmarks.verify [--events 60000]

A log of so many records is written to a real broker (as in `project`, eight partitions). Then, each in a process of its own:
the notary signs it from the first record on, `restante verify` reads it, `restante export` writes it to files, and `restante
verify --export` reads those. A million records: `--events 1000000`.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from api.secrets import make_token_key
from deploy.evidence import proving
from deploy.settings import Settings, read_settings
from producers.connection import KafkaConnection
from producers.notary import Notary
from producers.recorded import LogReader
from producers.register import Register
from producers.signing import Signer
from schemas.chain import Link
from schemas.topics import SIGNED
from tests import rungs
from tests.benchmarks.filled import write


async def sign(settings: Settings, home: Path) -> int:
    """One round of a notary that begins."""
    connection = KafkaConnection(bootstrap=str(settings.kafka))
    signer = Signer.read((home / "key").read_text())

    async def nothing() -> Mapping[tuple[str, int], Link]:
        return {}

    notary = Notary(
        lambda: Register(settings.notary_dir, signer),
        lambda topic: LogReader(connection, topic),
        nothing,
        SIGNED,
        clock=time.time,
    )
    with Register(settings.notary_dir, signer) as register:
        await notary.sign(register)
        return sum(head.last + 1 for head in register.heads.values())


async def verify(settings: Settings, home: Path) -> int:
    return _clean(await proving.verify_log(settings, None, None, None, _quiet))


async def export(settings: Settings, home: Path) -> int:
    return int((await proving.export_log(settings, home / "export", None, None, None, None, _quiet))["records"])


async def verify_export(settings: Settings, home: Path) -> int:
    return _clean(await proving.verify_export(home / "export", None, None, _quiet))


STEPS: Mapping[str, Callable[[Settings, Path], Coroutine[Any, Any, int]]] = {
    "sign": sign,
    "verify": verify,
    "export": export,
    "verify-export": verify_export,
}


def measured(step: str, kafka: str, home: Path) -> None:
    """In the process that is measured."""
    settings = read_settings({"RESTANTE_KAFKA": kafka, "RESTANTE_NOTARY_DIR": str(home / "notary")})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began, cpu = time.perf_counter(), time.process_time()
    records = asyncio.run(STEPS[step](settings, home))
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{step:14} {records:>9,} records in {wall:6.2f} s: {records / wall:>9,.0f}/s, {1e6 * cpu / records:5.1f} us of"
        f" Python a record, {peak:.0f} MB ({before:.0f} before)"
    )


def _clean(report: dict[str, Any]) -> int:
    assert report["clean"], report["findings"]
    return int(report["records"])


def _quiet(topic: str, partition: int, offset: int, end: int) -> None:
    return None


def main(events: int) -> None:
    """Start the broker, write, and measure each step in a process of its own."""
    with rungs.broker() as kafka, tempfile.TemporaryDirectory(prefix="restante-bench-") as home:
        asyncio.run(write(kafka, events))
        (Path(home) / "key").write_text(make_token_key())
        for step in STEPS:
            subprocess.run([sys.executable, "-m", __spec__.name, "--step", step, kafka, home], check=True)
        kept = sum(file.stat().st_size for file in (Path(home) / "notary").iterdir())
        print(f"statements: {kept / 1024:.0f} kB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--step", nargs=3, metavar=("STEP", "KAFKA", "HOME"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        measured(given.step[0], given.step[1], Path(given.step[2]))
    else:
        main(given.events)
