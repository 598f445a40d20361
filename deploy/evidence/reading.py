"""Which records to read: partitions, times and accounts, as a person names them; and how far reading has come."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from deploy import foundation
from deploy.errors import DeployError, Misconfigured
from deploy.settings import Settings
from producers.log import ProducersError
from producers.recorded import LogDamaged, LogReader
from projections.database import Database
from projections.errors import ProjectionsError
from projections.places import account_named
from schemas.codec import DecodeError, decode
from schemas.events import FactBase, Place, Recorded
from schemas.raw import RawRecord
from schemas.topics import LIFECYCLE

Progress = Callable[[int, int], None]
"""Told how many records of how many were read."""

Damaged = Callable[[LogDamaged], None]
_TELL_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Stretch:
    """Records `start` to `end - 1` of a partition, whose first is `first`."""

    partition: int
    first: int
    start: int
    end: int


@asynccontextmanager
async def opened(settings: Settings, topic: str = LIFECYCLE) -> AsyncIterator[LogReader]:
    """The log (or another topic of it), open. DeployError (exit 3) where it cannot be read."""
    if settings.kafka is None:
        raise Misconfigured("no Kafka is known. Set RESTANTE_KAFKA, or start `restante up` in the data directory")
    for chatty in ("aiokafka", "psycopg.pool"):  # a line for each attempt; what comes of them is said once
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    try:
        async with LogReader(foundation.connection(settings), topic) as reader:
            yield reader
    except ProducersError as error:
        raise DeployError(str(error)) from error


async def stretches(
    reader: LogReader, *, partitions: Iterable[int] = (), since_ms: int | None = None, until_ms: int | None = None
) -> list[Stretch]:
    """What lies between two times in these partitions (none named: all), by the offsets as they are now."""
    bounds = await reader.bounds()
    wanted = sorted(set(partitions)) or sorted(bounds)
    if unknown := [partition for partition in wanted if partition not in bounds]:
        raise Misconfigured(f"there is no partition {unknown[0]}: the log has 0 to {len(bounds) - 1}")
    found = []
    for partition in wanted:
        first, last = bounds[partition]
        start = first if since_ms is None else min(last, max(first, await reader.offset_at(partition, since_ms)))
        end = last if until_ms is None else min(last, max(start, await reader.offset_at(partition, until_ms)))
        found.append(Stretch(partition, first, start, end))
    return found


class Pages:
    """Reads stretches page by page, and tells how far it has come."""

    def __init__(self, reader: LogReader, todo: Iterable[Stretch], progress: Progress) -> None:
        self._reader = reader
        self._total = sum(stretch.end - stretch.start for stretch in todo)
        self._done = 0
        self._progress = progress
        self._told = 0.0

    async def of(self, stretch: Stretch, damaged: Damaged) -> AsyncIterator[list[RawRecord]]:
        """All that can be read of it; `damaged` is told of what cannot."""
        at = stretch.start
        while at < stretch.end:
            try:
                async with aclosing(self._reader.batches(stretch.partition, at, stretch.end)) as batches:
                    async for records in batches:
                        self._tell(records[-1].offset + 1 - at)
                        at = records[-1].offset + 1
                        yield list(records)
                at = stretch.end
            except LogDamaged as damage:
                damaged(damage)
                at = damage.end

    def _tell(self, more: int) -> None:
        self._done += more
        now = time.monotonic()
        if now - self._told >= _TELL_SECONDS:
            self._told = now
            self._progress(self._done, self._total)


def understood(raw: RawRecord) -> Recorded | None:
    """The fact in a record; None where it holds none."""
    try:
        fact = decode(raw.value)
    except DecodeError:
        return None
    return Recorded(fact, Place(LIFECYCLE, raw.partition, raw.offset), raw.at_ms) if isinstance(fact, FactBase) else None


def moment_ms(text: str) -> int:
    """A time as RFC 3339 has it (`2026-11-23T18:00:00Z`; a date alone is its first moment; UTC where no zone is said), in
    milliseconds. Misconfigured (exit 2) where it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise Misconfigured(f"{text!r} is no time. Write it as 2026-11-23T18:00:00Z or 2026-11-23") from error
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def shown_time(at_ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def account(settings: Settings, named: str) -> UUID:
    """The account of a name, or of its id as text; names are in the database, ids need none. Misconfigured (2) where there
    is no such account, DeployError (3) where the database is away."""
    try:
        return UUID(named)
    except ValueError:
        pass
    if settings.database_url is None:
        raise Misconfigured("names are in the database, and none is known. Set RESTANTE_DATABASE_URL, or give the user's id")
    try:
        async with Database(settings.database_url) as database:
            found = await account_named(database, named)
    except ProjectionsError as error:
        raise DeployError(f"{error}. Names are in the database; the user's id needs none") from error
    if found is None:
        raise Misconfigured(f"there is no account {named!r}. Check the name, or give the account's id")
    return found
