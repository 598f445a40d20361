"""How the pieces of the edge are put together."""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import groupby
from time import time
from typing import Final, Self

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp

from api import openapi, stream
from api.access import ANYONE, OPERATORS
from api.accounts import Accounts
from api.calls import PRIVATE, Answer, Call, answer
from api.cursors import Cursors, ReceiptCursors
from api.devices import DeviceCalls
from api.directory import Directory
from api.erasures import Erasures
from api.freshness import Freshness, ReceiptFreshness
from api.gateway import Gateway, StreamOptions
from api.health import HealthCalls, Phase, ProcessorLag
from api.intake import Intake
from api.keys import MasterKey
from api.lag import LagWatch
from api.limits import Limits
from api.logins import Logins
from api.mailbox import Mailbox
from api.me import MyAccount
from api.messages import Messages
from api.outside import OUTSIDE_SECONDS, Elsewhere, OutsideTokens
from api.page import page
from api.passwords import Passwords
from api.presence import PresenceCalls
from api.processed import Committed, Processed
from api.provider import Outside, Provider
from api.quota import Quota
from api.receipts import Receipts
from api.registrations import Registrations
from api.removals import Removals
from api.resource import Edge, Operation, Resource
from api.revocations import Revocations
from api.routes import health_operations, public_operations
from api.secrets import Secrets
from api.seen import LastSeen
from api.signup import SignUp
from api.statuses import MessageStatuses
from api.stream import Stream
from api.sweep import Sweep
from api.tokens import AccessTokens
from api.web import Web
from producers.log import EventLog
from producers.tail import Tail
from projections.database import Database
from projections.presence import PresenceReads
from projections.progress import Progress
from projections.reads import Reads
from schemas.metrics import REGISTRY
from schemas.partitions import partition_of_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the edge is built from, opened and closed by whoever made it. Times to live in seconds; `producer` names role and
    process in the facts that are written; `signup` says whether anybody gets an account, `outside` who keeps the accounts
    instead of us, `mailbox_quota` how many messages that no device has acknowledged an account may hold, `mailbox_bytes` how
    many bytes of them;
    `public_url` is where users find the service, if it is not where it listens; `docs` says whether it describes itself;
    `web` has the public port's rules for browsers and proxies; `clock` gives seconds since the epoch.
    `gateway` names this process among the gateways, anew at each start; `pushes` gives a tail, not opened, of a partition of
    the push topic from its end on."""

    log: EventLog
    database: Database
    reads: Reads
    progress: Progress
    secrets: Secrets
    processor_lag: ProcessorLag
    committed: Committed
    producer: str
    gateway: str
    pushes: Callable[[int], Tail]
    stream: StreamOptions = field(default_factory=StreamOptions)
    access_ttl: float = 900.0
    refresh_ttl: float = 365 * 86400.0
    signup: bool = True
    outside: Outside | None = None
    limits: Limits = field(default_factory=Limits)
    mailbox_quota: int = 100_000
    mailbox_bytes: int = 1 << 30
    public_url: str | None = None
    docs: bool = True
    web: Web = field(default_factory=Web)
    phase: Phase = field(default_factory=Phase)
    clock: Callable[[], float] = time


class App(Starlette):
    """A Starlette whose resources answer their own errors, so that nothing needs to stand around the router."""

    def build_middleware_stack(self) -> ASGIApp:
        return self.router


_FIVE_MINUTES: Final = (b"cache-control", b"public, max-age=300")


class Service:
    """Everything behind the routes of one process. `async with` runs the edge's own threads and tasks."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.passwords = Passwords()
        remembered = OUTSIDE_SECONDS if parts.outside else parts.access_ttl
        self.revocations = Revocations(parts.database.url, ttl=remembered, clock=parts.clock)
        self.lag = LagWatch(parts.log, parts.progress, parts.clock)
        accounts, master = Accounts(parts.database), MasterKey(*parts.secrets.master_keys)
        self.seen = LastSeen(accounts, parts.clock)
        self.removals = Removals(accounts, parts.log, parts.producer)
        registrations = Registrations(accounts, parts.log, parts.producer)
        self.provider = Provider(parts.outside, parts.clock) if parts.outside else None
        if self.provider is not None:
            self._elsewhere(self.provider, accounts, master, registrations)
        else:
            self._here(accounts, master, registrations)
        self.me = MyAccount(accounts)
        self.edge = Edge(self.tokens, parts.limits, self.seen, parts.web)
        self.admin_edge = Edge(self.tokens, parts.limits, self.seen, Web())
        cursors, receipt_cursors = Cursors(parts.secrets.cursor_keys), ReceiptCursors(parts.secrets.cursor_keys)
        self._master, self._cursors = master, (cursors, receipt_cursors)
        presence = PresenceReads(parts.database)
        directory = Directory(accounts, master, parts.log.partitions, erased=self.revocations.erased)
        freshness = Freshness(parts.log, parts.progress)
        self.erasures = Erasures(
            accounts=accounts,
            log=parts.log,
            reads=parts.reads,
            freshness=freshness,
            revocations=self.revocations,
            producer=parts.producer,
        )
        self.devices = DeviceCalls(
            accounts=accounts,
            presence=presence,
            freshness=freshness,
            removals=self.removals,
            revocations=self.revocations,
            seen=self.seen,
            partitions=parts.log.partitions,
            clock=parts.clock,
        )
        self.quota = Quota(
            reads=parts.reads,
            freshness=freshness,
            progress=parts.progress,
            most=parts.mailbox_quota,
            most_bytes=parts.mailbox_bytes,
        )
        intake = Intake(
            log=parts.log,
            reads=parts.reads,
            quota=self.quota,
            limits=parts.limits,
            lag=self.lag,
            producer=parts.producer,
            clock=parts.clock,
        )
        self.messages = Messages(directory=directory, intake=intake, limits=parts.limits)
        self.mailbox = Mailbox(
            log=parts.log,
            reads=parts.reads,
            progress=parts.progress,
            freshness=freshness,
            directory=directory,
            cursors=cursors,
            lag=self.lag,
            phase=parts.phase,
            producer=parts.producer,
            clock=parts.clock,
        )
        self.processed = Processed(parts.committed)
        self.receipts = Receipts(
            log=parts.log,
            reads=parts.reads,
            progress=parts.progress,
            freshness=ReceiptFreshness(parts.log, parts.progress, self.processed),
            cursors=receipt_cursors,
            phase=parts.phase,
            clock=parts.clock,
        )
        self.statuses = MessageStatuses(reads=parts.reads, freshness=freshness)
        self.presence = PresenceCalls(presence=presence, freshness=freshness, clock=parts.clock)
        push_partition = partition_of_key(parts.gateway.encode(), parts.log.partitions)
        self.gateway = Gateway(
            log=parts.log,
            pushes=parts.pushes(push_partition),
            reads=parts.reads,
            progress=parts.progress,
            keys=directory,
            tokens=self.tokens,
            cursors=cursors,
            receipts=self.receipts,
            options=parts.stream,
            producer=parts.producer,
            name=parts.gateway,
            push_partition=push_partition,
            clock=parts.clock,
        )
        self.revocations.on_ended(self.gateway.revoke)
        self.revocations.on_erased(self.gateway.forget)
        self.revocations.on_erased(directory.forget)
        self.mailbox.on_acknowledged(self.gateway.acknowledged)
        self.stream = Stream(
            edge=self.edge,
            limits=parts.limits,
            gateway=self.gateway,
            log=parts.log,
            phase=parts.phase,
            receipt_position=self.receipts.position,
        )
        self._sessions = AsyncExitStack()
        self.health = HealthCalls(
            phase=parts.phase, log=parts.log, reads=parts.reads, lag=self.lag, processor_lag=parts.processor_lag
        )

    def _here(self, accounts: Accounts, master: MasterKey, registrations: Registrations) -> None:
        """Accounts of our own, with passwords and tokens."""
        parts = self.parts
        own = AccessTokens(parts.secrets.token_keys, parts.access_ttl, parts.clock, self.revocations.revoked)
        self.tokens: AccessTokens | OutsideTokens = own
        self.logins: Logins | Elsewhere = Logins(
            sign_up=SignUp(accounts=accounts, passwords=self.passwords, master=master) if parts.signup else None,
            accounts=accounts,
            database=parts.database,
            passwords=self.passwords,
            tokens=own,
            removals=self.removals,
            registrations=registrations,
            limits=parts.limits,
            refresh_ttl=parts.refresh_ttl,
            clock=parts.clock,
        )

    def _elsewhere(self, provider: Provider, accounts: Accounts, master: MasterKey, registrations: Registrations) -> None:
        """Accounts of people whom an outside provider knows."""
        self.tokens = OutsideTokens(
            provider=provider,
            accounts=accounts,
            master=master,
            registrations=registrations,
            revoked=self.revocations.revoked,
            believed=self.parts.access_ttl,
            open_to_all=self.parts.signup,
            clock=self.parts.clock,
        )
        self.logins = Elsewhere(provider)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.passwords)
            if self.provider is not None:
                await stack.enter_async_context(self.provider)
            await stack.enter_async_context(self.lag)
            await stack.enter_async_context(self.quota)
            await stack.enter_async_context(self.processed)
            await stack.enter_async_context(self.revocations)
            await stack.enter_async_context(self.seen)
            await stack.enter_async_context(Sweep("unfinished removals", self.removals.sweep))
            await stack.enter_async_context(Sweep("unfinished erasures", self.erasures.sweep))
            await self._sessions.enter_async_context(self.gateway)
            self._open = stack.pop_all()
        self.parts.phase.started = True
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.end_sessions()
        await self._open.aclose()

    def use(self, secrets: Secrets) -> None:
        """Go by these keys from now on. What keys have made that are still among them stays good."""
        self._master.use(secrets.master_keys)
        if isinstance(self.tokens, AccessTokens):
            self.tokens.use(secrets.token_keys)
        for cursors in self._cursors:
            cursors.use(secrets.cursor_keys)

    async def end_sessions(self) -> None:
        """The first step of a stop: take no more work that waits, and end the sessions in order, within 4 s."""
        self.parts.phase.drain()
        await self._sessions.aclose()


def create_app(service: Service) -> Starlette:
    """The public application."""
    operations = public_operations(
        logins=service.logins,
        erasures=service.erasures,
        me=service.me,
        devices=service.devices,
        messages=service.messages,
        mailbox=service.mailbox,
        receipts=service.receipts,
        statuses=service.statuses,
        presence=service.presence,
        stream=service.stream,
        health=service.health,
    )
    about = _descriptions(operations, service.parts.public_url) if service.parts.docs else []
    return _application(service.edge, [*operations, *about], WebSocketRoute(stream.PATH, service.stream))


def _descriptions(operations: Sequence[Operation], public_url: str | None) -> list[Operation]:
    """The calls that tell of the others: for programs, and for people."""
    document = openapi.document(operations, version("restante"), public_url)
    described, seen = answer(document, headers=(_FIVE_MINUTES,)), page(operations, version("restante"))

    async def describe(call: Call) -> Answer:
        """GET /openapi.json."""
        return described

    async def show(call: Call) -> Answer:
        """GET /."""
        return seen

    return [
        Operation(method="GET", path=path, handler=handler, summary=summary, access=ANYONE, answers={200: None})
        for path, handler, summary in (("/openapi.json", describe, "This description"), ("/", show, "The same for people"))
    ]


def create_admin_app(service: Service) -> Starlette:
    """The application for operators, on its own port: metrics and health."""

    async def metrics(call: Call) -> Answer:
        """GET /metrics."""
        return Answer(200, generate_latest(REGISTRY), (PRIVATE,), CONTENT_TYPE_LATEST.encode())

    exposed = Operation(
        method="GET",
        path="/metrics",
        handler=metrics,
        summary="Metrics for Prometheus",
        access=OPERATORS,
        rate=None,
        answers={200: None},
    )
    return _application(service.admin_edge, [*health_operations(service.health, in_figures=True), exposed])


def _application(edge: Edge, operations: Sequence[Operation], *sockets: BaseRoute) -> Starlette:
    by_path = groupby(sorted(operations, key=lambda row: _rank(row.path)), key=lambda row: row.path)
    routes = [Route(path, Resource(edge, path, list(rows))) for path, rows in by_path]
    app = App(routes=[*sockets, *routes])
    app.router.redirect_slashes = False
    app.router.default = Resource(edge, "unmatched", [])
    return app


def _rank(path: str) -> tuple[bool, bool, str]:
    """Routes are tried in order: the busiest path first, those with parameters last."""
    return path != "/messages", "{" in path, path
