"""What root does so that PostgreSQL can run as somebody without rights. As another user there is nothing to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import postgres, unprivileged
from deploy.local.child import Identity

AS_ROOT = os.geteuid() == 0


@pytest.fixture
def closed() -> Iterator[Path]:
    """A directory that only we can enter."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def reads(who: Identity | None, *command: str) -> bool:
    if who is None:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    done = subprocess.run(command, check=False, capture_output=True, user=who.uid, group=who.gid, extra_groups=[], cwd="/")
    return done.returncode == 0


def test_only_root_needs_another_user(closed: Path) -> None:
    who = unprivileged.identity(closed / "postgres")
    assert (who is not None) == AS_ROOT
    assert who is None or who.uid != 0


def test_a_cluster_below_a_closed_directory_is_put_within_reach(closed: Path) -> None:
    place = closed / "postgres"
    who = unprivileged.identity(place)
    real = unprivileged.reachable(place, who)
    try:
        if AS_ROOT:
            assert place.is_symlink() and real != place
            assert reads(who, "test", "-w", str(real))
        else:
            assert real == place
        assert unprivileged.reachable(place, who) == real, "the next start finds the same place"
    finally:
        postgres.remove(place)
    assert not place.exists() and not real.exists()


def test_programs_in_a_closed_directory_are_put_within_reach(closed: Path) -> None:
    package = closed / "package"
    (package / "tree" / "bin").mkdir(parents=True)
    program = package / "tree" / "bin" / "postgres"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    (closed / "package.libs").mkdir()
    who = unprivileged.identity(closed / "postgres")
    found = unprivileged.readable(package, Path("tree", "bin"), who)
    try:
        assert reads(who, str(found / "postgres"), "--version")
        assert unprivileged.readable(package, Path("tree", "bin"), who) == found
        assert (found != program.parent) == AS_ROOT
    finally:
        if AS_ROOT:
            shutil.rmtree(found.parents[2])
