"""The Faust app, built by hand: one stream, one table, one agent. Topics are made elsewhere; nothing is found by import."""

import asyncio
import os
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import faust
import structlog
from faust.auth import SASLCredentials, SSLCredentials
from faust.serializers.schemas import Schema
from yarl import URL

from processors.desk import Desk, Findings
from processors.health import Health
from processors.ledger import Ledger, Run
from processors.outbox import Log, append_until_held
from processors.transport import Fetched, RunConsumer, RunTransport
from schemas.codec import decode, encode
from schemas.metrics import DECISIONS, QUARANTINED
from schemas.partitions import partition_for
from schemas.presence import PresenceRow
from schemas.topics import APP_ID, LIFECYCLE, PRESENCE_TABLE

MAX_RUN_RECORDS: Final = 500
COMMIT_SECONDS: Final = 0.25
"""Only what changed is committed. Readers of receipts wait for it."""
SETTLE_SECONDS: Final = 1.0
FAULT: Final = 70
"""Exit status after anything unforeseen: start the process again, it goes on from what is committed."""

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a processor wants to know.

    `client_options` are the keyword arguments of an aiokafka client (bootstrap_servers, security). `producer` names this
    process in what it writes. With `instance_id` (one a worker, kept over restarts) a restart within `session_seconds`
    moves no partition; without, it is moved at once. `data_dir` holds nothing of worth. `lease_seconds` is the lease of a
    gateway that was never heard of. App id and topic are for tests.
    """

    client_options: Mapping[str, Any] = field(repr=False)
    producer: str
    partitions: int
    data_dir: Path
    instance_id: str | None = None
    session_seconds: float = 15.0
    app_id: str = APP_ID
    lifecycle: str = LIFECYCLE
    max_run_records: int = MAX_RUN_RECORDS
    lease_seconds: float = 15.0


class Processor:
    """The app with what belongs to it. `app` is started and stopped by `worker`."""

    def __init__(self, options: Options, log: Log, health: Health, *, abandon: "Abandon") -> None:
        self.app = _app(options)
        self.ledger = Ledger()
        self.app.transport = RunTransport(self.app, lifecycle=options.lifecycle, ledger=self.ledger)
        self.desk = Desk(
            options.producer, lambda partition: self._recovered().get(partition, ()), partitions=options.partitions
        )
        self._options = options
        self._log = log
        self._health = health
        self._abandon = abandon
        self._under_way: set[asyncio.Task[None]] = set()
        self._table = self.app.Table(PRESENCE_TABLE, key_type=bytes, value_type=bytes, partitions=options.partitions)
        runs = self.app.topic(options.lifecycle, schema=_Runs(), acks=False)
        self.app.agent(runs, name="decide")(self._decide)

    @property
    def consumer(self) -> RunConsumer:
        """The consumer, once the app has started."""
        return self.app.consumer  # type: ignore[return-value]

    @property
    def reading(self) -> bool:
        """True while the table is recovered and partitions are ours."""
        return not self.app.rebalancing and bool(self.ledger.partitions)

    async def _decide(self, stream: Any) -> None:
        async for event in stream.noack().events():
            try:
                for run in event.value.runs:
                    await self._take(run)
            except asyncio.CancelledError:
                raise
            except BaseException as fault:
                self._abandon(fault)

    async def _take(self, run: Run) -> None:
        if self.ledger.stale(run):
            return
        self.recall()
        if not self.ledger.begin(run):
            logger.warning("processor.run_missing", partition=run.partition, first=run.first)
            await self.consumer.rewind(run.partition)
            return
        findings = self.desk.read(run.partition, run.first, run.records, run.next)
        self._write_rows(findings)
        task = asyncio.create_task(self._deliver(run, findings))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _deliver(self, run: Run, findings: Findings) -> None:
        try:
            records, partitions = findings.records()
            await append_until_held(self._log, records, partitions, waiting=self.waits)
            self.consumer.finish(run)
            _count(findings)
        except asyncio.CancelledError:
            raise
        except BaseException as fault:
            self._abandon(fault)

    def waits(self, refused: bool) -> None:
        """The log refused something that must go into it, or took it at last."""
        if refused and not self._health.log_refuses:
            logger.warning("processor.log_refuses")
        self._health.log_refuses = refused

    def _write_rows(self, findings: Findings) -> None:
        for device, row in findings.rows.items():
            key = str(device).encode()
            if row is not None:
                self._table[key] = encode(row).value
            elif key in self._table:
                del self._table[key]

    def recall(self) -> None:
        """Know the sessions of just the partitions that we read: the table's rows where no record has come yet."""
        self.desk.keep(self.ledger.partitions)
        wanted = {part: first for part, first in self.ledger.untouched().items() if not self.desk.knows(part, first)}
        if not wanted:
            return
        rows = self._recovered()
        for partition, first in wanted.items():
            self.desk.recall(partition, first, rows.get(partition, ()))

    def _recovered(self) -> dict[int, list[PresenceRow]]:
        """The table's rows by partition; those of partitions that moved away are dropped from memory on the way."""
        ours = self.ledger.partitions
        found: dict[int, list[PresenceRow]] = {}
        for key, value in list(self._table.items()):
            row = decode(value)
            assert isinstance(row, PresenceRow)
            place = partition_for(row.recipient, self._options.partitions)
            if place in ours:
                found.setdefault(place, []).append(row)
            else:
                self._table.data.pop(key, None)
        return found

    async def settle(self) -> None:
        """Wait a moment for what is on its way into the log and give up the rest: not acknowledged, it is done again."""
        if not self._under_way:
            return
        _, late = await asyncio.wait(self._under_way, timeout=SETTLE_SECONDS)
        for task in late:
            task.cancel()


Abandon = Callable[[BaseException], None]


def end_process(fault: BaseException) -> NoReturn:
    """Say what happened and end the process at once, before Faust's `finally` blocks run."""
    logger.error("processor.abandoned", error=repr(fault), trace=traceback.format_exception(fault))
    os._exit(FAULT)


def build_app(options: Options, log: Log, health: Health, *, abandon: Abandon = end_process) -> Processor:
    """The processor's app with its table and agent; nothing is started. `log` takes the decisions."""
    return Processor(options, log, health, abandon=abandon)


class _Runs(Schema[None, Fetched]):
    """Events of the lifecycle topic carry what one fetch brought, as it is."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> None:
        return None

    def loads_value(self, app: Any, message: Any, **_: Any) -> Fetched:
        return message.value  # type: ignore[no-any-return]


def _app(options: Options) -> faust.App:
    servers = options.client_options["bootstrap_servers"]
    servers = servers.split(",") if isinstance(servers, str) else list(servers)
    return faust.App(
        options.app_id,
        broker=[URL(f"kafka://{server}") for server in servers],
        broker_credentials=_credentials(options.client_options),
        broker_client_id=options.producer.replace("/", "-"),
        broker_commit_interval=COMMIT_SECONDS,
        broker_max_poll_records=options.max_run_records,
        broker_session_timeout=options.session_seconds,
        broker_heartbeat_interval=options.session_seconds / 5,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=options.instance_id,
        datadir=options.data_dir,
        key_serializer="raw",
        value_serializer="raw",
        store="memory://",
        stream_wait_empty=False,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=options.partitions,
        web_enabled=False,
        worker_redirect_stdouts=False,
    )


def _credentials(options: Mapping[str, Any]) -> SASLCredentials | SSLCredentials | None:
    protocol = options.get("security_protocol", "PLAINTEXT")
    if protocol.startswith("SASL_"):
        return SASLCredentials(
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            mechanism=options["sasl_mechanism"],
            ssl_context=options.get("ssl_context"),
        )
    if protocol == "SSL":
        return SSLCredentials(context=options["ssl_context"])
    return None


def _count(findings: Findings) -> None:
    for kind, records in findings.kinds().items():
        DECISIONS.labels(kind=kind).inc(records)
    if findings.quarantined:
        QUARANTINED.inc(len(findings.quarantined))
