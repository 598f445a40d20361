"""`restante up`: everything on this machine, from the log's server to the web page, until somebody says stop."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from api.secrets import make_key, make_token_key
from deploy.local import home as homes
from deploy.local import kafka_jars, ports
from deploy.local.home import Home
from deploy.local.kafka import LocalKafka
from deploy.local.postgres import LocalPostgres
from deploy.local.role import RoleProcess, bracketed, reachable_host
from deploy.local.server import Server
from deploy.local.supervisor import Supervisor
from deploy.settings import ROLES, TABLE, Role, Settings

_SERVERS_START, _ROLES_START = 90.0, 60.0
# What may pass from the signal on, in seconds, until each ring is down; at the last one everything is killed.
_API_UNTIL, _WORKERS_UNTIL, _SERVERS_UNTIL = 5.0, 7.0, 9.2

_SECRETS: Mapping[str, Callable[[], str]] = {
    "token-key": make_token_key,
    "cursor-keys": make_key,
    "master-key": make_key,
    "notary-key": make_token_key,
}

_GUARDED = {f"RESTANTE_{name.replace('-', '_').upper()}{form}" for name in _SECRETS for form in ("", "_FILE")}


@dataclass(slots=True)
class Up:
    """One run of `up`.

    `say` gets lines for a person, `waiting` what the start waits for (None: nothing), `lay_out` makes topics and tables.
    """

    settings: Settings
    given: Mapping[str, str]
    machine: Mapping[str, str]
    say: Callable[[str], None]
    waiting: Callable[[str | None], None]
    lay_out: Callable[[Settings], Awaitable[None]]
    home: Home = field(init=False)
    supervisor: Supervisor = field(init=False)
    _facts: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.home = Home(self.settings.data_dir)
        self.supervisor = Supervisor(self.say, self._note_children)

    async def run(self) -> int:
        """Run until SIGTERM (0) or Ctrl-C (130). DeployError (exit 3) where it cannot start; all is stopped then."""
        with self.home.held():
            stop = _Stop(self.supervisor)
            for name in self.home.clear_leftovers():
                self.say(f"{name} of an earlier run was still there and was ended")
            starting = asyncio.create_task(self._start())
            try:
                await stop.unless(starting)
                if not stop.asked.is_set():
                    starting.result()
                    await stop.asked.wait()
            finally:
                await self._down(stop, starting)
            return stop.exit_code

    async def _start(self) -> None:
        chosen = self._choose_ports()
        settings = await self._servers()
        self.waiting("topics and tables")
        await self.lay_out(settings)
        await self._roles(settings, *chosen)
        self.home.publish(self._facts)
        self.waiting(None)
        for line in self._addresses():
            self.say(line)

    async def _servers(self) -> Settings:
        """Start what was not given by address, and give the settings with the addresses of both."""
        settings = self.settings
        starting: list[Server] = []
        if settings.kafka is None:
            cache = kafka_jars.cache_directory(self.machine, self.home.path / "cache")
            broker = LocalKafka(
                self.home.path / "kafka", self.home.log_of("kafka"), cache, ports.any_free(), ports.any_free(), self.machine
            )
            starting.append(broker)
            settings = replace(settings, kafka=broker.address)
        if settings.database_url is None:
            password = self.home.secret("postgres-password", homes.new_password).read_text(encoding="utf-8").strip()
            server = LocalPostgres(
                self.home.path / "postgres", self.home.log_of("postgres"), ports.any_free(), password, self.machine
            )
            starting.append(server)
            settings = replace(settings, database_url=server.url)
        if starting:
            self.waiting(" and ".join(server.name for server in starting))
            await self.supervisor.start(*starting, within=_SERVERS_START)
        return settings

    async def _roles(self, settings: Settings, port: int, admin: Mapping[Role, int]) -> None:
        common = self._environment(settings, port)
        host = settings.admin_host
        roles = {}
        for role in ROLES:
            environment = {**common, **self._secrets_of(role), "RESTANTE_ADMIN_PORT": str(admin[role])}
            roles[role] = RoleProcess(role, self.home.log_of(role), environment, host, admin[role])
        scheme = "http" if settings.tls_cert is None else "https"
        shown = f"{scheme}://{bracketed(reachable_host(settings.host))}:{port}"
        self._facts = {
            "url": shown,
            "admin": {role: f"http://{bracketed(reachable_host(host))}:{admin[role]}" for role in ROLES},
            "kafka": settings.kafka,
            "database_url": settings.database_url,
            "data_dir": str(self.home.path),
            "pid": os.getpid(),
            "started_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        self.waiting("api, processor, projector and notary")
        await self.supervisor.start(*roles.values(), within=_ROLES_START)

    def _choose_ports(self) -> tuple[int, dict[Role, int]]:
        """The API's port and the admin ports; where one admin port was given they follow it."""
        taken: set[int] = set()
        admin: dict[Role, int] = {}
        port = ports.choose(self.settings.host, self.settings.port)
        taken.add(port)
        for step, role in enumerate(ROLES):
            wanted = self.settings.admin_port_of(role)
            if wanted.given:
                wanted = replace(wanted, number=wanted.number + step)
            admin[role] = ports.choose(self.settings.admin_host, wanted, frozenset(taken))
            taken.add(admin[role])
        return port, admin

    def _environment(self, settings: Settings, port: int) -> dict[str, str]:
        """What all roles get: the settings as they were given, and where everything is."""
        environment = {**self.machine, **{name: value for name, value in self.given.items() if name not in _GUARDED}}
        assert settings.kafka and settings.database_url
        environment["RESTANTE_KAFKA"] = settings.kafka
        environment["RESTANTE_PORT"] = str(port)
        environment["RESTANTE_DATA_DIR"] = str(self.home.path)
        if self.settings.database_url is None:
            homes.write_whole(self.home.secrets / "database-url", settings.database_url + "\n")
            environment["RESTANTE_DATABASE_URL_FILE"] = str(self.home.secrets / "database-url")
        return environment

    def _secrets_of(self, role: Role) -> dict[str, str]:
        """The secrets that a role uses, and no others: as they were given, else files with those that we made."""
        found: dict[str, str] = {}
        for row in TABLE:
            name = row.name.replace("_", "-")
            if name not in _SECRETS or role not in row.needed_by:
                continue
            if getattr(self.settings, row.name) is None:
                found[f"{row.variable}_FILE"] = str(self.home.secret(name, _SECRETS[name]))
            found |= {form: self.given[form] for form in (row.variable, f"{row.variable}_FILE") if self.given.get(form)}
        return found

    def _note_children(self) -> None:
        pids = self.supervisor.pids()
        self.home.record_children(pids)

    def _addresses(self) -> list[str]:
        database = urlsplit(self._facts["database_url"])
        return [
            f"Restante is up: {self._facts['url']}",
            f"  Kafka       {self._facts['kafka']}",
            f"  PostgreSQL  {database.hostname}:{database.port}{database.path}",
            *(f"  {role:<11} {url}/metrics" for role, url in self._facts["admin"].items()),
            f"  data        {self.home.path} (addresses in up.json, logs in logs/)",
            "Ctrl-C stops it; data stay.",
        ]

    async def _down(self, stop: _Stop, starting: asyncio.Task[None]) -> None:
        """Stop in reverse order. Every ring has its time, and what a ring leaves of it belongs to the next."""
        begun = time.monotonic()

        def left(until: float) -> float:
            return begun + until - time.monotonic()

        self.waiting(None)
        if self.supervisor.running:
            self.say("stopping")
        self.home.up_file.unlink(missing_ok=True)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        stop.in_order()
        await self.supervisor.stop("api", within=left(_API_UNTIL))
        await self.supervisor.stop("processor", "projector", "notary", within=left(_WORKERS_UNTIL))
        await self.supervisor.stop("kafka", "postgres", within=left(_SERVERS_UNTIL))
        self._note_children()
        self.say(f"stopped ({time.monotonic() - begun:.1f} s)")


class _Stop:
    """The signals that end `up`: SIGTERM and a closed terminal exit 0, Ctrl-C 130, a second one kills at once."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.asked = asyncio.Event()
        self.exit_code = 0
        self._supervisor = supervisor
        self._stopping = False
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            loop.add_signal_handler(number, self._hear, number)

    def in_order(self) -> None:
        """From here on another Ctrl-C means at once."""
        self._stopping = True

    async def unless(self, starting: asyncio.Task[None]) -> None:
        """Wait for the start to end, or for a signal."""
        asked = asyncio.create_task(self.asked.wait())
        await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()

    def _hear(self, number: signal.Signals) -> None:
        if self.asked.is_set() and self._stopping and number == signal.SIGINT:
            self._supervisor.kill()
        if number == signal.SIGINT:
            self.exit_code = 130
        self.asked.set()
