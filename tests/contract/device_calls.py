"""Calls about devices and tokens, and what tests of them look at."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from tests.edge import Edge, Person


def facts(edge: Edge, kind: type[Any]) -> list[Any]:
    found = [recorded.fact for partition in range(edge.log.partitions) for recorded in edge.log.records(partition)]
    return [fact for fact in found if isinstance(fact, kind)]


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def delete(person: Person, path: str) -> httpx2.Response:
    return await person.edge.client.delete(path, headers=person.bearer)


async def remove(person: Person, which: Person) -> httpx2.Response:
    return await delete(person, f"/devices/{which.tokens['device_id']}")


async def refresh(person: Person) -> httpx2.Response:
    return await person.edge.client.post("/tokens/refresh", json={"refresh_token": person.tokens["refresh_token"]})


async def devices(person: Person) -> dict[str, dict[str, Any]]:
    answer = await person.get("/devices")
    assert answer.status_code == 200, answer.text
    return {device["label"]: device for device in answer.json()["devices"]}


async def ids_in(person: Person) -> list[str]:
    return [message["id"] for message in (await person.sync())["messages"]]


async def waits_for_a_lock(edge: Edge) -> bool:
    waiting = b"SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return await edge.database.tuples(waiting) != [(0,)]


class Held:
    """A function of the accounts that stops in the middle until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, where: str, real: Any) -> None:
        self.reached, self.let_go = asyncio.Event(), asyncio.Event()
        self._real = real
        monkeypatch.setattr(where, self)

    async def __call__(self, *given: Any) -> Any:
        self.reached.set()
        await self.let_go.wait()
        return await self._real(*given)
