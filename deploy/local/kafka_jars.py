"""Kafka's jars: resolved by Maven once, kept in the user's cache."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from deploy.errors import DeployError

VERSION = "4.3.1"
_JAR = f"kafka_2.13-{VERSION}.jar"
_MAVEN_SECONDS = 600
_OLDEST_JAVA = 17


def cache_directory(environment: Mapping[str, str], fallback: Path) -> Path:
    """`$XDG_CACHE_HOME/restante` or `~/.cache/restante`; `fallback` for a user without a home that can be written."""
    root = environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    place = Path(root, "restante")
    with contextlib.suppress(OSError):
        place.mkdir(parents=True, exist_ok=True)
        if os.access(place, os.W_OK):
            return place
    fallback.mkdir(parents=True, exist_ok=True)
    return fallback


def find_java(environment: Mapping[str, str]) -> Path | None:
    """A Java of version 17 or newer: JAVA_HOME's, else the one on the PATH. None where there is no such Java."""
    home = environment.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else None
    found = found or shutil.which("java", path=environment.get("PATH"))
    if found is None:
        return None
    shown = subprocess.run([found, "-version"], capture_output=True, text=True, check=False, timeout=30)
    version = re.search(r'version "(?:1\.)?([0-9]+)', shown.stderr + shown.stdout)
    return Path(found) if version and int(version[1]) >= _OLDEST_JAVA else None


def find_maven(environment: Mapping[str, str]) -> str | None:
    """Maven on the PATH, if there is one."""
    return shutil.which("mvn", path=environment.get("PATH"))


def cached(cache: Path) -> Path | None:
    """The directory with the jars, where an earlier start has put them."""
    jars = cache / f"kafka-{VERSION}"
    return jars if (jars / _JAR).is_file() else None


def resolve(cache: Path, environment: Mapping[str, str]) -> Path:
    """The directory with the jars; asks Maven the first time (44 MB). DeployError (exit 3) says what Maven said.

    Two starts at once are safe: one asks, the other waits for it, and the directory appears whole.
    """
    with _alone(cache):
        return cached(cache) or _ask_maven(cache, environment)


@contextlib.contextmanager
def _alone(cache: Path) -> Iterator[None]:
    with (cache / f"kafka-{VERSION}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _ask_maven(cache: Path, environment: Mapping[str, str]) -> Path:
    maven = find_maven(environment)
    if maven is None:
        raise DeployError(
            "Maven is not installed. Install it (`apt-get install maven`), or set RESTANTE_KAFKA to a running Kafka"
        )
    with tempfile.TemporaryDirectory(prefix="kafka-", dir=cache) as work:
        shutil.copy(Path(__file__).with_name("pom.xml"), work)
        command = [maven, "-q", "-B", *_repository(cache), "dependency:copy-dependencies", "-DoutputDirectory=jars"]
        try:
            done = subprocess.run(
                command, cwd=work, env=environment, capture_output=True, text=True, check=False, timeout=_MAVEN_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise DeployError(
                f"Maven did not bring Kafka within {_MAVEN_SECONDS} s. Check the network and start again"
            ) from error
        jars = Path(work, "jars")
        if done.returncode != 0 or not (jars / _JAR).is_file():
            said = "\n".join((done.stdout + done.stderr).splitlines()[-8:])
            raise DeployError(
                f"Maven could not bring Kafka {VERSION}. Check the network and Maven's settings, it said:\n{said}"
            )
        target = cache / f"kafka-{VERSION}"
        shutil.rmtree(target, ignore_errors=True)
        jars.rename(target)
    return target


def _repository(cache: Path) -> list[str]:
    """Java takes the home from the user database. A user who cannot write there gets the store in the cache."""
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        home = ""
    return [] if os.access(home, os.W_OK) else [f"-Dmaven.repo.local={cache / 'maven'}"]
