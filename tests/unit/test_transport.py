"""The processor's consumer, as far as it needs no broker."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from processors import transport
from processors.transport import RunConsumer


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
