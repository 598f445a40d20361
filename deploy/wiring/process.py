"""What the roles have in common: their loop, and the names they go by."""

from __future__ import annotations

import asyncio
import gc
import re
import secrets
import socket
from collections.abc import Coroutine
from typing import Any, Final

import uvloop

from deploy.errors import DeployError
from deploy.settings import Role
from producers.log import ProducersError
from projections.errors import ProjectionsError

_NEW_OBJECTS: Final = 5_000
"""The garbage collector looks after so many (Python's own 700 are a few requests here)."""


def run(role: Coroutine[Any, Any, None]) -> None:
    """Run a role to its end. What its packages could not do at the start is told as DeployError (exit 3)."""
    gc.collect()
    gc.freeze()  # what was imported stays: no collection walks through it again, which takes tens of milliseconds
    gc.set_threshold(_NEW_OBJECTS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        try:
            loop.run(role)
        except (ProducersError, ProjectionsError) as error:
            raise DeployError(str(error)) from error


def producer(role: Role) -> str:
    """How this process signs what it writes: new at each start, and saying nothing about the machine."""
    return f"{role}/{secrets.token_hex(4)}"


def gateway() -> str:
    """The name of this process among the gateways: new at each start."""
    return f"gateway/{secrets.token_hex(8)}"


def instance(admin_port: int) -> str:
    """The same for the same worker over restarts, different for two on one machine: they cannot share an admin port."""
    return re.sub(r"[^a-zA-Z0-9._-]", "-", f"{socket.gethostname()}-{admin_port}")
