"""The tables for a person and the JSON for a program."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks.goals import GOALS, Figures, Verdict, complete
from tests.benchmarks.service import PYTHON_ROLES

_PHASES = ("accept", "decide", "drain", "life", "batch", "batch_until_decided", "drain_20", "drain_100", "deep_drain",
           "push", "pushed", "pushed_single")  # fmt: skip
_COLOUR = {Verdict.AIM: "bold green", Verdict.REACHED: "green", Verdict.MISSED: "bold red", Verdict.NONE: "default"}
_TOO_BUSY = 0.25
_TROUBLE = ("lost", "duplicates", "misdirected", "came_back_after_ack")


@dataclass(slots=True)
class Measured:
    """One run of one service."""

    service: str
    figures: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, dict[str, float]] = field(default_factory=dict)
    correctness: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    restarts: int = 0


def as_json(runs: Sequence[Measured], sizes: Mapping[str, int]) -> dict[str, Any]:
    """Everything: the medians, the verdicts, and each run as it was."""
    ours, peers = median(runs, "restante"), median(runs, "diy")
    goals = [
        {
            "figure": goal.figure,
            "label": goal.label.strip(),
            "unit": goal.unit,
            "restante": ours.get(goal.figure),
            "diy": peers.get(goal.peer) if goal.peer else None,
            "ratio": goal.ratio(ours, peers),
            "reach": goal.reach.shown(goal.unit) if goal.reach else None,
            "aim": goal.aim.shown(goal.unit) if goal.aim else None,
            "verdict": str(goal.verdict(ours, peers)) or None,
        }
        for goal in GOALS
        if goal.figure in ours or (goal.peer or "") in peers
    ]
    every = [
        {"service": run.service, "figures": run.figures, "cpu_us": run.cpu, "correctness": run.correctness,
         "errors": run.errors, "restarts": run.restarts}
        for run in runs
    ]  # fmt: skip
    return {
        "machine": machine(),
        "sizes": dict(sizes),
        "goals": goals,
        "medians": {"restante": ours, "diy": peers},
        "runs": every,
    }


def median(runs: Sequence[Measured], service: str) -> dict[str, float]:
    """The median of each figure over the runs of a service."""
    mine = [run.figures for run in runs if run.service == service]
    names = dict.fromkeys(name for figures in mine for name in figures)
    return complete({name: statistics.median(figures[name] for figures in mine if name in figures) for name in names})


def machine() -> dict[str, Any]:
    """What it was measured on."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    return {"cores": os.cpu_count(), "processor": model, "system": platform.platform(), "python": platform.python_version()}


def show(console: Console, runs: Sequence[Measured], sizes: Mapping[str, int]) -> None:
    """Print the tables: goals, processor time by role, memory, correctness."""
    ours, peers = median(runs, "restante"), median(runs, "diy")
    about = machine()
    count = max((sum(run.service == name for run in runs) for name in ("restante", "diy")), default=0)
    console.print(
        f"{about['cores']} cores ({about['processor']}), generator on the same machine; medians of {count}; {dict(sizes)}"
    )
    console.print(_goals(ours, peers))
    for service in ("diy", "restante"):
        mine = [run for run in runs if run.service == service]
        if any(run.cpu for run in mine):
            console.print(_processor_time(service, mine))
    if "pss_waiting_mib" in ours:
        console.print(_memory(ours))
    _correctness(console, runs)
    busy = {run.service: run.figures.get("accept_strangers_cores", 0.0) for run in runs}
    if any(cores > _TOO_BUSY for cores in busy.values()):
        shown = ", ".join(f"{cores:.1f} cores with {service}" for service, cores in busy.items())
        console.print(
            f"[bold red]Other programs were busy[/] ({shown}): measure again on a machine at rest.", highlight=False
        )


def _goals(ours: Figures, peers: Figures) -> Table:
    table = Table(title="Speed", title_justify="left")
    table.add_column("figure")
    for column in ("restante", "diy", "ratio", "reach", "aim"):
        table.add_column(column, justify="right")
    table.add_column("")
    for goal in GOALS:
        if goal.figure not in ours and (goal.peer or "") not in peers:
            continue
        ratio, verdict = goal.ratio(ours, peers), goal.verdict(ours, peers)
        limits = [limit.shown(goal.unit) if limit else "" for limit in (goal.reach, goal.aim)]
        values = [_shown(ours.get(goal.figure), goal.unit), _shown(peers.get(goal.peer or ""), goal.unit)]
        shown_ratio = "" if ratio is None else f"{ratio:.2f} x"
        table.add_row(goal.label, *values, shown_ratio, *limits, f"[{_COLOUR[verdict]}]{verdict}[/]")
    return table


def _processor_time(service: str, runs: Sequence[Measured]) -> Table:
    phases = [phase for phase in _PHASES if any(phase in run.cpu for run in runs)]
    roles = list(dict.fromkeys(role for run in runs for phase in run.cpu.values() for role in phase))
    table = Table(title=f"{service}: processor time by role, us a message", title_justify="left")
    table.add_column("role")
    for phase in phases:
        table.add_column(phase.replace("_", " "), justify="right")
    sums: dict[str, float] = dict.fromkeys(phases, 0.0)
    for role in sorted(roles, key=lambda role: role == "generator"):
        row = []
        for phase in phases:
            found = [run.cpu[phase][role] for run in runs if role in run.cpu.get(phase, {})]
            value = statistics.median(found) if found else 0.0
            sums[phase] += value if role != "generator" else 0.0
            row.append(f"{value:.1f}")
        if role == "generator":
            table.add_section()
            table.add_row("all of it", *(f"{sums[phase]:.1f}" for phase in phases))
        table.add_row(role, *row)
    strangers = median(runs, service)
    table.add_row("cores used by others", *(f"{strangers.get(f'{phase}_strangers_cores', 0.0):.2f}" for phase in phases))
    return table


def _memory(ours: Figures) -> Table:
    table = Table(
        title=f"memory, MiB (PSS), with {ours.get('waiting', 0):,.0f} messages waiting and without", title_justify="left"
    )
    table.add_column("role")
    moments = ("fresh", "none", "waiting", "after")
    for column in ("just started", "none waiting", "all waiting", "drained"):
        table.add_column(column, justify="right")
    roles = [
        name[len("pss_none_") : -len("_mib")] for name in ours if name.startswith("pss_none_") and name != "pss_none_mib"
    ]
    for role in roles:
        table.add_row(role, *(f"{ours.get(f'pss_{when}_{role}_mib', 0):.0f}" for when in moments))
    table.add_section()
    table.add_row(", ".join(PYTHON_ROLES), *(f"{ours.get(f'pss_{when}_mib', 0):.0f}" for when in moments))
    return table


def _correctness(console: Console, runs: Sequence[Measured]) -> None:
    for run in runs:
        wrong = [name for name in _TROUBLE if run.correctness.get(name)]
        counts = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in run.correctness.items())
        restarts = f", restarts of a role {run.restarts}" if run.restarts else ""
        colour = "bold red" if wrong or run.restarts else "green"
        console.print(f"[{colour}]{run.service}[/]: {counts}{restarts}", highlight=False)
        for error, times in run.errors.items():
            console.print(f"  {times} x {error}", highlight=False, markup=False)


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if unit == "msg/s" else f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
