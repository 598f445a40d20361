"""Messages a hundred at a time, all of them waiting in mailboxes at the end: the rate, and what waiting costs in memory."""

from __future__ import annotations

from tests.benchmarks.bench import Bench, Outcome
from tests.benchmarks.measure import percentile_ms, pss_mib
from tests.benchmarks.service import PYTHON_ROLES


def memory(bench: Bench, when: str, outcome: Outcome) -> None:
    """Keep the PSS of every role, and of the Python roles together, in MiB."""
    for role, pids in bench.service.roles().items():
        outcome.figures[f"pss_{when}_{role}_mib"] = pss_mib(pids)
    outcome.figures[f"pss_{when}_mib"] = sum(outcome.figures.get(f"pss_{when}_{role}_mib", 0.0) for role in PYTHON_ROLES)


async def run(bench: Bench, outcome: Outcome) -> None:
    """Accepted a second in batches, the rate until all are decided, memory with all waiting and after."""
    letters, before = bench.random_letters(bench.sizes.batch), len(bench.ledger.accepted)
    await bench.quiet()
    memory(bench, "none", outcome)
    with bench.phase() as accept:
        took = await bench.fill(letters)
    accepted = len(bench.ledger.accepted) - before
    with bench.phase() as decide:
        await bench.settle()
    await bench.quiet()
    memory(bench, "waiting", outcome)
    await bench.drain()
    await bench.sweep()
    await bench.drain_again()
    await bench.quiet()
    memory(bench, "after", outcome)
    outcome.figures.update(
        batch_per_s=accepted / accept.wall,
        batch_p50_ms=percentile_ms(took, 0.5),
        batch_p99_ms=percentile_ms(took, 0.99),
        batch_sustained_per_s=accepted / (accept.wall + decide.wall),
        waiting=accepted,
    )
    outcome.note_cpu("batch", accept, accepted)
    outcome.note_cpu("batch_until_decided", [accept, decide], accepted)
