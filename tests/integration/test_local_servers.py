"""The servers that `up` starts: they come up, answer, survive a kill, and are not fooled by what it leaves behind."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from deploy.errors import DeployError
from deploy.local import kafka_jars, ports, postgres, unprivileged
from deploy.local.kafka import LocalKafka
from deploy.local.postgres import LocalPostgres
from deploy.local.server import launch
from deploy.settings import machine_environment
from producers.connection import KafkaConnection
from producers.topics import create_topics, verify_topics
from tests.eventually import eventually

WITHIN = 90.0


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that PostgreSQL's user reaches, too, where the tests run as root."""
    with tempfile.TemporaryDirectory(prefix="restante-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)
        postgres.remove(Path(name) / "postgres")


def a_postgres(directory: Path) -> LocalPostgres:
    log = directory / "postgres.log"
    return LocalPostgres(directory / "postgres", log, ports.any_free(), "a-password", machine_environment())


def a_kafka(directory: Path) -> LocalKafka:
    environment = machine_environment()
    cache = kafka_jars.cache_directory(environment, directory / "cache")
    return LocalKafka(directory / "kafka", directory / "kafka.log", cache, ports.any_free(), ports.any_free(), environment)


def test_postgres_keeps_what_it_committed_over_a_kill(directory: Path) -> None:
    async def scenario() -> None:
        first = a_postgres(directory)
        child = await launch(first, WITHIN)
        with psycopg.connect(first.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        child.kill()
        await child.wait()
        again = a_postgres(directory)
        child = await launch(again, WITHIN)
        with psycopg.connect(again.url) as connection:
            assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
            assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
        await child.stop(within=10)
        assert child.returncode == 0

    asyncio.run(scenario())


def test_a_backend_that_outlives_its_server_does_not_stop_the_next_one(directory: Path) -> None:
    """A kill of the server alone: a backend that computes does not notice, and holds the cluster."""

    async def scenario() -> None:
        server = a_postgres(directory)
        child = await launch(server, WITHIN)
        async with await psycopg.AsyncConnection.connect(server.url) as busy:
            computing = asyncio.create_task(busy.execute("SELECT count(*) FROM generate_series(1, 10000000000)"))
            async with await psycopg.AsyncConnection.connect(server.url, autocommit=True) as other:
                looked = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT count(*) FROM generate%'"
                await eventually(lambda: _found(other, looked))
            child.kill()
            await child.wait()
            child = await launch(a_postgres(directory), WITHIN)
            with pytest.raises(psycopg.OperationalError):
                await computing
        await child.stop(within=10)

    asyncio.run(scenario())


async def _found(connection: psycopg.AsyncConnection[Any], query: str) -> bool:
    row = await (await connection.execute(query)).fetchone()
    return row is not None and row[0] > 0


def test_postgres_wants_the_password(directory: Path) -> None:
    async def scenario() -> None:
        server = a_postgres(directory)
        child = await launch(server, WITHIN)
        try:
            wrong = urlsplit(server.url)._replace(netloc=f"restante:guess@127.0.0.1:{server.port}").geturl()
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(wrong)
        finally:
            await child.stop(within=10)

    asyncio.run(scenario())


@pytest.fixture
def neighbour(directory: Path) -> Iterator[int]:
    """Another program of PostgreSQL's user: the kind of process that it cannot tell from a server by its number."""
    who = unprivileged.identity(directory / "postgres")
    as_whom = {"user": who.uid, "group": who.gid} if who else {}
    with subprocess.Popen(["sleep", "600"], cwd="/", **as_whom) as process:
        yield process.pid
        process.kill()


def test_postgres_is_not_stopped_by_a_pid_file_that_names_another_program(directory: Path, neighbour: int) -> None:
    async def scenario() -> None:
        server = a_postgres(directory)
        child = await launch(server, WITHIN)
        await child.stop(within=10)
        cluster = server.directory.resolve()
        stale = cluster / "postmaster.pid"
        stale.write_text(f"{neighbour}\n{cluster}\n1\n1\n\n127.0.0.1\n")
        child = await launch(a_postgres(directory), WITHIN)
        await child.stop(within=10)

    asyncio.run(scenario())


def test_kafka_keeps_its_topics_over_a_kill(directory: Path) -> None:
    async def scenario() -> None:
        first = a_kafka(directory)
        child = await launch(first, WITHIN)
        created = await create_topics(KafkaConnection(bootstrap=first.address), partitions=2)
        assert "restante.lifecycle" in created
        child.kill()
        await child.wait()
        again = a_kafka(directory)
        child = await launch(again, WITHIN)
        assert await create_topics(KafkaConnection(bootstrap=again.address), partitions=2) == []
        assert await verify_topics(KafkaConnection(bootstrap=again.address), partitions=2) == []
        await child.stop(within=10)

    asyncio.run(scenario())


def test_kafka_on_a_machine_with_nothing_to_run_it_says_what_to_install(directory: Path) -> None:
    bare = LocalKafka(directory / "kafka", directory / "log", directory, 1, 2, {"PATH": str(directory)})
    with pytest.raises(DeployError, match=r"Java 17 .*RESTANTE_KAFKA"):
        asyncio.run(bare.prepare())


def test_a_database_is_a_tests_own(database_url: str, empty_database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM accounts.accounts").fetchone() == (0,)
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT to_regclass('accounts.accounts')").fetchone() == (None,)
    assert database_url != empty_database_url
