"""The role `restante processor`: runs the app in the event loop it is called in, watches it, and stops it in time."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import structlog
from faust.contrib.asgi import bind_to_running_loop

from processors.app import Abandon, Options, Processor, build_app, end_process
from processors.errors import ProcessorsError
from processors.gateways import GatewayWatch, Tail
from processors.health import Health, Watch
from processors.outbox import Log
from schemas.metrics import PROCESSOR_LAG_RECORDS, SESSIONS

LOOK_SECONDS: Final = 5.0
STOP_SECONDS: Final = 4.0

logger = structlog.get_logger()


class WorkerFailed(ProcessorsError):
    """Faust gave up, or stands still. Start the process again: it goes on from what is committed."""


async def run(
    options: Options, log: Log, leases: Tail, health: Health, stop: asyncio.Event, *, abandon: Abandon = end_process
) -> None:
    """Decide until `stop` is set; returns within STOP_SECONDS of that. `log` and `leases` (the gateways topic from its
    beginning) must be open. On anything unforeseen the process ends at once with status `app.FAULT` (`abandon`): nothing is
    lost by that."""
    processor = build_app(options, log, health, abandon=abandon)
    bind_to_running_loop(processor.app)
    gateways = GatewayWatch(processor, log, leases, producer=options.producer, lease_seconds=options.lease_seconds)
    works = (stop.wait(), _serve(processor), _look(processor, log, health), gateways.run())
    tasks: list[asyncio.Task[object]] = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {tasks[0]}:
            abandon(task.exception() or WorkerFailed("the Faust app stopped by itself"))
    finally:
        health.reading = False
        await _stop(processor, tasks, abandon)


async def _serve(processor: Processor) -> None:
    """Start the app and wait for its end, which only a crash brings."""
    app = processor.app
    app.finalize()
    await app.start()
    await app.wait_until_stopped()
    raise WorkerFailed("the Faust app crashed") from app.crash_reason


async def _look(processor: Processor, log: Log, health: Health) -> None:
    """Keep lag and health up to date, and notice a standstill."""
    watch = Watch()
    while True:
        reading = health.reading = processor.reading
        if reading:
            processor.recall()
        SESSIONS.set(processor.desk.sessions)
        if reading:
            await _measure(processor, log, health, watch)
        await asyncio.sleep(LOOK_SECONDS if reading else 0.1)


async def _measure(processor: Processor, log: Log, health: Health, watch: Watch) -> None:
    try:
        ends = dict(await log.ends())
    except Exception:  # the log is away; appending notices and says so
        watch.forget()
        return
    done = {p: offset for p in processor.ledger.partitions if (offset := processor.ledger.done(p)) is not None}
    for partition in health.lag.keys() - done.keys():
        PROCESSOR_LAG_RECORDS.remove(str(partition))
    health.lag = {partition: max(0, ends.get(partition, 0) - offset) for partition, offset in done.items()}
    for partition, lag in health.lag.items():
        PROCESSOR_LAG_RECORDS.labels(partition=str(partition)).set(lag)
    stalled = watch.stalled(done, ends, time.monotonic())
    if stalled and not health.log_refuses:
        raise WorkerFailed(f"records wait in partitions {stalled} and none is processed")


async def _stop(processor: Processor, tasks: Sequence[asyncio.Task[object]], abandon: Abandon) -> None:
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await processor.settle()
            await processor.app.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    except TimeoutError as late:
        logger.warning("processor.stop_overdue", seconds=STOP_SECONDS)
        abandon(late)
