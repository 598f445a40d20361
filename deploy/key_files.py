"""The key files that `up` has made: several keys a file, the first in use, every one accepted.

A key is changed in two steps, so that no process ever meets what a key has made that it does not know: the new key goes
behind the others, and once the API has it, to the front.
"""

from __future__ import annotations

import fcntl
import http.client
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from api.secrets import Secrets, SecretsError, make_key, make_token_key
from deploy.errors import DeployError, Refused
from deploy.local.home import Home, write_whole

ADOPTED_SECONDS = 30.0
_GAUGE = re.compile(rb"^restante_key_files_time_seconds (\S+)$", re.MULTILINE)
_PEM = re.compile(r"-----BEGIN PRIVATE KEY-----.*?-----END PRIVATE KEY-----", re.DOTALL)


class Kind(StrEnum):
    """What a key is for."""

    MASTER = "master"
    TOKEN = "token"
    CURSOR = "cursor"

    @property
    def setting(self) -> str:
        """The name of its setting."""
        return {Kind.MASTER: "master_key", Kind.TOKEN: "token_key", Kind.CURSOR: "cursor_keys"}[self]

    @property
    def variable(self) -> str:
        """The same in the environment."""
        return f"RESTANTE_{self.setting.upper()}"

    def make(self) -> str:
        """A new key, as text."""
        return (make_token_key() if self is Kind.TOKEN else make_key()).strip()

    def keys_in(self, text: str) -> list[str]:
        """The keys of a text."""
        return _PEM.findall(text) if self is Kind.TOKEN else [key.strip() for key in text.split(",")]

    def text_of(self, keys: Sequence[str]) -> str:
        """Keys as one text."""
        return ("\n" if self is Kind.TOKEN else ",").join(keys)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """One of the files. `api` is where the running `up` shows the metrics of its API; None where nothing runs."""

    kind: Kind
    path: Path
    api: str | None

    def read(self) -> list[str]:
        """Its keys, the one in use first. DeployError where it cannot be read, or holds something else."""
        try:
            text = self.path.read_text(encoding="utf-8")
            _check(self.kind, text)
        except (OSError, SecretsError) as error:
            raise DeployError(f"the key file {self.path} will not do: {error}. Restore it from a backup") from error
        return self.kind.keys_in(text)

    def write(self, keys: Sequence[str]) -> None:
        """Replace it, and wait until the API goes by it. DeployError where the API does not within ADOPTED_SECONDS: it has
        the keys from before then, and this may be done again."""
        write_whole(self.path, self.kind.text_of(keys) + "\n")
        if self.api is not None:
            changed = self.path.stat().st_mtime
            _wait(lambda: _adopted(self.api or "") >= changed, self.path)

    def add(self) -> None:
        """Put a new key into use; the others stay accepted."""
        keys, fresh = self.read(), self.kind.make()
        if self.api is not None:
            self.write([*keys, fresh])
        self.write([fresh, *keys])


@contextmanager
def key_file(kind: Kind, home: Home) -> Iterator[KeyFile]:
    """The file of a kind of key, for one who changes it at a time. Refused where `up` has made none there, DeployError while
    `up` is starting."""
    path = home.secrets / kind.setting.replace("_", "-")
    if not path.is_file():
        raise Refused(f"there is no key in {path}. Set RESTANTE_DATA_DIR to the directory where `restante up` runs")
    with (home.secrets / ".rotation").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        published = home.published()
        if published is None and home.is_held():
            raise DeployError("`restante up` is starting or stopping here. Try again in a moment")
        yield KeyFile(kind, path, published["admin"]["api"] if published else None)


def _check(kind: Kind, text: str) -> None:
    """Raises `SecretsError`."""
    good = {one.setting: one.make() for one in Kind}
    Secrets.read(**(good | {kind.setting: text}))


def _wait(done: Callable[[], bool], path: Path) -> None:
    deadline = time.monotonic() + ADOPTED_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise DeployError(
                f"the API does not go by {path} within {ADOPTED_SECONDS:g} s. Look at its log, then run this again"
            )
        time.sleep(0.1)


def _adopted(admin_url: str) -> float:
    """The time of the key files that the API goes by; 0 where it does not answer."""
    place = urlsplit(admin_url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=5)
    try:
        connection.request("GET", "/metrics")
        found = _GAUGE.search(connection.getresponse().read())
        return float(found[1]) if found else 0.0
    except (OSError, http.client.HTTPException):
        return 0.0
    finally:
        connection.close()
