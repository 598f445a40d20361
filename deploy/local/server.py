"""Starting one server and waiting until it answers."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from deploy.errors import DeployError
from deploy.local.child import Child, Command, last_lines, start

_ASK_EVERY = 0.05


class Server(Protocol):
    """What can be started: Kafka, PostgreSQL, or one of our roles."""

    @property
    def name(self) -> str:
        """A short name for messages and logs."""

    async def prepare(self) -> Command:
        """Do what must be done before, and give the command. DeployError where it cannot be run here."""

    async def answers(self) -> bool:
        """Whether it does its work; False, never an error, while it does not."""


async def launch(server: Server, within: float) -> Child:
    """Start a server and wait until it answers.

    DeployError shows the end of its log where it ends or is still silent after `within` seconds; it is stopped then.
    """
    command = await server.prepare()
    try:
        child = await start(command)
    except OSError as error:
        raise DeployError(f"{server.name} cannot be started: {error}") from error
    try:
        await wait_ready(server, child, within)
    except BaseException:
        child.kill()
        await child.wait()
        raise
    return child


async def wait_ready(server: Server, child: Child, within: float) -> None:
    """Wait until a child that was started answers; DeployError as for `launch`."""
    deadline = time.monotonic() + within
    while not await server.answers():
        if child.returncode is not None:
            raise DeployError(_failure(child, f"ended with exit code {child.returncode} before it answered"))
        if time.monotonic() > deadline:
            raise DeployError(_failure(child, f"does not answer after {within:.0f} s"))
        await asyncio.sleep(_ASK_EVERY)


def _failure(child: Child, what: str) -> str:
    shown = "\n".join(f"    {line}" for line in last_lines(child.command.log))
    return f"{child.name} {what}. The end of {child.command.log}:\n{shown or '    (empty)'}"
