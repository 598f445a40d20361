"""PostgreSQL refuses to run as root. As root it gets a user without rights, and everything it needs within its reach."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

from deploy.errors import DeployError
from deploy.local.child import Identity

_OUTSIDE = Path("/var/lib/restante")


def identity(directory: Path) -> Identity | None:
    """None where we are not root. Else who owns the directory already, else `postgres` or `nobody` of this machine."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(FileNotFoundError):
        found = directory.resolve(strict=True).stat()
        if found.st_uid != 0:
            return Identity(found.st_uid, found.st_gid)
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return Identity(user.pw_uid, user.pw_gid)
    raise DeployError(
        "PostgreSQL does not run as root, and this machine has neither a user `postgres` nor `nobody`. "
        "Run as another user, or set RESTANTE_DATABASE_URL to a running PostgreSQL"
    )


def readable(package: Path, programs: Path, who: Identity | None) -> Path:
    """The directory of the programs, copied once to where that user can run them if it cannot do so in place.

    `package` is the installed package, `programs` the directory of the programs in it. Its libraries lie beside it.
    """
    place = package / programs
    if who is None or _can(who, [str(place / "postgres"), "--version"]):
        return place
    target = _OUTSIDE / f"programs-{_fingerprint(place)}"
    if not target.is_dir():
        _outside()
        work = Path(tempfile.mkdtemp(prefix="programs-", dir=_OUTSIDE))
        for source in (package / programs.parts[0], package.with_name(package.name + ".libs")):
            shutil.copytree(source, work / source.relative_to(package.parent), symlinks=True)
        work.chmod(0o755)
        with contextlib.suppress(OSError):  # another start was first
            work.rename(target)
        shutil.rmtree(work, ignore_errors=True)
    return target / package.name / programs


def reachable(directory: Path, who: Identity | None) -> Path:
    """Where the cluster really lies: in its place, or below /var/lib where that user cannot go to its place.

    A directory below /root, or in a private temporary one, is closed to other users. Opening it would give away more than
    PostgreSQL needs, so the cluster is put outside and its place is a symbolic link to it.
    """
    if directory.is_symlink() or who is None:
        return directory.resolve()
    if directory.exists() or _can(who, ["test", "-x", str(directory.parent)]):
        return directory
    _outside()
    place = _OUTSIDE / f"postgres-{uuid.uuid4().hex[:12]}"
    place.mkdir(mode=0o700)
    os.chown(place, who.uid, who.gid)
    directory.symlink_to(place)
    return place


def _outside() -> None:
    _OUTSIDE.mkdir(mode=0o755, parents=True, exist_ok=True)


def _can(who: Identity, command: list[str]) -> bool:
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, timeout=10, cwd="/", user=who.uid, group=who.gid, extra_groups=[]
        )
    except OSError:
        return False
    return done.returncode == 0


def _fingerprint(place: Path) -> str:
    found = (place / "postgres").stat()
    return f"{found.st_size:x}-{int(found.st_mtime):x}"
