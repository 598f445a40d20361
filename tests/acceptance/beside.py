"""One more process of a role beside the one that `up` runs, as in a deployment with several of each."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2
import psutil

from deploy.local import ports
from tests.acceptance.service import RESTANTE, START_SECONDS, STOP_SECONDS, Service
from tests.eventually import soon


@dataclass(frozen=True, slots=True)
class Beside:
    """A process of a role. `url` is where an API answers; the others answer at `admin` only."""

    url: str
    admin: str
    process: psutil.Process

    def ready(self) -> bool:
        """Whether it says that it is."""
        try:
            return httpx2.get(f"{self.admin}/health/ready", trust_env=False, timeout=5).status_code == 200
        except httpx2.TransportError:
            return False

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()


@contextmanager
def beside(service: Service, role: str) -> Iterator[Beside]:
    """Start one with the settings of the other, on ports of its own; it is asked to end with the block."""
    port, admin = ports.any_free(), ports.any_free()
    environment = {
        **service.process(role).environ(),
        "RESTANTE_PORT": str(port),
        "RESTANTE_ADMIN_PORT": str(admin),
    }
    log = service.data / "logs" / f"{role}-{admin}.log"
    with log.open("ab") as said:
        process = subprocess.Popen(
            [RESTANTE, role], env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=service.home
        )
    try:
        one = Beside(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}", psutil.Process(process.pid))
        soon(one.ready, START_SECONDS, f"another {role} is ready; it says in {log}")
        yield one
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        finally:
            process.kill()
            process.wait()
