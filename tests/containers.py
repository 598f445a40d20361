"""Kafka 4 and PostgreSQL 18 in containers, where a Docker engine answers and has or gets the images in time."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from deploy.local import kafka, ports

POSTGRES_IMAGE = "postgres:18"
_PULL_SECONDS = 180.0


class NoContainers(Exception):
    """This machine cannot run them; the text says why."""


def require_images(*images: str) -> None:
    """Return where an engine answers and holds all images (pulling what is missing); else raise NoContainers."""
    try:
        import docker
        from testcontainers.core.config import testcontainers_config

        _require_engine()
        client = docker.from_env(timeout=10)
    except Exception as error:
        raise NoContainers("no Docker engine answers") from error
    try:
        reaper = () if testcontainers_config.ryuk_disabled else (testcontainers_config.ryuk_image,)
        for image in (*images, *reaper):
            _require(client, image)
    finally:
        client.close()


def _require_engine() -> None:
    """Raise OSError where nothing listens: the Docker library leaves its socket open then, and the collector warns later."""
    import docker.utils

    address = docker.utils.parse_host(os.environ.get("DOCKER_HOST"))
    if (path := address.removeprefix("http+unix://")) != address:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(10)
            probe.connect(path)


def _require(client: Any, image: str) -> None:
    import docker.errors

    try:
        client.ping()
        client.images.get(image)
        return
    except docker.errors.ImageNotFound:
        pass
    except Exception as error:
        raise NoContainers("no Docker engine answers") from error
    failures: list[Exception] = []
    pulling = threading.Thread(target=_pull, args=(image, failures), daemon=True)
    pulling.start()
    pulling.join(_PULL_SECONDS)
    if pulling.is_alive() or failures:
        raise NoContainers(f"the engine has no image {image} and cannot pull it")


def _pull(image: str, failures: list[Exception]) -> None:
    import docker

    try:
        client = docker.from_env(timeout=int(_PULL_SECONDS))
        client.images.pull(image)
        client.close()
    except Exception as error:
        failures.append(error)


class Listeners(Protocol):
    """Listeners beside the plain one."""

    ports: Sequence[int]

    def settings(self, *, plain: str, listen: str, host: str) -> Mapping[str, str]:
        """The broker's settings with them, given the plain one, the address to listen on and the host that clients know."""


def kafka_container(more: Listeners | None = None) -> Any:
    """A Kafka 4 broker, not started, with more listeners where given. The library's own class is made for other images, so
    this sets the broker up itself."""
    from testcontainers.core.container import DockerContainer

    class Kafka4(DockerContainer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(kafka.IMAGE)
            self.port = ports.any_free()
            settings = kafka.properties(
                port=self.port, controller_port=9093, directory="/var/lib/kafka/data", listen="0.0.0.0"
            )
            for name, value in settings.items():
                self.with_env(kafka.variable(name), value)
            self.with_env("CLUSTER_ID", kafka.cluster_id()).with_env("KAFKA_HEAP_OPTS", "-Xms64m -Xmx512m")
            self.with_bind_ports(self.port, self.port)
            for port in more.ports if more else ():
                self.with_bind_ports(port, port)

        def start(self) -> Any:
            host = self.get_docker_client().host()
            self.with_env("KAFKA_ADVERTISED_LISTENERS", f"PLAINTEXT://{host}:{self.port}")
            added = more.settings(plain=f"{host}:{self.port}", listen="0.0.0.0", host=host) if more else {}
            for name, value in added.items():
                self.with_env(kafka.variable(name), value)
            super().start()
            asyncio.run(self._ready(host))
            return self

        async def _ready(self, host: str) -> None:
            deadline = time.monotonic() + 60
            while not await _answers(host, self.port):
                if time.monotonic() > deadline:
                    raise NoContainers(f"the broker in the container does not answer:\n{self.get_logs()}")
                await asyncio.sleep(0.1)

        @property
        def address(self) -> str:
            return f"{self.get_docker_client().host()}:{self.port}"

    return Kafka4()


async def _answers(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(2):
            return await kafka.live_brokers(host, port) > 0
    except (OSError, TimeoutError, EOFError):
        return False


def postgres_container() -> Any:
    """A PostgreSQL 18, not started."""
    from testcontainers.community.postgres import PostgresContainer

    return PostgresContainer(POSTGRES_IMAGE, driver=None)
