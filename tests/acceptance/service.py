"""A whole service as its users run it: `restante up` in its own data directory, started, hurt and stopped from outside."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil

from deploy.local import postgres
from tests.eventually import soon

START_SECONDS = 120.0
STOP_SECONDS = 10.0
"""What the contract gives `up` for an orderly end."""

RESTANTE = Path(sys.executable).with_name("restante")


class Service:
    """One `restante up`. `start` and `stop` may alternate; the data directory stays until `remove`."""

    def __init__(self, **settings: str) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="restante-acceptance-"))
        self.home.chmod(0o711)  # PostgreSQL runs as another user where we are root
        self.data = self.home / "data"
        self._settings = {"RESTANTE_RATE_LIMITS": "off", **settings, "RESTANTE_DATA_DIR": str(self.data)}
        self._process: subprocess.Popen[bytes] | None = None
        self._http = httpx2.Client(timeout=40, trust_env=False)

    # -- its life

    def start(self) -> Service:
        """Start it and wait until it says that it can take everything."""
        said = (self.home / "up.out").open("ab")
        with said:
            self._process = subprocess.Popen(
                [RESTANTE, "up"], stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=self.environment, cwd=self.home
            )
        soon(self._stands, START_SECONDS, f"`restante up` stands; it says in {self.home}:\n{self.said()}")
        return self

    def stop(self) -> int:
        """Ask it to end in order and give the exit code; fails where it is not gone after the time it is allowed."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(STOP_SECONDS)
        self._process = None
        return code

    def kill_everything(self) -> None:
        """SIGKILL to the supervisor and to all that it started, in one go."""
        assert self._process is not None
        supervisor = psutil.Process(self._process.pid)
        family = [supervisor, *supervisor.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        self._process = None
        _, alive = psutil.wait_procs(family, timeout=20)
        assert not alive

    def remove(self) -> None:
        """End it in any state it may be in and delete its data."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill_everything()
        self._http.close()
        postgres.remove(self.data / "postgres")
        shutil.rmtree(self.home, ignore_errors=True)

    # -- what it is made of

    @property
    def environment(self) -> dict[str, str]:
        """What its commands find set."""
        return {**{name: value for name, value in os.environ.items() if not name.startswith("RESTANTE_")}, **self._settings}

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `restante` as a person beside this service would."""
        return subprocess.run(
            [RESTANTE, *arguments], env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )

    @property
    def facts(self) -> dict[str, Any]:
        """What it says in up.json."""
        facts: dict[str, Any] = json.loads((self.data / "up.json").read_text())
        return facts

    @property
    def url(self) -> str:
        """Where clients find it."""
        return str(self.facts["url"])

    @property
    def kafka(self) -> str:
        """Its broker, host:port."""
        return str(self.facts["kafka"])

    def process(self, name: str) -> psutil.Process:
        """The process of a role or a server (api, processor, projector, kafka, postgres), after any restart under way."""
        return soon(lambda: self._running(name), START_SECONDS, f"{name} runs")

    def logs(self) -> list[Path]:
        """All that it has written for people: what the processes log and what `up` prints."""
        return [*(path for path in (self.data / "logs").rglob("*") if path.is_file()), self.home / "up.out"]

    def said(self) -> str:
        """The last that `up` printed."""
        return (self.home / "up.out").read_text(errors="replace")[-2000:]

    # -- what befalls it

    def kill(self, name: str) -> None:
        """kill -9 of one process; the supervisor starts another."""
        killed = self.process(name)
        killed.kill()
        psutil.wait_procs([killed], timeout=20)

    def restart(self, name: str) -> None:
        """Ask one role to end in order, and wait for the one that the supervisor starts."""
        old = self.process(name)
        old.terminate()
        soon(lambda: self.process(name) != old, START_SECONDS, f"{name} runs again")
        self.becomes_healthy()

    @contextlib.contextmanager
    def killed(self, name: str) -> Iterator[None]:
        """kill -9 of one process, and the supervisor does nothing about it until the end of the block."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            _signal_all(self.process(name), signal.SIGKILL)
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """One process and its own children take no step until the end of the block, but hold their connections."""
        process = self.process(name)
        _signal_all(process, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal_all(process, signal.SIGCONT)

    # -- talking to it

    def request(self, method: str, path: str, *, token: str | None = None, **options: Any) -> httpx2.Response:
        """One HTTP call, as it is; `options` are the client library's own."""
        headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **options.pop("headers", {})}
        return self._http.request(method, self.url + path, headers=headers, **options)

    def healthy(self) -> bool:
        """Whether it says that the whole service is well."""
        with contextlib.suppress(httpx2.TransportError):
            return self.request("GET", "/health", timeout=10).status_code == 200
        return False

    def metric(self, role: str, line: str) -> float:
        """A value of a role's metrics by its name and labels as they are printed; 0 where it is not there."""
        text = httpx2.get(f"{self.facts['admin'][role]}/metrics", trust_env=False, timeout=10).text
        found = [row.rpartition(" ")[2] for row in text.splitlines() if row.rpartition(" ")[0] == line]
        return float(found[0]) if found else 0.0

    def becomes_healthy(self, within: float = 60.0) -> None:
        """Wait until it is well by itself."""
        soon(self.healthy, within, f"{self.home} is healthy")

    def _running(self, name: str) -> psutil.Process | None:
        rows = json.loads((self.data / "children.json").read_text())
        for row in rows:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(row["pid"])
                if row["name"] == name and process.status() != psutil.STATUS_ZOMBIE:
                    return process
        return None

    def _stands(self) -> bool:
        assert self._process is not None
        ended = self._process.poll()
        if ended is not None:
            self._process = None
            raise RuntimeError(f"`restante up` ended with {ended}, saying:\n{self.said()}")
        with contextlib.suppress(OSError, ValueError):
            return self.facts["pid"] == self._process.pid and self.healthy()
        return False


def _signal_all(process: psutil.Process, number: signal.Signals) -> None:
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.send_signal(number)
