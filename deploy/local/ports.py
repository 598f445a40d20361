"""Which port to listen on."""

from __future__ import annotations

import contextlib
import random
import socket
import sys

from deploy.errors import DeployError
from deploy.settings import Port

# Below the range from which systems take the local ends of outgoing connections, so that a server that is restarted
# finds its port free.
_OWN = range(20_000, 30_000)


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


_promised: set[int] = set()
"""Ports that this process has chosen and that something of it will listen on in a moment."""


def _promise(port: int) -> bool:
    """Keep other starts at the same moment from choosing the same port. Held as long as this process lives.

    A name in Linux's abstract socket space: it goes with the process, needs no file, and knows no users.
    """
    if port in _promised or sys.platform != "linux":
        return True
    mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        mark.bind(f"\0restante-port-{port}")
    except OSError:
        mark.close()
        return False
    mark.detach()  # open until the process ends
    _promised.add(port)
    return True


def choose(host: str, port: Port, taken: frozenset[int] = frozenset()) -> int:
    """The port itself if it is free; else the next free one, or DeployError (exit 3) where it was given by a setting.

    `taken` are ports that were promised to others but are not listened on yet.
    """
    if port.given:
        if port.number not in taken and is_free(host, port.number):
            return port.number
        raise DeployError(
            f"{port.variable}: port {port.number} on {host} is taken. Stop what does, or set another {port.variable}"
        )
    for candidate in range(port.number, min(port.number + 1000, 65_536)):
        if candidate not in taken and is_free(host, candidate) and _promise(candidate):
            return candidate
    raise DeployError(f"no free port on {host} from {port.number} on. Set {port.variable}")


def any_free(host: str = "127.0.0.1") -> int:
    """A free port for a server of our own."""
    for candidate in random.sample(_OWN, 200):
        if is_free(host, candidate):
            return candidate
    raise DeployError(f"no free port on {host} from {_OWN.start} to {_OWN.stop}. Stop what uses them")
