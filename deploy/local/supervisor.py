"""Keeps servers alive: starts them, restarts what dies, stops them in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from deploy.errors import DeployError
from deploy.local.child import Child
from deploy.local.server import Server, launch

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
_SOUND_AFTER = 30.0
"""A server that ran this long, in seconds, is restarted without the pauses of its earlier deaths."""


@dataclass(slots=True)
class Supervised:
    """One server under supervision."""

    server: Server
    start_within: float
    child: Child
    since: float
    watch: asyncio.Task[None] | None = None
    restarts: int = 0


@dataclass(slots=True)
class Supervisor:
    """Owns the servers that it started. `say` gets lines for whoever watches; `changed` hears of new process ids."""

    say: Callable[[str], None]
    changed: Callable[[], None]
    running: dict[str, Supervised] = field(default_factory=dict)

    async def start(self, *servers: Server, within: float) -> None:
        """Start servers at the same time and wait until all answer. The first DeployError ends the wait.

        What was started before stays and belongs to `stop`.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for server in servers:
                    group.create_task(self._start(server, within))
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    def pids(self) -> dict[str, int]:
        """The process id of each server that runs."""
        return {name: one.child.pid for name, one in self.running.items() if one.child.returncode is None}

    async def stop(self, *names: str, within: float) -> None:
        """Stop some servers at the same time, each killed after `within` seconds."""
        leaving = [self.running.pop(name) for name in names if name in self.running]
        for one in leaving:
            if one.watch:
                one.watch.cancel()
        await asyncio.gather(*(one.watch for one in leaving if one.watch), return_exceptions=True)
        await asyncio.gather(*(one.child.stop(within) for one in leaving))

    def kill(self) -> None:
        """End everything at once, without order: the second Ctrl-C."""
        for one in self.running.values():
            one.child.kill()

    async def _start(self, server: Server, within: float) -> None:
        begun = time.monotonic()
        child = await launch(server, within)
        one = self.running[server.name] = Supervised(server, within, child, time.monotonic())
        one.watch = asyncio.create_task(self._watch(one), name=f"watch {server.name}")
        self.changed()
        self.say(f"{server.name} answers ({time.monotonic() - begun:.1f} s)")

    async def _watch(self, one: Supervised) -> None:
        pause = _FIRST_PAUSE
        while True:
            code = await one.child.wait()
            if time.monotonic() - one.since > _SOUND_AFTER:
                pause = _FIRST_PAUSE
            self.say(f"{one.server.name} ended with exit code {code} and is started again, see {one.child.command.log}")
            again = False
            while not again:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                again = await self._again(one)

    async def _again(self, one: Supervised) -> bool:
        begun = time.monotonic()
        try:
            one.child = await launch(one.server, one.start_within)
        except DeployError as error:
            self.say(f"{error}\n{one.server.name} is tried again")
            return False
        one.since = time.monotonic()
        one.restarts += 1
        self.changed()
        self.say(f"{one.server.name} answers again ({one.since - begun:.1f} s)")
        return True
