"""How far the projection has come, as it moves: what lets a read wait for completeness without asking again and again.

Each projector's transaction announces the partition, its next offset and whom its records concern; one connection a process
listens. Announcements only ever raise what is known. A look at the offsets table, taken on each connect and each
second, sets it, also lower: after a restore or a rebuild the projection is further back. Reads check the offset in
their own snapshot anyway, so this memory being stale costs time, never a message.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Final
from uuid import UUID

from projections.database import Connection, load_queries
from projections.errors import ProjectionBehind
from projections.listening import Listening
from schemas.topics import LIFECYCLE, RECEIPTS

CHANNEL: Final = "restante_folded"
EVERYBODY: Final = "*"
_TAIL_BYTES = 4
_MOST_NAMED = 800
_QUERIES = load_queries("projections", "reads.sql")


def tail(user: UUID) -> str:
    """How an announcement names a user: the id's end, which is random. Its beginning is a time, the same for all who signed
    up within a minute."""
    return user.bytes[-_TAIL_BYTES:].hex()


def announcements(topic: str, partition: int, next_offset: int, users: Iterable[UUID]) -> list[str]:
    """The payloads (below PostgreSQL's 8,000 bytes) that say how far a partition has come and who got something."""
    tails = sorted({tail(user) for user in users})
    if len(tails) > 4 * _MOST_NAMED:
        tails = [EVERYBODY]
    groups = [tails[at : at + _MOST_NAMED] for at in range(0, len(tails), _MOST_NAMED)] or [[]]
    return [f"{topic} {partition} {next_offset} {','.join(group)}" for group in groups]


class Arrival:
    """Interest in what comes for one user, from the moment it was registered."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    async def wait(self, seconds: float) -> bool:
        """True once something may have come since the last wait (or since registering); False after this time."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True

    def wake(self) -> None:
        """Something may have come."""
        self._event.set()


class _Topic:
    """How far one topic has been folded, and who waits for what of it."""

    def __init__(self) -> None:
        self._applied: dict[int, int] = {}
        self._waiting: defaultdict[int, set[tuple[int, asyncio.Future[None]]]] = defaultdict(set)
        self._interested: defaultdict[str, list[Callable[[], None]]] = defaultdict(list)

    @property
    def watched(self) -> int:
        return sum(map(len, self._interested.values()))

    def applied(self, partition: int) -> int:
        return self._applied.get(partition, 0)

    async def reached(self, partition: int, end: int, timeout: float) -> None:
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
    def watch(self, user: UUID, wake: Callable[[], None]) -> Iterator[None]:
        name = tail(user)
        self._interested[name].append(wake)
        try:
            yield
        finally:
            self._interested[name].remove(wake)
            if not self._interested[name]:
                del self._interested[name]

    @contextmanager
    def arrivals(self, user: UUID) -> Iterator[Arrival]:
        arrival = Arrival()
        with self.watch(user, arrival.wake):
            yield arrival

    def look(self, found: Mapping[int, int]) -> None:
        """Take the offsets as they are in the table."""
        for partition in self._applied.keys() | found.keys():
            self._set(partition, found.get(partition, 0))

    def hear(self, partition: int, next_offset: int, tails: str) -> None:
        """Take an announcement."""
        self._set(partition, max(self.applied(partition), next_offset))
        if tails == EVERYBODY:
            self.wake_all()
        elif tails and self._interested:
            self._wake(self._interested.keys() & tails.split(","))

    def wake_all(self) -> None:
        """Everybody may have missed something."""
        self._wake(self._interested)

    def _set(self, partition: int, next_offset: int) -> None:
        self._applied[partition] = next_offset
        for end, reached in self._waiting.get(partition, ()):
            if end <= next_offset and not reached.done():
                reached.set_result(None)

    def _wake(self, tails: Iterable[str]) -> None:
        for name in tails:
            for wake in self._interested[name]:
                wake()


class Progress:
    """Listens from entry to exit. Reconnects by itself; while PostgreSQL is away, nothing is reached. Where no topic is
    named, the lifecycle is meant."""

    def __init__(self, url: str) -> None:
        self._topics = {topic: _Topic() for topic in (LIFECYCLE, RECEIPTS)}
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

    @property
    def watched(self) -> int:
        """How many wait for something to come for a user."""
        return sum(topic.watched for topic in self._topics.values())

    def applied(self, partition: int, topic: str = LIFECYCLE) -> int:
        """The offset after the last record of the partition that is known to be in the tables."""
        return self._topics[topic].applied(partition)

    async def reached(self, partition: int, end: int, timeout: float, topic: str = LIFECYCLE) -> None:
        """Wait until the records below `end` are in the tables. Raises `ProjectionBehind` after `timeout` seconds."""
        await self._topics[topic].reached(partition, end, timeout)

    def arrivals(self, user: UUID) -> AbstractContextManager[Arrival]:
        """Interest in a user's mail. Register it before the query: what comes between query and wait is then not missed.
        A wake-up may be false (another user, a reconnect); it says "look", not "there is"."""
        return self._topics[LIFECYCLE].arrivals(user)

    def receipt_arrivals(self, user: UUID) -> AbstractContextManager[Arrival]:
        """Interest in what a user is told about messages that he sent. Otherwise as `arrivals`."""
        return self._topics[RECEIPTS].arrivals(user)

    def watch_receipts(self, user: UUID, wake: Callable[[], None]) -> AbstractContextManager[None]:
        """The same as a call, which must not raise: for whoever waits for many things at once."""
        return self._topics[RECEIPTS].watch(user, wake)

    async def _fresh(self, connection: Connection) -> None:
        await self._look(connection)
        for topic in self._topics.values():
            topic.wake_all()

    async def _look(self, connection: Connection) -> None:
        found: dict[str, dict[int, int]] = {name: {} for name in self._topics}
        for name, partition, next_offset in await connection.tuples(_QUERIES["all_offsets"], topics=list(found)):
            found[name][partition] = next_offset
        for name, topic in self._topics.items():
            topic.look(found[name])

    def _hear(self, payload: str) -> None:
        name, partition, next_offset, tails = payload.split(" ")
        self._topics[name].hear(int(partition), int(next_offset), tails)
