from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from deploy.errors import DeployError
from deploy.local import ports
from deploy.settings import Port


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", ports.any_free())) as listening:
        yield listening.getsockname()[1]


def test_a_free_port_is_taken_as_it_is() -> None:
    free = ports.any_free()
    assert ports.choose("127.0.0.1", Port(free, "RESTANTE_PORT", given=True)) == free


def test_a_default_that_is_taken_gives_the_next_free_one(taken: int) -> None:
    assert ports.choose("127.0.0.1", Port(taken, "RESTANTE_PORT", given=False)) > taken


def test_a_set_port_that_is_taken_is_refused_by_its_name(taken: int) -> None:
    with pytest.raises(DeployError, match=f"RESTANTE_PORT: port {taken}") as refusal:
        ports.choose("127.0.0.1", Port(taken, "RESTANTE_PORT", given=True))
    assert refusal.value.exit_code == 3


def test_two_starts_at_the_same_moment_choose_different_ports() -> None:
    wanted = Port(ports.any_free(), "RESTANTE_PORT", given=False)
    ours = ports.choose("127.0.0.1", wanted)
    code = f"from deploy.local.ports import *; print(choose('127.0.0.1', Port({wanted.number}, 'RESTANTE_PORT', False)))"
    theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(theirs.stdout) != ours, "nobody listens yet, and still the port is spoken for"
    assert ports.choose("127.0.0.1", wanted) == ours


def test_ports_that_were_promised_to_others_are_left_alone() -> None:
    free = ports.any_free()
    assert ports.choose("127.0.0.1", Port(free, "RESTANTE_ADMIN_PORT", given=False), frozenset({free})) != free
