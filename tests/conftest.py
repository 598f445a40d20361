"""Fixtures that every test may ask for. Servers start when the first test asks, once a run."""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from aiokafka.conn import AIOKafkaConnection
from psycopg import sql

from tests import rungs

LEFT_OUT = pytest.StashKey[int]()


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> None:
    """What is set in the shell of whoever runs the tests must not change them."""
    for name in [name for name in os.environ if name.startswith("RESTANTE_")]:
        del os.environ[name]


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A command that a test runs in this process sets up logs for itself; its stream is closed after the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level


@pytest.fixture(autouse=True, scope="session")
def _connections_name_their_test() -> Iterator[None]:
    """The garbage collector finds a connection that was left open during any later test; its name tells whose it was."""
    with pytest.MonkeyPatch.context() as patch:
        connect, plain = AIOKafkaConnection.connect, AIOKafkaConnection.__repr__

        async def noted(connection: AIOKafkaConnection) -> Any:
            connection.opened_in = os.environ.get("PYTEST_CURRENT_TEST")
            return await connect(connection)

        patch.setattr(AIOKafkaConnection, "connect", noted)
        patch.setattr(AIOKafkaConnection, "__repr__", lambda it: f"{plain(it)} of {getattr(it, 'opened_in', None)}")
        yield


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """Address of a real broker, shared by all tests: take names of your own (`topic_prefix`)."""
    with rungs.broker() as address:
        yield address


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for the topics and groups of one test."""
    return f"t{uuid.uuid4().hex[:10]}-"


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Address of a real PostgreSQL server, as a user who may create databases. Tests want `database_url`."""
    with rungs.database() as url:
        yield url


@pytest.fixture(scope="session")
def _migrated_template(postgres: str) -> Iterator[str]:
    from projections.migrate import migrate

    with _database(postgres) as url:
        asyncio.run(migrate(url))
        yield url


@pytest.fixture
def database_url(postgres: str, _migrated_template: str) -> Iterator[str]:
    """A migrated, empty database of one test's own."""
    with _database(postgres, template=urlsplit(_migrated_template).path[1:]) as url:
        yield url


@pytest.fixture
def empty_database_url(postgres: str) -> Iterator[str]:
    """A database of one test's own, without any tables."""
    with _database(postgres) as url:
        yield url


class _database:
    """Makes a database on entry and drops it on exit, whoever is still connected."""

    def __init__(self, server: str, template: str = "template0") -> None:
        self._server = server
        self._template = template
        self._name = f"test_{uuid.uuid4().hex}"

    def __enter__(self) -> str:
        self._do(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(self._name), sql.Identifier(self._template))
        )
        return urlsplit(self._server)._replace(path=f"/{self._name}").geturl()

    def __exit__(self, *_: object) -> None:
        self._do(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(self._name)))

    def _do(self, statement: sql.Composed) -> None:
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(statement)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without TEST_LONG the long ones are left out, and the run says how many."""
    if os.environ.get("TEST_LONG"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.stash[LEFT_OUT] = len(long)
    items[:] = [item for item in items if item not in long]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One of several that run tests side by side tells the one that reports which servers it took."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["rungs"] = dict(rungs.CHOSEN)
        session.config.workeroutput["left_out"] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What it has told."""
    said = getattr(node, "workeroutput", {})
    rungs.CHOSEN.update(said.get("rungs", {}))
    node.config.stash[LEFT_OUT] = said.get("left_out", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if left_out := terminalreporter.config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(f"{left_out} long tests were left out; TEST_LONG=1 runs them, too")
    for what, which in sorted(rungs.CHOSEN.items()):
        terminalreporter.write_line(f"{what}: {which}")
