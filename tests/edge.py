"""The edge as a whole, over a log in memory, real PostgreSQL and a real fold: for tests that speak HTTP to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

import httpx2

from api.app import Parts, Service, create_admin_app, create_app
from api.processed import Committed
from api.secrets import Secrets, make_key, make_token_key
from producers.memory import MemoryLog
from producers.memory_tail import MemoryTail
from projections.database import Database
from projections.folds import FACTS, TOLD
from projections.folds import Fold as FoldOf
from projections.progress import Progress
from projections.reads import Reads
from projections.runner import Projector
from projections.source import MemorySource, Raw
from schemas.topics import PUSH

PASSWORD = "correct horse battery"
PARTITIONS = 4
MASTER_KEY = make_key()
SECRETS = Secrets.read(token_key=make_token_key(), cursor_keys=make_key(), master_key=MASTER_KEY)


class Clock:
    """Seconds since the epoch, as far as the test lets them pass."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Person:
    """An account on one device, as a client."""

    edge: Edge
    name: str
    tokens: dict[str, Any] = field(default_factory=dict)

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens['access_token']}"}

    async def get(self, path: str, **more: Any) -> httpx2.Response:
        return await self.edge.client.get(path, headers=self.bearer, **more)

    async def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> httpx2.Response:
        return await self.edge.client.post(path, json=body, headers={**self.bearer, **(headers or {})})

    async def send(self, to: Person, body: str = "hello", key: str | None = None, **more: Any) -> httpx2.Response:
        headers = {"Idempotency-Key": key} if key else {}
        return await self.post("/messages", {"to": to.name, "body": body, **more}, headers)

    async def sync(self, **query: Any) -> dict[str, Any]:
        answer = await self.get("/messages/sync", params=query)
        assert answer.status_code == 200, answer.text
        page: dict[str, Any] = answer.json()
        return page

    async def bodies(self, **query: Any) -> list[str]:
        return [message["body"] for message in (await self.sync(**query))["messages"]]


@dataclass
class Edge:
    """One API process and what it stands on. `fold` runs or stops the projector."""

    service: Service
    client: httpx2.AsyncClient
    admin: httpx2.AsyncClient
    log: MemoryLog
    database: Database
    clock: Clock
    fold: Fold
    processor: dict[str, Any]

    async def person(self, name: str, device: str = "phone") -> Person:
        """Sign up if need be, and log in."""
        await self.client.post("/accounts", json={"name": name, "password": PASSWORD})
        answer = await self.client.post("/tokens", json={"name": name, "password": PASSWORD, "device": device})
        assert answer.status_code == 200, answer.text
        return Person(self, name, answer.json())


class Fold:
    """The projector with both its topics, which a test may stop and start, each on its own."""

    def __init__(self, log: MemoryLog, database: Database) -> None:
        self._log = log
        self._database = database
        self._raw: dict[tuple[str, int], list[Raw]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, *folds: FoldOf[Any]) -> None:
        for fold in folds or (FACTS, TOLD):
            source = MemorySource(partial(self._held, fold.topic), range(self._log.partitions))
            projector = Projector(source, self._database, self._log.append, fold=fold)
            self._tasks[fold.topic] = asyncio.create_task(projector.run())

    async def stop(self, *folds: FoldOf[Any]) -> None:
        for fold in folds or (FACTS, TOLD):
            task = self._tasks.pop(fold.topic, None)
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    def _held(self, topic: str, partition: int) -> list[Raw]:
        raw = self._raw.setdefault((topic, partition), [])
        for held in self._log.held(topic, partition)[len(raw) :]:
            at, encoded = held.appended, held.encoded
            raw.append(Raw(at.offset, at.at_ms, encoded.key, encoded.value, list(encoded.headers)))
        return raw


@asynccontextmanager
async def running(
    database_url: str,
    *,
    log: MemoryLog | None = None,
    clock: Clock | None = None,
    committed: Committed | None = None,
    secrets: Secrets = SECRETS,
    **settings: Any,
) -> AsyncIterator[Edge]:
    """An edge with its projector. Several may share a database and a log, as API processes do. `settings` are of `Parts`.
    Without `committed` (see there) nothing waits for a processor, and there is none."""
    clock, processor = clock or Clock(), {"members": 1, "seconds": 0.0}

    async def processor_lag() -> dict[str, Any]:
        return processor

    async with AsyncExitStack() as stack:
        shared = log is not None
        log = log or await stack.enter_async_context(MemoryLog(PARTITIONS))
        database = await stack.enter_async_context(Database(database_url))
        progress = await stack.enter_async_context(Progress(database_url))
        parts = Parts(
            log=log,
            database=database,
            reads=Reads(database),
            progress=progress,
            secrets=secrets,
            processor_lag=processor_lag,
            committed=committed or log.ends,
            producer="api/test",
            gateway=f"gateway/{uuid4().hex}",
            pushes=lambda partition: MemoryTail(log, PUSH, partition=partition, start="end"),
            clock=clock,
            **settings,
        )
        service = await stack.enter_async_context(Service(parts))
        fold = Fold(log, database)
        if not shared:
            fold.start()
        stack.push_async_callback(fold.stop)
        client = await stack.enter_async_context(_client(create_app(service)))
        admin = await stack.enter_async_context(_client(create_admin_app(service)))
        yield Edge(service, client, admin, log, database, clock, fold, processor)


def _client(app: Any) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://edge", timeout=20)
