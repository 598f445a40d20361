"""Where the tests find a broker and a database. Three rungs, the first that holds: an address in TEST_KAFKA or
TEST_POSTGRES, containers where a Docker engine answers, else real servers started on this machine by `deploy.local`."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from deploy.local import kafka_jars, ports, postgres
from deploy.local.kafka import IMAGE, LocalKafka
from deploy.local.postgres import LocalPostgres
from deploy.local.server import Server, launch
from deploy.settings import machine_environment
from tests import containers
from tests.eventually import soon

CHOSEN: dict[str, str] = {}
"""What was used for "broker" and "database", for the summary of the run."""


@contextmanager
def broker() -> Iterator[str]:
    """A broker's address, host:port."""
    given = os.environ.get("TEST_KAFKA")
    if given:
        CHOSEN["broker"] = f"{given} (TEST_KAFKA)"
        yield given
        return
    with _container("broker", IMAGE, containers.kafka_container) as container:
        if container is not None:
            yield container.address
            return
    with _private_directory() as directory:
        server = LocalKafka(
            directory / "kafka",
            directory / "kafka.log",
            kafka_jars.cache_directory(machine_environment(), directory / "cache"),
            ports.any_free(),
            ports.any_free(),
            machine_environment(),
        )
        with _running(server):
            yield server.address


@contextmanager
def database() -> Iterator[str]:
    """A PostgreSQL server's address, as a user who may create databases."""
    given = os.environ.get("TEST_POSTGRES")
    if given:
        CHOSEN["database"] = "the address in TEST_POSTGRES"
        yield given
        return
    with _container("database", containers.POSTGRES_IMAGE, containers.postgres_container) as container:
        if container is not None:
            yield _hurried(container.get_connection_url())
            return
    with _private_directory() as directory:
        server = LocalPostgres(
            directory / "postgres", directory / "postgres.log", ports.any_free(), "only-for-tests", machine_environment()
        )
        try:
            with _running(server):
                yield _hurried(server.url)
        finally:
            postgres.remove(server.directory)


def _hurried(url: str) -> str:
    """No test takes the power from this server (those that kill one start their own), and each one makes a database."""
    with psycopg.connect(url, autocommit=True) as connection:
        for name in ("fsync", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {name} = off")
        connection.execute("SELECT pg_reload_conf()")
        soon(lambda: connection.execute("SHOW fsync").fetchone() == ("off",), what="the server has read its settings")
    return url


@contextmanager
def _container(what: str, image: str, make: Callable[[], Any]) -> Iterator[Any]:
    """A started container, or None where this machine has to do without."""
    try:
        containers.require_images(image)
        container = make()
        container.start()
    except containers.NoContainers as error:
        CHOSEN[what] = f"started on this machine, because {error}"
        yield None
        return
    CHOSEN[what] = f"container of {image}"
    try:
        yield container
    finally:
        container.stop()


@contextmanager
def _private_directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="restante-test-"))
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _running(server: Server) -> Iterator[None]:
    with asyncio.Runner() as loop:
        child = loop.run(launch(server, within=60))
        try:
            yield
        finally:
            loop.run(child.stop(within=10))
