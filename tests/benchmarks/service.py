"""The two services under test, started in a directory that is thrown away, and stopped whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
import psycopg

from api.tokens import AccessTokens
from deploy.local import ports
from deploy.local.child import Child, Command
from deploy.local.postgres import LocalPostgres, remove
from deploy.local.server import launch
from tests.benchmarks import baseline
from tests.benchmarks.client import Connection, head
from tests.benchmarks.devices import long_tokens
from tests.benchmarks.dialect import Account, Restante, name
from tests.benchmarks.measure import Roles, process_tree

ROOT = Path(__file__).parents[2]
PYTHON_ROLES = ("api", "processor", "projector", "notary")
_STOP_SECONDS = 30.0
_START_SECONDS = 240.0  # the first start of all brings Kafka
_SIGN_UP_SECONDS = 600.0
_SIGN_UPS_AT_ONCE = 4
PASSWORD = "correct horse battery"


@dataclass(frozen=True, slots=True)
class Running:
    """A service that answers. `roles` reads anew which processes it has, by role; `kafka` and `database` are addresses,
    `data` is its data directory."""

    label: str
    port: int
    roles: Callable[[], Roles]
    kafka: str = ""
    database: str = ""
    data: Path = Path()


@asynccontextmanager
async def restante() -> AsyncIterator[Running]:
    """The whole service by `restante up`, without rate limits. DeployError where it cannot be started.

    Where the caller's part fails the roles' logs are kept, and a note at the exception says where.
    """
    with _directory("restante") as directory:
        up = _Up(directory)
        async with _launched(up, _START_SECONDS) as child:
            try:
                yield Running("restante", up.port, lambda: up.roles(child.pid), up.kafka, up.database, up.data)
            except Exception as error:
                kept = shutil.copytree(up.data / "logs", tempfile.mkdtemp(prefix="bench-logs-"), dirs_exist_ok=True)
                error.add_note(f"the logs of the roles are kept in {kept}")
                raise
            finally:
                await child.stop(_STOP_SECONDS)
                remove(up.data / "postgres")


@asynccontextmanager
async def do_it_yourself() -> AsyncIterator[Running]:
    """The peer: one worker, a pool of 16 and the same PostgreSQL with the same settings."""
    with _directory("diy") as directory:
        home = directory / "postgres"
        server = LocalPostgres(home, directory / "postgres.log", ports.any_free(), "baseline", dict(os.environ))
        try:
            async with _launched(server, 60) as postgres:
                async with await psycopg.AsyncConnection.connect(server.url, autocommit=True) as connection:
                    await connection.execute(baseline.TABLE)
                app = _Peer(directory / "app.log", ports.any_free(), server.url)
                async with _launched(app, 60) as peer:
                    yield Running(
                        "diy", app.port, lambda: {"app": process_tree(peer.pid), "postgres": process_tree(postgres.pid)}
                    )
        finally:
            remove(home)


async def sign_up(service: Running, accounts: int) -> Restante:
    """Make accounts and log them in, four at a time: each costs two password hashes. Their tokens outlive the run."""
    made: dict[int, Account] = {}
    work, tokens = iter(range(accounts)), long_tokens(service.data)

    async def next_ones() -> None:
        connection = await Connection.open(service.port)
        for account in work:
            made[account] = await _account(connection, name(account), tokens)
        connection.close()

    async with asyncio.timeout(_SIGN_UP_SECONDS), asyncio.TaskGroup() as group:
        for _ in range(_SIGN_UPS_AT_ONCE):
            group.create_task(next_ones())
    return Restante([made[account] for account in range(accounts)])


async def _account(connection: Connection, who: str, tokens: AccessTokens) -> Account:
    login = {"name": who, "password": PASSWORD}
    status, answer = await connection.ask(head("POST", "/accounts"), json.dumps(login).encode())
    if status == 201:
        status, answer = await connection.ask(head("POST", "/tokens"), json.dumps({**login, "device": "bench"}).encode())
    if status != 200:
        raise RuntimeError(f"sign-up was answered {status}: {answer[:300]!r}")
    given = msgspec.json.decode(answer)
    return Account(given["user_id"], tokens.issue(UUID(given["user_id"]), UUID(given["device_id"]), 0))


@dataclass(slots=True)
class _Up:
    """`restante up` with its own data directory; every other setting of ours is taken out of the environment."""

    directory: Path
    port: int = 0
    kafka: str = ""
    database: str = ""
    name: ClassVar[str] = "restante"

    @property
    def data(self) -> Path:
        return self.directory / "var"

    async def prepare(self) -> Command:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("RESTANTE_")}
        settings = {"DATA_DIR": str(self.data), "RATE_LIMITS": "off", "MAILBOX_QUOTA": "10000000"}
        return Command(
            "restante",
            [str(Path(sys.executable).with_name("restante")), "up"],
            self.directory / "up.log",
            {**kept, **{f"RESTANTE_{key}": value for key, value in settings.items()}},
            stop_signal=signal.SIGINT,
            orphan_signal=signal.SIGTERM,
            directory=ROOT,
        )

    async def answers(self) -> bool:
        try:
            facts = json.loads((self.data / "up.json").read_text(encoding="utf-8"))
            self.port = urlsplit(facts["url"]).port or 80
            self.kafka, self.database = facts["kafka"], facts["database_url"]
            return await _health(self.port, "/health") == 200
        except (OSError, ValueError, KeyError, TimeoutError):
            return False

    def roles(self, supervisor: int) -> Roles:
        """The processes of each role. A Kafka in a container is not among our children and counts nothing."""
        rows = json.loads((self.data / "children.json").read_text(encoding="utf-8"))
        found: dict[str, list[int]] = {"up": [supervisor]}
        for row in rows:
            found.setdefault(row["name"].rstrip("-0123456789"), []).extend(process_tree(row["pid"]))
        return found


@dataclass(slots=True)
class _Peer:
    """The do-it-yourself application under uvicorn."""

    log: Path
    port: int
    database: str
    name: ClassVar[str] = "diy"

    async def prepare(self) -> Command:
        fast = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")
        place = ("--host", "127.0.0.1", "--port", str(self.port))
        return Command(
            "diy",
            [sys.executable, "-m", "uvicorn", "--factory", "tests.benchmarks.baseline:create_app", *place, *fast],
            self.log,
            {**os.environ, baseline.ADDRESS: self.database},
            orphan_signal=signal.SIGTERM,
            directory=ROOT,
        )

    async def answers(self) -> bool:
        try:
            return await _health(self.port, "/messages/sync?to=nobody") == 200
        except (OSError, TimeoutError):
            return False


async def fresh_api(service: Running) -> None:
    """End the API process in order and wait for the one that follows it: a memory that nothing has passed through yet."""
    (old, *_) = service.roles()["api"]
    os.kill(old, signal.SIGTERM)
    while True:
        with contextlib.suppress(OSError, TimeoutError, KeyError):
            if service.roles()["api"][0] != old and await _health(service.port, "/health") == 200:
                return
        await asyncio.sleep(0.1)


async def _health(port: int, path: str) -> int:
    async with asyncio.timeout(5):
        connection = await Connection.open(port)
        try:
            return (await connection.ask(head("GET", path)))[0]
        finally:
            connection.close()


@asynccontextmanager
async def _launched(server: _Up | _Peer | LocalPostgres, within: float) -> AsyncIterator[Child]:
    child = await launch(server, within)
    try:
        yield child
    finally:
        await child.stop(_STOP_SECONDS)


class _directory:
    """A temporary directory through which PostgreSQL's unprivileged user can go."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def __enter__(self) -> Path:
        self._path = Path(tempfile.mkdtemp(prefix=f"bench-{self._prefix}-"))
        self._path.chmod(0o711)
        return self._path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path, ignore_errors=True)
