"""The data directory: who holds it, what is secret in it, and what runs from it.

lock                 held by the running `up` (the kernel lets go of it whatever becomes of the process)
up.json              the addresses, there while it runs; readable by its owner only, it holds the database's password
children.json        the processes it started, to clear away what survived a kill
secrets/             keys and passwords, made once; back them up with the database
notary/              what the notary signed; copy it elsewhere
kafka/  postgres/    data
logs/                one file a process
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from deploy.errors import DeployError
from deploy.local.child import started_at

_ORPHAN_SECONDS = 8.0
_LOCK_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Home:
    """A data directory. Nothing is touched before `held`."""

    path: Path

    @property
    def up_file(self) -> Path:
        """Where the addresses are while `up` runs."""
        return self.path / "up.json"

    @property
    def secrets(self) -> Path:
        """The directory that only its owner may open."""
        return self.path / "secrets"

    def log_of(self, name: str) -> Path:
        """The log file of one process."""
        return self.path / "logs" / f"{name}.log"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Own the directory. DeployError (exit 3) where another `up` does, or where it cannot be made."""
        try:
            if not self.path.exists():
                self.path.mkdir(parents=True)
                self.path.chmod(0o711)  # PostgreSQL's user goes through it
            self.secrets.mkdir(mode=0o700, exist_ok=True)
            lock = (self.path / "lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise DeployError(
                f"the data directory {self.path} cannot be used: {error.strerror}. Set RESTANTE_DATA_DIR to one that can"
            ) from error
        with lock:
            if not _locked(lock, time.monotonic() + _LOCK_SECONDS):
                lock.seek(0)
                raise DeployError(
                    f"`restante up` runs already in {self.path} (process {lock.read().strip() or 'unknown'}). "
                    "Stop that one, or set RESTANTE_DATA_DIR to another directory"
                )
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def secret(self, name: str, make: Callable[[], str]) -> Path:
        """The file of a secret, made by `make` the first time."""
        file = self.secrets / name
        if not file.exists():
            write_whole(file, make() + "\n")
        return file

    def publish(self, facts: Mapping[str, Any]) -> None:
        """Write up.json, whole or not at all."""
        write_whole(self.up_file, json.dumps(facts, indent=2) + "\n")

    def published(self) -> dict[str, Any] | None:
        """What up.json says, if the `up` that wrote it still runs."""
        try:
            facts: dict[str, Any] = json.loads(self.up_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return facts if self.is_held() else None

    def is_held(self) -> bool:
        """Whether an `up` runs in this directory."""
        try:
            with (self.path / "lock").open("r", encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def record_children(self, pids: Mapping[str, int]) -> None:
        """Note what runs, with its start time: a pid alone may come to name another process."""
        rows = [{"name": name, "pid": pid, "started": started_at(pid)} for name, pid in pids.items()]
        write_whole(self.path / "children.json", json.dumps(rows) + "\n")

    def clear_leftovers(self) -> list[str]:
        """Kill what an `up` that was killed has left running, and give the names. Blocks until they are gone."""
        file = self.path / "children.json"
        try:
            rows = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        left = [row for row in rows if row["started"] and started_at(row["pid"]) == row["started"]]
        for row in left:
            _signal(row["pid"], signal.SIGQUIT if row["name"] == "postgres" else signal.SIGKILL)
        _wait_gone((row["pid"] for row in left), time.monotonic() + _ORPHAN_SECONDS)
        file.unlink(missing_ok=True)
        return [row["name"] for row in left]


def _locked(lock: IO[str], deadline: float) -> bool:
    """Take the lock. `status` looks by taking it for an instant, so it is asked for until the deadline."""
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _wait_gone(pids: Iterable[int], deadline: float) -> None:
    for pid in pids:
        while started_at(pid) is not None:
            if time.monotonic() > deadline:
                _signal(pid, signal.SIGKILL)
            time.sleep(0.02)


def write_whole(file: Path, text: str) -> None:
    """Write a file that only its owner reads; readers see the old text or the new, also after a power cut."""
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    Path(name).replace(file)


def new_password() -> str:
    """A password that needs no quoting in an address."""
    return secrets.token_urlsafe(24)
