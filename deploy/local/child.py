"""One child process: its own session, its own log file, and never alive after its parent.

The child asks the kernel for a signal at its parent's death (Linux), so that a supervisor killed with SIGKILL leaves
nothing behind. Elsewhere the record in the data directory finds the leftovers at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_BOUND = str(Path(__file__).with_name("bound.py"))


@dataclass(frozen=True, slots=True)
class Identity:
    """The user a child runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. `orphan_signal` reaches the child when its parent dies, `stop_signal` asks it to end in order."""

    name: str
    arguments: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    identity: Identity | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    directory: Path = field(default=Path("/"))


class Child:
    """A running process. Made by `start`."""

    def __init__(self, command: Command, process: asyncio.subprocess.Process) -> None:
        self.command = command
        self._process = process

    @property
    def name(self) -> str:
        """The name in messages and in the log directory."""
        return self.command.name

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; else the exit code, negative for a signal."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait for the end and give the exit code."""
        return await self._process.wait()

    async def stop(self, within: float) -> None:
        """Ask it to end, and kill it where it has not ended after `within` seconds."""
        self.signal(self.command.stop_signal)
        try:
            await asyncio.wait_for(self._process.wait(), max(within, 0.05))
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def signal(self, number: int) -> None:
        """Send a signal to the process; nothing happens where it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it and what it started: it leads a process group of its own."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


async def start(command: Command) -> Child:
    """Start a process; its output is appended to the log file. OSError where it cannot be started."""
    command.log.parent.mkdir(parents=True, exist_ok=True)
    who = command.identity or Identity(-1, -1)
    bound = [sys.executable, "-I", "-S", _BOUND, *map(str, (os.getpid(), int(command.orphan_signal), who.uid, who.gid))]
    with command.log.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *bound,
            *command.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(command.environment),
            cwd=command.directory,
            start_new_session=True,
        )
    return Child(command, process)


def last_lines(log: Path, count: int = 12) -> list[str]:
    """The end of a log file, to show why a process did not start."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 16_384))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return text.splitlines()[-count:]


def started_at(pid: int) -> str | None:
    """When a process started, in the kernel's own units: with the pid it names one process for ever. None: no such one."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
