"""What these tests share: an edge of their own and two people on it, a town with sockets, or the stream's endpoint alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from argon2.profiles import CHEAPEST

from tests.contract.stream_rig import Rig, streaming
from tests.contract.town import Town, town_of
from tests.edge import Edge, Person, running


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.passwords.RFC_9106_LOW_MEMORY", CHEAPEST)


@pytest.fixture
async def edge(database_url: str) -> AsyncIterator[Edge]:
    async with running(database_url) as made:
        yield made


@pytest.fixture
async def alice(edge: Edge) -> Person:
    return await edge.person("alice")


@pytest.fixture
async def bob(edge: Edge) -> Person:
    return await edge.person("bob")


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with streaming() as made:
        yield made


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[Town]:
    async with town_of(database_url) as made:
        yield made
