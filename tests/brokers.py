"""A broker of a test's own that can be hurt: paused, killed, started again. In a container where an engine answers, else a
process of this machine."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from deploy.local import kafka_jars, ports
from deploy.local.kafka import IMAGE, LocalKafka
from deploy.local.server import launch
from deploy.settings import machine_environment
from producers.connection import KafkaConnection
from producers.log import LogUnavailable
from producers.topics import create_topics
from tests import containers
from tests.eventually import eventually


class OwnBroker(Protocol):
    """One Kafka broker. It keeps its address and its data."""

    @property
    def address(self) -> str:
        """host:port."""

    def pause(self) -> None:
        """Stop it in its tracks: connections stay, nothing is answered."""

    def resume(self) -> None:
        """Let it go on where it was."""

    def kill(self) -> None:
        """End it without warning."""

    async def start(self) -> None:
        """Start it after a kill: takes seconds, in which the loop goes on, else deadlines pass unseen."""


@contextmanager
def own_broker() -> Iterator[OwnBroker]:
    try:
        containers.require_images(IMAGE)
    except containers.NoContainers:
        with tempfile.TemporaryDirectory(prefix="restante-test-") as directory:
            process = _Process(Path(directory))
            process.launch().result()
            try:
                yield process
            finally:
                process.kill()
        return
    with containers.kafka_container() as container:
        yield _Container(container)


async def with_topics(broker: OwnBroker, *, partitions: int) -> KafkaConnection:
    """A connection to a broker that has our topics. It may be coming back from the test before."""
    connection = KafkaConnection(bootstrap=broker.address)

    async def made() -> bool:
        with suppress(LogUnavailable):
            await create_topics(connection, partitions=partitions)
            return True
        return False

    await eventually(made, within=60)
    return connection


class _Container:
    def __init__(self, container: Any) -> None:
        self._container = container
        self._wrapped = container.get_wrapped_container()

    @property
    def address(self) -> str:
        return str(self._container.address)

    def pause(self) -> None:
        self._wrapped.pause()

    def resume(self) -> None:
        self._wrapped.unpause()

    def kill(self) -> None:
        self._wrapped.kill()

    async def start(self) -> None:
        await asyncio.to_thread(self._wrapped.start)


class _Process:
    def __init__(self, directory: Path) -> None:
        environment = machine_environment()
        cache = kafka_jars.cache_directory(environment, directory / "cache")
        log = directory / "kafka.log"
        self._server = LocalKafka(directory / "kafka", log, cache, ports.any_free(), ports.any_free(), environment)
        self._loop = asyncio.new_event_loop()  # in a thread that lives on: the broker ends with the thread that started it
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return self._server.address

    def pause(self) -> None:
        os.killpg(self._child.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self._child.pid, signal.SIGCONT)

    def kill(self) -> None:
        self._child.kill()

    async def start(self) -> None:
        await asyncio.wrap_future(self.launch())

    def launch(self) -> Future[None]:
        """Start it for the first time, or again."""
        return asyncio.run_coroutine_threadsafe(self._launch(), self._loop)

    async def _launch(self) -> None:
        self._child = await launch(self._server, within=60)
