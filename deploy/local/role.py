"""One of our own roles as a child process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.child import Command
from deploy.settings import Role


@dataclass(frozen=True, slots=True)
class RoleProcess:
    """`restante <role>` with an environment of its own; ready when its admin port says so."""

    role: Role
    log: Path
    environment: Mapping[str, str]
    admin_host: str
    admin_port: int

    @property
    def name(self) -> str:
        """The role."""
        return self.role

    async def prepare(self) -> Command:
        """The command; there is nothing to prepare. It runs in our directory: settings may hold relative paths."""
        arguments = [sys.executable, "-m", "deploy.cli", self.role]
        return Command(self.role, arguments, self.log, self.environment, directory=await asyncio.to_thread(Path.cwd))

    async def answers(self) -> bool:
        """Whether `/health/ready` is 200."""
        return await http_status(self.admin_host, self.admin_port, "/health/ready") == 200


def health_path(role: Role) -> str:
    """What to ask to know that all is well: of the notary that it found nothing, too."""
    return "/health" if role == "notary" else "/health/ready"


async def http_status(host: str, port: int, path: str, within: float = 2.0) -> int | None:
    """The status of a GET over plain HTTP; None where nobody answers within `within` seconds."""
    try:
        async with asyncio.timeout(within):
            reader, writer = await asyncio.open_connection(reachable_host(host), port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
                line = await reader.readline()
            finally:
                writer.close()
            return int(line.split()[1])
    except (OSError, TimeoutError, ValueError, IndexError):
        return None


def reachable_host(host: str) -> str:
    """Where to knock for a server that listens on `host`: one that listens everywhere is here too."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound


def bracketed(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host
