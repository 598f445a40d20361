"""From mailbox to live messages without a gap: people who connect again and again while others write to them."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.acceptance.answers import good
from tests.acceptance.listeners import Listener, assert_faithful
from tests.acceptance.people import Device, ids, phone_of
from tests.acceptance.service import Service
from tests.eventually import eventually

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

BACKLOGS = [0, 1, 99, 100, 101] * 3 + [1000]
CONNECTING_PEOPLE = 13
"""13 people who connect 16 times each: 208 connections, 13 of them to 1,000 messages."""
LIVE = 8


async def _rounds(http: httpx2.AsyncClient, alice: Device, bob: Device, backlogs: list[int], dice: random.Random) -> int:
    """Connect as often as there are backlogs, each time in the middle of a stream; the number of messages."""
    listener, total = Listener(bob), 0
    bearer = {"Authorization": f"Bearer {alice.token}"}

    async def post(path: str, content: Any) -> Any:
        return good(await http.post(path, json=content, headers=bearer), 202)

    for number, backlog in enumerate(backlogs):
        sent: list[str] = []
        for start in range(0, backlog, 500):
            letters = [{"to": bob.name, "body": f"{number}/{one}"} for one in range(start, min(backlog, start + 500))]
            sent += [result["id"] for result in (await post("/messages/batch", {"messages": letters}))["results"]]
        connect_after, connected = dice.randrange(LIVE + 1), None
        for one in range(LIVE + 1):
            if one == connect_after:
                connected = asyncio.create_task(listener.run())
            if one < LIVE:
                answer = await post("/messages", {"to": bob.name, "body": f"{number}/live {one}"})
                sent.append(answer["id"])
        assert connected is not None
        await eventually(lambda sent=sent: listener.confirmed.issuperset(sent), 60.0, f"round {number} of {bob.name}")
        connected.cancel()
        await asyncio.wait([connected])
        visit = listener.visits[-1]
        assert len(listener.visits) == number + 1, listener.visits
        assert ids(visit.came) == sent, "every message once, in order"
        assert len(visit.caught_up) == 1, visit.caught_up
        assert visit.caught_up[0] >= backlog
        total += len(sent)
    assert_faithful(listener)
    assert listener.errors == []
    return total


def test_connecting_in_the_middle_of_a_stream(quick: Service) -> None:
    alice = phone_of(quick, "alice")
    with ThreadPoolExecutor(4) as pool:
        people = list(pool.map(lambda _: phone_of(quick, "bob"), range(CONNECTING_PEOPLE)))

    async def all_at_once() -> list[int]:
        async with httpx2.AsyncClient(base_url=quick.url, timeout=30, trust_env=False) as http, asyncio.TaskGroup() as group:
            tasks = []
            for number, bob in enumerate(people):
                dice = random.Random(number)
                backlogs = dice.sample(BACKLOGS, len(BACKLOGS))
                tasks.append(group.create_task(_rounds(http, alice, bob, backlogs, dice)))
        return [task.result() for task in tasks]

    assert sum(asyncio.run(all_at_once())) == CONNECTING_PEOPLE * (sum(BACKLOGS) + LIVE * len(BACKLOGS))
    assert all(bob.page(limit=1)["messages"] == [] for bob in people)
