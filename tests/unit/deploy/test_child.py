from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from deploy.local.child import Command, last_lines, start, started_at
from tests.eventually import eventually, soon

DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)\nwhile True: signal.pause()"


def command(tmp_path: Path, code: str) -> Command:
    return Command("thing", [sys.executable, "-c", code], tmp_path / "logs" / "thing.log", dict(os.environ))


def test_output_goes_to_the_log(tmp_path: Path) -> None:
    async def scenario() -> int:
        child = await start(command(tmp_path, "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"))
        return await child.wait()

    assert asyncio.run(scenario()) == 7
    assert sorted(last_lines(tmp_path / "logs" / "thing.log")) == ["err", "out"]


def test_a_child_that_does_not_listen_is_killed_in_time(tmp_path: Path) -> None:
    async def scenario() -> int | None:
        child = await start(command(tmp_path, DEAF))
        await eventually(lambda: last_lines(child.command.log) == ["deaf"])
        await child.stop(within=0.1)
        return child.returncode

    assert asyncio.run(scenario()) == -signal.SIGKILL


def test_a_child_does_not_outlive_its_parent(tmp_path: Path) -> None:
    code = f"""
import asyncio, os, signal
from pathlib import Path
from deploy.local.child import Command, start
async def main():
    arguments = [{sys.executable!r}, "-c", {DEAF!r}]
    child = await start(Command("thing", arguments, Path({str(tmp_path)!r}) / "log", dict(os.environ)))
    print(child.pid, flush=True)
    signal.pause()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        soon(lambda: last_lines(tmp_path / "log") == ["deaf"])
        parent.kill()
    soon(lambda: started_at(pid) is None)


def test_a_child_is_not_hit_by_a_signal_to_our_group(tmp_path: Path) -> None:
    async def scenario() -> bool:
        child = await start(command(tmp_path, DEAF))
        try:
            return os.getpgid(child.pid) == child.pid
        finally:
            child.kill()
            await child.wait()

    assert asyncio.run(scenario())
