"""The program: `python -m tests.benchmarks.run`, with `--quick` to see that it works, `--help` for the rest."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import uvloop
from rich.console import Console

from deploy.errors import DeployError
from tests.benchmarks import batch, deep, drain, push, report, sampling, single, waiting
from tests.benchmarks.bench import QUICK, Bench, Outcome, Sizes
from tests.benchmarks.dialect import Plain
from tests.benchmarks.report import Measured
from tests.benchmarks.service import Running, do_it_yourself, restante, sign_up

Scenario = Callable[[Bench, Outcome], Awaitable[None]]

SCENARIOS: dict[str, Scenario] = {
    "single": single.run,
    "batch": batch.run,
    "drain": drain.run,
    "deep": deep.run,
    "push": push.run,
    "waiting": waiting.run,
}
_OF_THE_PEER: dict[str, Scenario] = {"single": single.run, "drain": drain.run, "deep": deep.run}
_RUN_SECONDS = 900.0
_progress = Console(stderr=True)


async def _peer(wanted: Sequence[str], sizes: Sizes) -> Measured:
    # A batch is measured against the peer's messages one by one, it has nothing faster.
    names = [name for name in _OF_THE_PEER if name in wanted or (name == "single" and "batch" in wanted)]
    async with do_it_yourself() as service:
        _say("diy answers")
        return await _play(Bench(service, Plain(), sizes), names)


async def _ours(wanted: Sequence[str], sizes: Sizes) -> Measured:
    async with restante() as service:
        return await _play(await _signed_up(service, sizes), wanted)


SERVICES = {"diy": _peer, "restante": _ours}


async def _signed_up(service: Running, sizes: Sizes) -> Bench:
    accounts = sizes.recipients + sizes.senders
    _say(f"restante answers on port {service.port}; {accounts} accounts sign up")
    return Bench(service, await sign_up(service, accounts), sizes)


async def _play(bench: Bench, names: Sequence[str]) -> Measured:
    outcome, before = Outcome(), bench.service.roles()
    await bench.quiet()
    batch.memory(bench, "fresh", outcome)
    await _warm_up(bench)
    for name in names:
        _say(f"{bench.service.label}: {name}")
        await SCENARIOS[name](bench, outcome)
    restarts = sum(before.get(role, pids)[:1] != pids[:1] for role, pids in bench.service.roles().items()) - outcome.restarts
    errors = dict(bench.ledger.errors.most_common(5))
    return Measured(bench.service.label, outcome.figures, outcome.cpu, bench.ledger.summary(), errors, restarts)


async def _warm_up(bench: Bench) -> None:
    """Compilers, caches and connections are ready before anything is measured, in both services alike."""
    _say(f"{bench.service.label}: warm-up")
    await bench.post(bench.random_letters(bench.sizes.warm_up))
    await bench.fill(bench.random_letters(bench.sizes.warm_up))
    await bench.settle()
    await bench.drain()
    await bench.sweep()


async def _profile(names: Sequence[str], sizes: Sizes) -> str:
    async with restante() as service:
        bench = await _signed_up(service, sizes)
        await _warm_up(bench)
        _say("sampling")
        return await sampling.profile(bench, names)


async def _measure(options: argparse.Namespace, sizes: Sizes, runs: list[Measured]) -> None:
    for number in range(options.runs):
        _say(f"run {number + 1} of {options.runs}")
        for one in options.services:
            async with asyncio.timeout(_RUN_SECONDS):
                runs.append(await SERVICES[one](options.only, sizes))


def _say(line: str) -> None:
    _progress.print(line, highlight=False, markup=False)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers: to see that it works, not how fast it is")
    scenarios, services = ", ".join(SCENARIOS), ", ".join(SERVICES)
    parser.add_argument("--only", type=_of(SCENARIOS), default=list(SCENARIOS), metavar="NAMES", help=f"of {scenarios}")
    parser.add_argument("--services", type=_of(SERVICES), default=list(SERVICES), metavar="NAMES", help=f"of {services}")
    parser.add_argument("--runs", type=_count, default=1, metavar="N", help="medians of N runs, each on fresh services")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything, for programs; -: in place of the tables")
    parser.add_argument("--profile", action="store_true", help="instead: sample the Python roles, print where the time goes")
    return parser.parse_args(arguments)


def _of(known: Iterable[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        if unknown := [name for name in text.split(",") if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(known)}")
        return [name for name in known if name in text.split(",")]

    return names


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 20:
        raise argparse.ArgumentTypeError("give a number from 1 to 20")
    return int(text)


def _publish(options: argparse.Namespace, runs: Sequence[Measured], sizes: Sizes) -> None:
    whole = json.dumps(report.as_json(runs, asdict(sizes)), indent=2)
    if options.json and str(options.json) == "-":
        print(whole)
        return
    if options.json:
        options.json.write_text(whole + "\n", encoding="utf-8")
    report.show(Console(width=None if sys.stdout.isatty() else 140), runs, asdict(sizes))


async def _main(options: argparse.Namespace) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    sizes = QUICK if options.quick else Sizes()
    if options.profile:
        print(await _profile(options.only, sizes))
        return
    runs: list[Measured] = []
    try:
        await _measure(options, sizes, runs)
    finally:
        if runs:
            _publish(options, runs, sizes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the exit code: 0 done, 1 broke off, 2 usage, 3 could not start, 130 interrupted."""
    options = _options(arguments)
    try:
        with suppress(KeyboardInterrupt):
            uvloop.run(_main(options))
            return 0
    except asyncio.CancelledError:
        pass
    except DeployError as error:
        _say(str(error))
        return 3
    except Exception as error:
        _say(f"broke off: {_reason(error)!r}")
        for note in getattr(error, "__notes__", ()):
            _say(note)
        return 1
    return 130


def _reason(error: BaseException) -> BaseException:
    return _reason(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


if __name__ == "__main__":
    sys.exit(main())
