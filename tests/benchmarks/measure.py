"""Reading the kernel's books: processor time, memory, and who else was busy.

Processor time is user and system time in nanoseconds where the kernel counts them (schedstat, threads that live), in
ticks of 10 ms where it does not (threads and children that have ended). PSS counts shared memory once over all who share it.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

_TICK = os.sysconf("SC_CLK_TCK")

Roles = Mapping[str, Sequence[int]]


def process_tree(root: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError):
                children.setdefault(int(_stat(int(entry))[1]), []).append(int(entry))
    found, ahead = [], [root]
    while ahead:
        pid = ahead.pop()
        found.append(pid)
        ahead += children.get(pid, [])
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time of these processes since they began, with that of their children that have ended."""
    total = 0.0
    for pid in pids:
        with suppress(OSError):
            user, system, child_user, child_system = map(int, _stat(pid)[11:15])
            total += max(_threads(pid), (user + system) / _TICK) + (child_user + child_system) / _TICK
    return total


def pss_mib(pids: Iterable[int]) -> float:
    """Proportional set size in MiB."""
    kib = 0
    for pid in pids:
        with suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
            kib += next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return kib / 1024


def machine_busy() -> float:
    """Seconds that the cores of this machine have been busy since boot."""
    with open("/proc/stat", encoding="ascii") as file:
        values = [int(value) for value in file.readline().split()[1:9]]
    return (sum(values) - values[3] - values[4]) / _TICK


def percentile_ms(seconds: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the measurements lie, in milliseconds; 0 without any."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0.0


@dataclass(slots=True)
class Phase:
    """A stretch of time: `with Phase(roles) as phase`. All in seconds; `others` in cores kept busy by strangers."""

    roles: Roles
    wall: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    generator: float = 0.0
    others: float = 0.0
    _before: tuple[float, float, float, dict[str, float]] = (0.0, 0.0, 0.0, {})

    def __enter__(self) -> Phase:
        gc.collect()
        gc.disable()  # the generator's pauses are not the server's
        cpu = {role: cpu_seconds(pids) for role, pids in self.roles.items()}
        self._before = (machine_busy(), time.process_time(), time.perf_counter(), cpu)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        gc.enable()
        busy, own, began, cpu = self._before
        self.wall = time.perf_counter() - began
        self.cpu = {role: cpu_seconds(pids) - cpu[role] for role, pids in self.roles.items()}
        self.generator = time.process_time() - own
        self.others = max(0.0, (machine_busy() - busy - self.total - self.generator) / max(self.wall, 1e-9))

    @property
    def total(self) -> float:
        """Processor time of all roles."""
        return sum(self.cpu.values())

    def microseconds(self, messages: int) -> dict[str, float]:
        """Processor time a message by role."""
        return {role: seconds / max(messages, 1) * 1e6 for role, seconds in self.cpu.items()}


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def _threads(pid: int) -> float:
    nanoseconds = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with suppress(OSError):
            nanoseconds += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text(encoding="ascii").split()[0])
    return nanoseconds / 1e9
