"""Recipients come back, 32 at a time, and empty mailboxes that hold 20 or 100 messages each."""

from __future__ import annotations

from tests.benchmarks.bench import Bench, Outcome


async def run(bench: Bench, outcome: Outcome) -> None:
    """Messages a second by sync and acknowledgement, and the processor time of one."""
    for depth, rounds in ((20, bench.sizes.rounds_of_20), (100, bench.sizes.rounds_of_100)):
        drained, phases = 0, []
        for _ in range(rounds):
            await bench.fill(bench.ledger.letters([*bench.recipients] * depth))
            await bench.settle()
            await bench.sweep()
            await bench.quiet()
            with bench.phase() as phase:
                drained += await bench.drain()
            phases.append(phase)
            await bench.drain_again()
        outcome.figures[f"drain_{depth}_per_s"] = drained / sum(phase.wall for phase in phases)
        outcome.note_cpu(f"drain_{depth}", phases, drained)
