"""How many messages are in which state, and whether any is nowhere: counted again and again, at little cost.

Each count is one snapshot, so it is true of one offset vector. It takes what it takes, and then rests for so long that it is
at most SHARE of the time: a projection of ten times the size is counted a tenth as often. That bounds its share of
PostgreSQL's time; this process only waits. Where nothing was folded since the last count, there is nothing to count.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from projections.database import Connection, Database, load_queries
from projections.errors import ProjectionsError
from projections.reads import QUERIES as READS
from schemas import metrics
from schemas.lifecycle import Status
from schemas.topics import LIFECYCLE

log = logging.getLogger(__name__)

SHARE: Final = 0.02
LEAST_SECONDS: Final = 10.0
COUNT_SECONDS: Final = 600.0
"""A count that takes longer is cut, and tried again after as long a rest as one that came to its end."""

_STATES: Final = tuple(status for status in Status if status is not Status.CREATED)
_QUERIES: Final = load_queries("projections", "conservation.sql")

Offsets = Sequence[tuple[str, int, int]]


@dataclass(frozen=True, slots=True)
class Count:
    """At these offsets, by partition: messages by state, rejected repeats, messages that are not in exactly one place."""

    offsets: Offsets
    messages: Mapping[int, Mapping[Status, int]]
    repeats: Mapping[int, int]
    misplaced: Mapping[int, int]


async def count(database: Database) -> Count:
    """Count all of the live projection. Raises `DatabaseUnavailable`."""
    messages: dict[int, dict[Status, int]] = {}
    misplaced: dict[int, int] = {}
    async with database.snapshot(seconds=COUNT_SECONDS) as snapshot:
        offsets = await _offsets(snapshot)
        await snapshot.tuples(_QUERIES["gently"])
        for partition, status, found, wrong in await snapshot.tuples(_QUERIES["count"]):
            messages.setdefault(partition, dict.fromkeys(_STATES, 0))[Status(status)] = found
            misplaced[partition] = misplaced.get(partition, 0) + wrong
        repeats = dict(await snapshot.tuples(_QUERIES["repeats"]))
    return Count(
        offsets, messages, {partition: repeats.get(partition, 0) for partition in messages.keys() | repeats}, misplaced
    )


class Counting:
    """Keeps the gauges until cancelled, while `ours` says that it is this process which does: of several projectors one."""

    def __init__(self, database: Database, ours: Callable[[], bool], *, least_seconds: float = LEAST_SECONDS) -> None:
        self._database = database
        self._ours = ours
        self._least_seconds = least_seconds
        self._counted: Offsets | None = None

    async def run(self) -> None:
        """Count and rest."""
        while True:
            began = time.monotonic()
            if self._ours():
                try:
                    await self._count()
                except ProjectionsError as error:
                    log.warning("messages were not counted: %s", error)
            else:
                self._counted = None
                hide()
            took = time.monotonic() - began
            await asyncio.sleep(max(self._least_seconds, took * (1 / SHARE - 1)))

    async def _count(self) -> None:
        async with self._database.connection() as connection:
            if self._counted == await _offsets(connection):
                return
        counted = await count(self._database)
        self._counted = counted.offsets
        show(counted)


async def _offsets(connection: Connection) -> Offsets:
    return sorted(await connection.tuples(READS["all_offsets"], topics=[LIFECYCLE]))


def show(counted: Count) -> None:
    """Set the gauges."""
    hide()
    for partition, states in counted.messages.items():
        for status, found in states.items():
            metrics.MESSAGES.labels(partition, status.label).set(found)
        metrics.MESSAGES_MISPLACED.labels(partition).set(counted.misplaced[partition])
    for partition, found in counted.repeats.items():
        metrics.MESSAGE_REPEATS.labels(partition).set(found)


def hide() -> None:
    """Another process tells."""
    for gauge in (metrics.MESSAGES, metrics.MESSAGE_REPEATS, metrics.MESSAGES_MISPLACED):
        gauge.clear()
