"""How far the projection has come, as it moves: what lets a read wait for completeness without asking again and again.

Each projector's transaction announces the partition, its next offset and whose mail it brought; one connection a process
listens. Announcements only ever raise what is known. A look at the offsets table, taken on each connect and each
second, sets it, also lower: after a restore or a rebuild the projection is further back. Reads check the offset in
their own snapshot anyway, so this memory being stale costs time, never a message.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final
from uuid import UUID

from projections.database import Connection, load_queries
from projections.errors import ProjectionBehind
from projections.listening import Listening
from schemas.topics import LIFECYCLE

CHANNEL: Final = "restante_projection"
EVERYBODY: Final = "*"
_TAIL_BYTES = 4
_MOST_NAMED = 800
_QUERIES = load_queries("projections", "reads.sql")


def tail(user: UUID) -> str:
    """How an announcement names a user: the id's end, which is random. Its beginning is a time, the same for all who signed
    up within a minute."""
    return user.bytes[-_TAIL_BYTES:].hex()


def announcements(partition: int, next_offset: int, recipients: Iterable[UUID]) -> list[str]:
    """The payloads (below PostgreSQL's 8,000 bytes) that say how far a partition has come and who got mail."""
    tails = sorted({tail(recipient) for recipient in recipients})
    if len(tails) > 4 * _MOST_NAMED:
        tails = [EVERYBODY]
    groups = [tails[at : at + _MOST_NAMED] for at in range(0, len(tails), _MOST_NAMED)] or [[]]
    return [f"{partition} {next_offset} {','.join(group)}" for group in groups]


class Arrival:
    """Interest in one user's mail, from the moment it was registered."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    async def wait(self, seconds: float) -> bool:
        """True once mail may have come since the last wait (or since registering); False after this time."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True

    def wake(self) -> None:
        """Mail may have come."""
        self._event.set()


class Progress:
    """Listens from entry to exit. Reconnects by itself; while PostgreSQL is away, nothing is reached."""

    def __init__(self, url: str) -> None:
        self._applied: dict[int, int] = {}
        self._waiting: defaultdict[int, set[tuple[int, asyncio.Future[None]]]] = defaultdict(set)
        self._interested: defaultdict[str, set[Arrival]] = defaultdict(set)
        self._listening = Listening(url, CHANNEL, fresh=self._fresh, look=self._look, hear=self._hear)

    async def __aenter__(self) -> "Progress":
        await self._listening.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._listening.__aexit__()

    @property
    def connected(self) -> bool:
        """False while announcements do not arrive."""
        return self._listening.connected

    def applied(self, partition: int) -> int:
        """The offset after the last record of the partition that is known to be in the tables."""
        return self._applied.get(partition, 0)

    async def reached(self, partition: int, end: int, timeout: float) -> None:
        """Wait until the records below `end` are in the tables. Raises `ProjectionBehind` after `timeout` seconds."""
        if self.applied(partition) >= end:
            return
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (end, reached)
        self._waiting[partition].add(waiter)
        try:
            async with asyncio.timeout(timeout):
                await reached
        except TimeoutError as error:
            raise ProjectionBehind(
                f"partition {partition} is folded up to {self.applied(partition)}, not to {end}, after {timeout:g} s"
            ) from error
        finally:
            self._waiting[partition].discard(waiter)

    @contextmanager
    def arrivals(self, user: UUID) -> Iterator[Arrival]:
        """Interest in a user's mail. Register it before the query: what comes between query and wait is then not missed.
        A wake-up may be false (another user, a reconnect); it says "look", not "there is"."""
        name, arrival = tail(user), Arrival()
        self._interested[name].add(arrival)
        try:
            yield arrival
        finally:
            self._interested[name].discard(arrival)
            if not self._interested[name]:
                del self._interested[name]

    async def _fresh(self, connection: Connection) -> None:
        await self._look(connection)
        self._wake(self._interested)

    async def _look(self, connection: Connection) -> None:
        rows = await connection.tuples(_QUERIES["offsets"], topic=LIFECYCLE)
        found = dict(rows)
        for partition in self._applied.keys() | found.keys():
            self._set(partition, found.get(partition, 0))

    def _hear(self, payload: str) -> None:
        partition, next_offset, tails = payload.split(" ")
        self._set(int(partition), max(self.applied(int(partition)), int(next_offset)))
        if tails == EVERYBODY:
            self._wake(self._interested)
        elif tails and self._interested:
            self._wake(self._interested.keys() & tails.split(","))

    def _set(self, partition: int, next_offset: int) -> None:
        self._applied[partition] = next_offset
        for end, reached in self._waiting.get(partition, ()):
            if end <= next_offset and not reached.done():
                reached.set_result(None)

    def _wake(self, tails: Iterable[str]) -> None:
        for name in tails:
            for arrival in self._interested[name]:
                arrival.wake()
