"""Where the Python roles spend their time: py-spy samples each of them under one kind of load at a time."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from deploy.errors import DeployError
from tests.benchmarks import push
from tests.benchmarks.bench import Bench, Outcome
from tests.benchmarks.service import PYTHON_ROLES

_RATE = 200
_SECONDS = 60
_SHOWN = 25
_FRAMES_OF_ALL = ("<frozen", "typer/", "click/", "rich/", "threading.py", "deploy/cli", "deploy/wiring", "mode/", "<string>")
_FRAME = re.compile(r"(?P<function>.*) \((?P<file>.*?)(?::\d+)?\)$")


async def _post(bench: Bench) -> None:
    await bench.post(bench.random_letters(bench.sizes.single))
    await bench.settle()


async def _batches(bench: Bench) -> None:
    await bench.fill(bench.random_letters(bench.sizes.batch))
    await bench.settle()


async def _drain(bench: Bench) -> None:
    await bench.drain()
    await bench.sweep()


async def _deep(bench: Bench) -> None:
    await bench.drain([0], drainers=1)


async def _push(bench: Bench) -> None:
    await push.latency(bench, Outcome())


LOADS: dict[str, Callable[[Bench], Awaitable[None]]] = {
    "single": _post,
    "batch": _batches,
    "drain": _drain,
    "deep": _deep,
    "push": _push,
}
"""What is sampled of each scenario. The mailboxes of the last two are filled before."""


async def profile(bench: Bench, names: Sequence[str]) -> str:
    """Play loads under the sampler; of each and of each Python role the functions by own and by whole time, as text."""
    if unknown := [name for name in names if name not in LOADS]:
        raise DeployError(f"no load to sample for {', '.join(unknown)}: there are {', '.join(LOADS)}, choose with --only")
    parts = []
    for name in names:
        if name == "drain":
            await bench.fill(bench.random_letters(bench.sizes.batch))
        if name == "deep":
            await bench.fill(bench.ledger.letters([0] * bench.sizes.deep))
        await bench.settle()
        await bench.quiet()
        parts.append(f"==== {name}\n\n{await _sampled(bench, LOADS[name])}")
        await bench.drain()
        await bench.sweep()
    return "\n\n".join(parts)


async def _sampled(bench: Bench, play: Callable[[Bench], Awaitable[None]]) -> str:
    roles = bench.service.roles()
    with tempfile.TemporaryDirectory(prefix="bench-profile-") as directory:
        files = {role: Path(directory, f"{role}.txt") for role in PYTHON_ROLES if roles.get(role)}
        samplers = [await _sampler(roles[role][0], file) for role, file in files.items()]
        with bench.phase() as load:
            await play(bench)
        for sampler in samplers:
            if sampler.returncode is None:
                sampler.send_signal(2)  # it writes what it has
            await asyncio.wait_for(sampler.wait(), 30)
        shares = [f"{role} {seconds / load.wall:.2f}" for role, seconds in load.cpu.items()]
        parts = [
            f"cores used over {load.wall:.1f} s of load: {', '.join(shares)}, generator {load.generator / load.wall:.2f}"
        ]
        for role, file in files.items():
            text = file.read_text(encoding="utf-8") if file.exists() else ""
            parts.append(_described(role, text.splitlines(), load.wall))
    return "\n\n".join(parts)


async def _sampler(pid: int, file: Path) -> asyncio.subprocess.Process:
    often = ("--rate", str(_RATE), "--duration", str(_SECONDS), "--nonblocking")
    written = ("--format", "raw", "--nolineno", "--output", str(file))
    process = await asyncio.create_subprocess_exec(
        *_program(), "record", "--pid", str(pid), *often, *written,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    await asyncio.sleep(1)  # it attaches; what it misses is the start of the load
    if process.returncode:
        raise DeployError("py-spy could not attach to a role of the service; run as root or allow ptrace")
    return process


def _program() -> Sequence[str]:
    if found := shutil.which("py-spy"):
        return (found,)
    if found := shutil.which("uv"):
        return (found, "tool", "run", "--quiet", "py-spy")
    raise DeployError("there is neither py-spy nor uv to bring it: `pip install py-spy`")


def _described(role: str, stacks: Sequence[str], wall: float) -> str:
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    packages: Counter[str] = Counter()
    for stack in stacks:
        frames, _, count = stack.rpartition(" ")
        names = [_short(frame) for frame in frames.split(";") if _FRAME.match(frame)]
        if not names:
            continue
        own[names[-1]] += int(count)
        packages[names[-1].split(" ", 1)[1].split("/", 1)[0]] += int(count)
        for name in set(names):
            whole[name] += int(count)
    total = own.total()
    if not total:
        return f"{role}: no samples"
    lines = [f"{role}: busy {total / _RATE / wall:.2f} of a core", "  by package: " + _row(packages, total)]
    lines.append(f"  {'own':>6} {'whole':>6}  function, by own time")
    lines += [f"  {count / total:6.1%} {whole[name] / total:6.1%}  {name}" for name, count in own.most_common(_SHOWN)]
    lines.append(f"  {'own':>6} {'whole':>6}  function, by whole time")
    below = [pair for pair in whole.most_common() if not pair[0].split(" ", 1)[1].startswith(_FRAMES_OF_ALL)][: 2 * _SHOWN]
    lines += [f"  {own[name] / total:6.1%} {count / total:6.1%}  {name}" for name, count in below]
    return "\n".join(lines)


def _row(packages: Counter[str], total: int) -> str:
    return ", ".join(f"{name} {count / total:.0%}" for name, count in packages.most_common(12))


def _short(frame: str) -> str:
    found = _FRAME.match(frame)
    assert found is not None
    path = found["file"]
    for cut in ("site-packages/", "python3.", os.getcwd() + "/"):
        path = path.split(cut, 1)[-1]
    return f"{found['function']} {path}"
