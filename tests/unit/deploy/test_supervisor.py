from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.errors import DeployError
from deploy.local.child import Command, started_at
from deploy.local.supervisor import Supervisor
from tests.eventually import eventually

PATIENT = "import signal; print('up', flush=True)\nwhile True: signal.pause()"


@dataclass
class Toy:
    """A server that answers once it has written to its log since its last start."""

    name: str
    directory: Path
    code: str = PATIENT
    started: int = 0

    async def prepare(self) -> Command:
        self.started += 1
        log = self.directory / f"{self.name}-{self.started}.log"
        return Command(self.name, [sys.executable, "-c", self.code], log, dict(os.environ))

    async def answers(self) -> bool:
        log = self.directory / f"{self.name}-{self.started}.log"
        return log.exists() and "up" in log.read_text()


def supervised(scenario: Callable[[Supervisor, list[str]], Awaitable[None]]) -> list[str]:
    said: list[str] = []

    async def main() -> None:
        supervisor = Supervisor(said.append, lambda: None)
        try:
            await scenario(supervisor, said)
        finally:
            await supervisor.stop(*list(supervisor.running), within=1)

    asyncio.run(main())
    return said


def test_what_dies_is_started_again(tmp_path: Path) -> None:
    toy = Toy("toy", tmp_path)

    async def scenario(supervisor: Supervisor, said: list[str]) -> None:
        await supervisor.start(toy, within=10)
        first = supervisor.pids()["toy"]
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: supervisor.running["toy"].restarts == 1)
        assert supervisor.pids()["toy"] != first

    said = supervised(scenario)
    assert any("toy ended with exit code -9" in line for line in said)
    assert toy.started == 2


def test_a_restart_that_fails_is_tried_again(tmp_path: Path) -> None:
    toy = Toy("toy", tmp_path)

    async def scenario(supervisor: Supervisor, said: list[str]) -> None:
        await supervisor.start(toy, within=10)
        toy.code = "import sys; sys.exit(5)"
        os.kill(supervisor.pids()["toy"], signal.SIGKILL)
        await eventually(lambda: toy.started == 3)
        toy.code = PATIENT
        await eventually(lambda: supervisor.running["toy"].restarts == 1)

    supervised(scenario)


def test_a_server_that_does_not_come_up_shows_the_end_of_its_log(tmp_path: Path) -> None:
    async def scenario(supervisor: Supervisor, said: list[str]) -> None:
        with pytest.raises(DeployError) as failure:
            await supervisor.start(Toy("toy", tmp_path, "print('no disk'); raise SystemExit(4)"), within=10)
        assert "exit code 4" in str(failure.value) and "no disk" in str(failure.value)

    supervised(scenario)


def test_a_server_that_stays_silent_is_given_up_and_ended(tmp_path: Path) -> None:
    mute = Toy(
        "toy", tmp_path, f"import os, signal; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); signal.pause()"
    )

    async def scenario(supervisor: Supervisor, said: list[str]) -> None:
        with pytest.raises(DeployError, match="does not answer after"):
            await supervisor.start(mute, within=0.5)
        assert started_at(int((tmp_path / "pid").read_text())) is None

    supervised(scenario)


def test_stopped_servers_stay_down(tmp_path: Path) -> None:
    toy = Toy("toy", tmp_path)

    async def scenario(supervisor: Supervisor, said: list[str]) -> None:
        await supervisor.start(toy, within=10)
        pid = supervisor.pids()["toy"]
        await supervisor.stop("toy", within=2)
        assert started_at(pid) is None
        assert not supervisor.running

    assert not any("ended" in line for line in supervised(scenario))
