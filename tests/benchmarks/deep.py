"""One mailbox 50,000 deep: what its owner waits for, and how long it takes to empty it alone."""

from __future__ import annotations

import statistics
import time

from tests.benchmarks.bench import Bench, Outcome
from tests.benchmarks.client import Connection
from tests.benchmarks.load import PAGE, ask_patiently

_LOOKS = 20
_DEEP, _SHALLOW = 0, 1


async def run(bench: Bench, outcome: Outcome) -> None:
    """Milliseconds to the first page, the very first and the median of several looks, beside a mailbox of one page."""
    await bench.fill(bench.ledger.letters([_SHALLOW] * PAGE + [_DEEP] * bench.sizes.deep))
    await bench.settle()
    await bench.sweep()
    await bench.quiet()
    shallow = [await _first_page(bench, _SHALLOW) for _ in range(_LOOKS)]
    deep = [await _first_page(bench, _DEEP) for _ in range(_LOOKS)]
    with bench.phase() as phase:
        drained = await bench.drain([_DEEP], drainers=1)
    await bench.drain([_SHALLOW], drainers=1)
    await bench.drain_again()
    outcome.figures.update(
        deep_first_page_cold_ms=deep[0],
        deep_first_page_ms=statistics.median(deep),
        deep_first_page_worst_ms=max(deep),
        shallow_first_page_ms=statistics.median(shallow),
        deep_drain_per_s=drained / phase.wall,
    )
    outcome.note_cpu("deep_drain", phase, drained)


async def _first_page(bench: Bench, account: int) -> float:
    began = time.perf_counter()
    connection = await Connection.open(bench.port)
    await ask_patiently(connection, bench.ledger, bench.dialect.sync_head(account, PAGE))
    took = time.perf_counter() - began
    connection.close()
    return took * 1000
