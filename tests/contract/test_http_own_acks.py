"""What a process answers from its own acknowledgements, without waiting for the projection; and where it must wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from producers.memory import MemoryLog
from projections.errors import DatabaseUnavailable
from projections.reads import Reads
from tests.edge import Edge, Person, running
from tests.eventually import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
async def edge(database_url: str) -> AsyncIterator[Edge]:
    """All accounts in one partition."""
    async with MemoryLog(1) as log, running(database_url, log=log) as made:
        made.fold.start()
        yield made


@pytest.fixture
async def carol(edge: Edge) -> Person:
    return await edge.person("carol")


async def shown(person: Person) -> list[str]:
    return [message["id"] for message in (await person.sync())["messages"]]


async def stopped(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.freshness.PATIENCE_SECONDS", 0.05)
    await edge.fold.stop()


async def test_an_ack_of_what_was_just_shown_needs_no_projection(
    edge: Edge, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    await alice.send(bob, "x")
    await alice.send(bob, "y")
    ids = await shown(bob)
    await stopped(edge, monkeypatch)
    answer = await bob.post("/messages/ack", {"ids": ids[::-1]})
    assert answer.json() == {"acknowledged": ids[::-1], "already": [], "unknown": []}
    for again in (await bob.post("/messages/ack", {"ids": ids}), await bob.get("/messages/sync")):
        assert (again.status_code, again.json()["code"]) == (503, "projection_behind")
    monkeypatch.undo()
    edge.fold.start()
    assert (await bob.post("/messages/ack", {"ids": ids})).json() == {"acknowledged": [], "already": ids, "unknown": []}
    assert await shown(bob) == []


async def test_what_others_acknowledge_here_delays_nobody(
    edge: Edge, alice: Person, bob: Person, carol: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    await alice.send(bob, "x")
    await alice.send(carol, "y")
    bobs, carols = await shown(bob), await shown(carol)
    await stopped(edge, monkeypatch)
    assert (await bob.post("/messages/ack", {"ids": bobs})).status_code == 200
    assert await shown(carol) == carols
    assert (await carol.post("/messages/ack", {"ids": carols})).json()["acknowledged"] == carols
    assert (await bob.get("/messages/sync")).status_code == 503


async def test_anything_else_that_came_since_is_waited_for(
    edge: Edge, alice: Person, bob: Person, carol: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    await alice.send(bob, "x")
    bobs = await shown(bob)
    await stopped(edge, monkeypatch)
    await alice.send(carol, "y")
    for answer in (await bob.post("/messages/ack", {"ids": bobs}), await bob.get("/messages/sync")):
        assert (answer.status_code, answer.json()["code"]) == (503, "projection_behind")


async def test_what_another_process_acknowledged_is_seen(edge: Edge, alice: Person, bob: Person, database_url: str) -> None:
    async with running(database_url, log=edge.log) as other:
        await alice.send(bob, "x")
        ids = await shown(bob)
        there = Person(other, "bob", bob.tokens)
        assert (await there.post("/messages/ack", {"ids": ids})).json()["acknowledged"] == ids
        assert (await bob.post("/messages/ack", {"ids": ids})).json()["already"] == ids


async def test_each_device_acknowledges_for_itself(edge: Edge, alice: Person, bob: Person) -> None:
    tablet = await edge.person("bob", "tablet")
    await alice.send(bob, "x")
    ids = await shown(bob)
    assert await shown(tablet) == ids
    for device in (bob, tablet):
        assert (await device.post("/messages/ack", {"ids": ids})).json()["acknowledged"] == ids
        assert (await device.post("/messages/ack", {"ids": ids})).json()["already"] == ids


async def test_while_postgresql_is_away_an_ack_says_so(
    edge: Edge, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    await alice.send(bob, "x")
    ids = await shown(bob)
    progress = edge.service.parts.progress
    await progress.__aexit__(None, None, None)
    await eventually(lambda: not progress.connected)

    async def away(*_: Any, **__: Any) -> Any:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(Reads, "outstanding", away)
    answer = await bob.post("/messages/ack", {"ids": ids})
    assert (answer.status_code, answer.json()["code"]) == (503, "projection_behind")
