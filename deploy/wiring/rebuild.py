"""What a rebuild and a comparison are made of: the log, read by offset, and the database."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import uvloop

from deploy.errors import DeployError, Refused
from deploy.foundation import connection
from deploy.settings import Settings
from producers.log import ProducersError
from producers.recorded import LogReader
from projections.compare import Compared, Difference, compare
from projections.errors import ForeignLogError, ProjectionsError
from projections.rebuild import RebuildRefused, Rebuilt, drop_other, rebuild
from projections.refold import Log, Tally
from projections.replace import Replaced, replace_partition
from schemas.topics import LIFECYCLE, RECEIPTS

T = TypeVar("T")


def run_rebuild(settings: Settings, told: Callable[[Tally], None]) -> Rebuilt:
    """The whole projection, beside the live one."""
    assert settings.database_url
    url = settings.database_url

    async def work() -> Rebuilt:
        async with log_of(settings) as log:
            return await rebuild(url, log, told)

    return run(work())


def run_replace(settings: Settings, partition: int, told: Callable[[Tally], None]) -> Replaced:
    """One partition of the live projection."""
    assert settings.database_url
    url = settings.database_url

    async def work() -> Replaced:
        async with log_of(settings) as log:
            return await replace_partition(url, log, partition, told)

    return run(work())


def run_drop_other(settings: Settings) -> str | None:
    """Drop the schema that is not live; its name."""
    assert settings.database_url
    return run(drop_other(settings.database_url))


def run_compare(settings: Settings, found: Callable[[Difference], None], told: Callable[[Tally], None]) -> Compared:
    """The live projection held against the log; each difference to `found`."""
    assert settings.database_url
    url = settings.database_url

    async def work() -> Compared:
        async with log_of(settings) as log:
            return await compare(url, log, found, told)

    return run(work())


@asynccontextmanager
async def log_of(settings: Settings) -> AsyncIterator[Log]:
    """Both topics that the projection is a fold of."""
    kafka = connection(settings)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a line for each attempt; what comes of them is said once
    async with LogReader(kafka, LIFECYCLE) as facts, LogReader(kafka, RECEIPTS) as receipts:
        yield Log(facts, receipts)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end. What a person must decide is `Refused` (exit 1), what was out of reach DeployError (exit 3)."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        try:
            return loop.run(work)
        except (RebuildRefused, ForeignLogError) as error:
            raise Refused(str(error)) from error
        except (ProducersError, ProjectionsError) as error:
            raise DeployError(str(error)) from error
