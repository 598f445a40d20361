"""A service with people and sockets: a real server, gateway, policy and fold in PostgreSQL; only the log is in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection

from api.app import create_app
from schemas.events import EndReason, SessionClosed, SessionMarked
from tests.edge import Edge, Person, running
from tests.memory_processor import MemoryProcessor
from tests.socket_rig import Site, close_of, listening

Frame = dict[str, Any]


class Town:
    """A service with people in it, and their sockets."""

    def __init__(self, edge: Edge, site: Site, processor: MemoryProcessor) -> None:
        self.edge = edge
        self.site = site
        self.processor = processor

    def connect(self, person: Person, query: str = "") -> Listener:
        return Listener(self.site, person, query)

    def raw(self, person: Person, **more: Any) -> Any:
        return self.site.raw(token=person.tokens["access_token"], **more)

    def ends(self) -> list[EndReason]:
        """Why sessions ended, in their order."""
        facts = [
            recorded.fact for partition in range(self.edge.log.partitions) for recorded in self.edge.log.records(partition)
        ]
        return [fact.reason for fact in facts if isinstance(fact, SessionClosed)]

    def markers(self) -> int:
        """How often a session was marked anew."""
        log = self.edge.log
        return sum(
            isinstance(one.fact, SessionMarked) for partition in range(log.partitions) for one in log.records(partition)
        )


class Listener:
    """One socket of a person."""

    def __init__(self, site: Site, person: Person, query: str) -> None:
        self._connecting = site.client(query, token=person.tokens["access_token"])
        self._number = 0
        self.came: list[Frame] = []

    async def __aenter__(self) -> Listener:
        self.socket: ClientConnection = await self._connecting.__aenter__()
        return self

    async def __aexit__(self, *failure: Any) -> None:
        await self._connecting.__aexit__(*failure)

    async def take(self, kind: str) -> Frame:
        """The next frame, which must be of this kind."""
        frame: Frame = json.loads(await asyncio.wait_for(self.socket.recv(), 20))
        self.came.append(frame)
        assert frame["type"] == kind, frame
        return frame

    async def bodies(self, count: int) -> list[str]:
        """The bodies of so many messages, which come next."""
        return [(await self.take("message"))["body"] for _ in range(count)]

    async def begin(self, backlog: int = 0) -> list[str]:
        """Take what comes until the mailbox is empty; the bodies."""
        await self.take("ready")
        bodies = await self.bodies(backlog)
        await self.take("caught_up")
        return bodies

    async def say(self, kind: str, **more: Any) -> int:
        """Send a frame; its number."""
        self._number += 1
        await self.socket.send(json.dumps({"type": kind, "n": self._number, **more}))
        return self._number

    async def ack(self, *ids: str, kind: str = "ack") -> Frame:
        """Acknowledge, and take the answer."""
        number = await self.say(kind, ids=list(ids))
        answer = await self.take("acked")
        assert answer["n"] == number
        return answer

    async def ended(self) -> tuple[int | None, str | None]:
        """Code and reason with which the server closes."""
        return await asyncio.wait_for(close_of(self.socket), 20)


@asynccontextmanager
async def town_of(database_url: str, **settings: Any) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        edge = await stack.enter_async_context(running(database_url, **settings))
        processor = await stack.enter_async_context(MemoryProcessor(edge.log))
        site = await stack.enter_async_context(listening(create_app(edge.service)))
        yield Town(edge, site, processor)
        await edge.service.end_sessions()
