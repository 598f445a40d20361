"""The processor's consumer, as far as it needs no broker."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from faust.transport.drivers.aiokafka import Consumer
from faust.types import TP

from processors import transport
from processors.transport import RunConsumer

CHANGELOG = TP("changelog", 0)


@pytest.mark.parametrize("wait", ["_rest", "_wait_for_room"])
def test_a_stop_that_comes_with_the_room_is_a_stop(wait: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "PACE_SECONDS", 0.0)

    async def scenario() -> None:
        consumer: Any = object.__new__(RunConsumer)
        consumer._room, consumer._ledger = asyncio.Event(), SimpleNamespace(idle=False)
        consumer.loop, consumer.app = asyncio.get_running_loop(), SimpleNamespace(rebalancing=False)
        consumer._fetched = consumer.loop.time()
        waiting = asyncio.create_task(getattr(consumer, wait)(*([60.0] if wait == "_wait_for_room" else [])))
        while not consumer._room._waiters:
            await asyncio.sleep(0)
        consumer._room.set()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(scenario())


def test_a_changelog_is_sought_after_the_fetch_under_way_and_not_fetched_before_the_flow_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A record that is fetched between a seek and the flow is dropped, and a table would wait for it for ever."""

    async def scenario() -> None:
        happened: list[str] = []
        answer = asyncio.Event()

        async def fetch(*_: object) -> dict[TP, list[object]]:
            happened.append("fetch")
            await answer.wait()
            happened.append("fetched")
            return {CHANGELOG: [object()]}

        async def seek(*_: object) -> None:
            happened.append("sought")

        monkeypatch.setattr(Consumer, "_getmany", fetch)
        monkeypatch.setattr(Consumer, "seek_wait", seek)
        consumer: Any = object.__new__(RunConsumer)
        consumer._room, consumer._fetching, consumer._lifecycle = asyncio.Event(), asyncio.Lock(), "lifecycle"
        consumer._ledger = SimpleNamespace(idle=True, has_room=True)
        consumer.loop, consumer.app = asyncio.get_running_loop(), SimpleNamespace(rebalancing=False)
        consumer._fetched, consumer.flow_active = 0.0, True
        under_way = asyncio.create_task(consumer._getmany({CHANGELOG}, 1.0))
        while not happened:
            await asyncio.sleep(0)
        consumer.flow_active = False
        seeking = asyncio.create_task(consumer.seek_wait({CHANGELOG: 0}))
        another = asyncio.create_task(consumer._getmany({CHANGELOG}, 1.0))
        for _ in range(10):
            await asyncio.sleep(0)
        assert happened == ["fetch"]
        answer.set()
        await asyncio.gather(under_way, seeking)
        assert await another == {}
        assert happened == ["fetch", "fetched", "sought"]

    asyncio.run(scenario())
