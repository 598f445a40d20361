"""Messages one by one from 64 senders, until decided and in the mailbox, then drained: a message's whole life."""

from __future__ import annotations

from tests.benchmarks.bench import Bench, Outcome
from tests.benchmarks.measure import percentile_ms


async def run(bench: Bench, outcome: Outcome) -> None:
    """Accepted a second with its latency, the rate until all are decided, processor time from POST to acknowledged."""
    letters, before = bench.random_letters(bench.sizes.single), len(bench.ledger.accepted)
    with bench.phase() as accept:
        took = await bench.post(letters)
    accepted = len(bench.ledger.accepted) - before
    with bench.phase() as decide:
        await bench.settle()
    with bench.phase() as hand_over:
        drained = await bench.drain()
    with bench.phase() as acknowledged:
        await bench.sweep()
        idle = await bench.quiet()
    await bench.drain_again()
    outcome.figures.update(
        accept_per_s=accepted / accept.wall,
        accept_p50_ms=percentile_ms(took, 0.5),
        accept_p99_ms=percentile_ms(took, 0.99),
        sustained_per_s=accepted / (accept.wall + decide.wall),
        settle_s=decide.wall,
        mixed_drain_per_s=drained / hand_over.wall,
        idle_cores=idle,
    )
    outcome.note_cpu("accept", accept, accepted)
    outcome.note_cpu("decide", decide, accepted)
    outcome.note_cpu("drain", [hand_over, acknowledged], accepted)
    outcome.note_cpu("life", [accept, decide, hand_over, acknowledged], accepted)
