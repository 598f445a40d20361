"""A real Kafka on this machine: one broker that is its own controller, bound to 127.0.0.1."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import struct
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from deploy.errors import DeployError
from deploy.local import kafka_jars
from deploy.local.child import Command

_ANYWHERE = "0.0.0.0"  # noqa: S104 - inside a container; the engine publishes the port on 127.0.0.1
IMAGE = f"apache/kafka:{kafka_jars.VERSION}"
# The first compiler only: on two cores the second one costs more than it gives for the first millions of records.
_JVM = (
    *("-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
    *("-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true"),
)
_LOGGING = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)
_PULL_SECONDS = 600
_TEN_YEARS_IN_MINUTES = 10 * 365 * 24 * 60


def properties(*, port: int, controller_port: int, directory: str, listen: str = "127.0.0.1") -> dict[str, str]:
    """The broker's settings. What they share: one broker, few threads, nothing forgotten."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "listeners": f"PLAINTEXT://{listen}:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "log.dirs": directory,
        # The log is the truth: nothing goes by age or size unless a topic says so, and no reader's place is forgotten.
        "log.retention.ms": "-1",
        "log.retention.bytes": "-1",
        "offsets.retention.minutes": str(_TEN_YEARS_IN_MINUTES),
        "auto.create.topics.enable": "false",
        # One broker cannot keep three copies.
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        # After a kill the controller lets the broker in again only when its old session has ended.
        "broker.session.timeout.ms": "2500",
        "broker.heartbeat.interval.ms": "500",
        # A small machine with few clients.
        "group.initial.rebalance.delay.ms": "0",
        "num.network.threads": "2",
        "num.io.threads": "8",
        "num.replica.fetchers": "1",
        "num.recovery.threads.per.data.dir": "2",
        "background.threads": "2",
        "group.coordinator.threads": "1",
        "share.coordinator.threads": "1",
        "log.cleaner.dedupe.buffer.size": "33554432",
    }


@dataclass(frozen=True, slots=True)
class LocalKafka:
    """Where a Kafka keeps its data and listens. `prepare` gives the command to run; then wait until it `answers`."""

    directory: Path
    log: Path
    cache: Path
    port: int
    controller_port: int
    environment: Mapping[str, str]
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of the broker, beyond ours or in their place."""
    name: ClassVar[str] = "kafka"

    @property
    def address(self) -> str:
        """What clients connect to."""
        return f"127.0.0.1:{self.port}"

    async def prepare(self) -> Command:
        """Bring the jars, format the storage of a new directory, write the settings; blocking work runs in a thread.

        DeployError (exit 3) where this machine has neither Java 17 with Maven nor a Docker engine.
        """
        return await asyncio.to_thread(self._prepare)

    async def answers(self) -> bool:
        """Whether the broker serves clients: asked through its own protocol, it names at least one live broker."""
        try:
            async with asyncio.timeout(2):
                return await live_brokers("127.0.0.1", self.port) > 0
        except (OSError, TimeoutError, asyncio.IncompleteReadError, struct.error):
            return False

    def _prepare(self) -> Command:
        self.directory.mkdir(parents=True, exist_ok=True)
        java = kafka_jars.find_java(self.environment)
        if java and (kafka_jars.cached(self.cache) or kafka_jars.find_maven(self.environment)):
            return self._by_java(java, kafka_jars.resolve(self.cache, self.environment))
        if engine := self._docker():
            return self._by_docker(engine)
        raise DeployError(
            "there is no Kafka to run: this machine has neither Java 17 with Maven "
            "(`apt-get install default-jre-headless maven`) "
            "nor a Docker engine that answers. Install one of them, or set RESTANTE_KAFKA to a running Kafka"
        )

    def _by_java(self, java: Path, jars: Path) -> Command:
        file = self.directory / "server.properties"
        values = properties(port=self.port, controller_port=self.controller_port, directory=str(self.directory / "log"))
        values |= self.settings
        file.write_text("".join(f"{name}={value}\n" for name, value in values.items()), encoding="utf-8")
        run = [str(java), *_JVM, *_LOGGING, "-cp", f"{jars}/*"]
        if not (self.directory / "log" / "meta.properties").exists():
            self._format(run, file)
        return Command("kafka", [*run, "kafka.Kafka", str(file)], self.log, self.environment, directory=self.directory)

    def _format(self, run: list[str], file: Path) -> None:
        arguments = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster_id(), "-c", str(file)]
        done = subprocess.run(
            [*run, *arguments], capture_output=True, text=True, check=False, timeout=60, env=self.environment
        )
        if done.returncode != 0:
            said = (done.stdout + done.stderr).strip()
            raise DeployError(
                f"Kafka could not format {self.directory}. Check the rights and the space there, it said:\n{said}"
            )

    def _by_docker(self, engine: str) -> Command:
        # The container's own user owns a named volume; a directory of ours it could not write.
        name = self.container_name
        self._pull(engine)
        subprocess.run([engine, "rm", "-f", name], capture_output=True, check=False, timeout=60, env=self.environment)
        values = properties(
            port=self.port, controller_port=self.controller_port, directory="/var/lib/kafka/data", listen=_ANYWHERE
        )
        values |= self.settings
        settings = [part for name, value in values.items() for part in ("-e", f"{variable(name)}={value}")]
        place = ["--name", name, "-p", f"127.0.0.1:{self.port}:{self.port}", "-v", f"{name}:/var/lib/kafka/data"]
        heap = ["-e", f"CLUSTER_ID={self._container_cluster()}", "-e", "KAFKA_HEAP_OPTS=-Xms64m -Xmx512m"]
        return Command("kafka", [engine, "run", "--rm", *place, *settings, *heap, IMAGE], self.log, self.environment)

    def _pull(self, engine: str) -> None:
        """Bring the image before the broker's own start is timed."""
        if self._asks([engine, "image", "inspect", IMAGE], 30) or self._asks([engine, "pull", "-q", IMAGE], _PULL_SECONDS):
            return
        raise DeployError(f"the Docker engine has no image {IMAGE} and cannot pull it. Load it, or set RESTANTE_KAFKA")

    @property
    def container_name(self) -> str:
        """One container and one volume a directory, found again by name."""
        return f"restante-{uuid.uuid5(uuid.NAMESPACE_URL, str(self.directory)).hex[:12]}"

    def _container_cluster(self) -> str:
        file = self.directory / "cluster-id"
        if not file.exists():
            file.write_text(cluster_id(), encoding="utf-8")
        return file.read_text(encoding="utf-8")

    def _docker(self) -> str | None:
        engine = shutil.which("docker", path=self.environment.get("PATH"))
        return engine if engine and self._asks([engine, "info"], 10) else None

    def _asks(self, command: list[str], within: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(command, capture_output=True, check=False, timeout=within, env=self.environment)
            return done.returncode == 0
        return False


def variable(setting: str) -> str:
    """How the image takes a setting from its environment."""
    return f"KAFKA_{setting.upper().replace('_', '__').replace('-', '___').replace('.', '_')}"


def cluster_id() -> str:
    """A fresh id for a Kafka cluster; never with a leading dash, which its tools take for an option."""
    while True:
        made = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not made.startswith("-"):
            return made


async def live_brokers(host: str, port: int) -> int:
    """How many brokers the cluster says are alive, asked by a metadata request (version 1, no topics).

    OSError, IncompleteReadError or struct.error where nobody answers or it is no Kafka.
    """
    reader, writer = await asyncio.open_connection(host, port)
    try:
        client = b"restante"
        request = struct.pack(f">hhih{len(client)}si", 3, 1, 1, len(client), client, 0)
        writer.write(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        answer = await reader.readexactly(size)
    finally:
        writer.close()
    (brokers,) = struct.unpack_from(">i", answer, 4)
    return int(brokers)
