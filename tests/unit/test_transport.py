"""The processor's consumer, as far as it needs no broker."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from faust.transport.drivers.aiokafka import Consumer
from faust.transport.utils import DefaultSchedulingStrategy
from faust.types import TP

from processors.ledger import Ledger
from processors.transport import RunConsumer

CHANGELOG = TP("changelog", 0)


def test_a_stop_that_comes_with_the_room_is_a_stop() -> None:
    async def scenario() -> None:
        consumer: Any = object.__new__(RunConsumer)
        consumer._room, consumer.app = asyncio.Event(), SimpleNamespace(rebalancing=False)
        waiting = asyncio.create_task(consumer._wait_for_room(60.0))
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
        consumer._ledger = SimpleNamespace(has_room=True)
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


LIFECYCLE = "lifecycle"


def records(partition: int, *offsets: int) -> list[SimpleNamespace]:
    """As aiokafka gives them."""
    return [
        SimpleNamespace(
            topic=LIFECYCLE,
            partition=partition,
            offset=offset,
            timestamp=0,
            timestamp_type=1,
            headers=(),
            key=b"k",
            value=b"v",
            checksum=None,
            serialized_key_size=1,
            serialized_value_size=1,
        )
        for offset in offsets
    ]


def a_consumer(monkeypatch: pytest.MonkeyPatch, fetched: dict[TP, list[Any]], *partitions: int) -> Any:
    """One that reads these partitions from offset 5 on, and whose broker has this and nothing else."""
    fetches = [fetched]

    async def fetch(*_: object) -> dict[TP, list[Any]]:
        return fetches.pop()

    monkeypatch.setattr(Consumer, "_getmany", fetch)
    consumer: Any = object.__new__(RunConsumer)
    consumer._room, consumer._fetching, consumer._lifecycle = asyncio.Event(), asyncio.Lock(), LIFECYCLE
    consumer.loop, consumer._fetched, consumer.flow_active = asyncio.get_running_loop(), 0.0, True
    consumer.app = SimpleNamespace(
        rebalancing=False, monitor=SimpleNamespace(track_tp_end_offset=lambda *_: None), consumer_generation_id=1
    )
    consumer._ledger, consumer._gaps, consumer._read_offset = Ledger(), {}, defaultdict(lambda: None)
    for partition in partitions:
        consumer._ledger.restart(partition, 5)
    consumer.sought = {}

    async def seek(wanted: dict[TP, int]) -> None:
        consumer.sought |= wanted

    async def next_records(timeout: float) -> tuple[dict[TP, list[Any]], set[TP]]:
        return await consumer._getmany(set(fetched), timeout), set(fetched)

    consumer.seek_wait, consumer._wait_next_records, consumer.highwater = seek, next_records, lambda _: 9
    consumer.scheduler, consumer._stopped, consumer._crashed = DefaultSchedulingStrategy(), asyncio.Event(), asyncio.Event()
    return consumer


async def taken(consumer: Any) -> list[tuple[TP, Any]]:
    return [(tp, message) async for tp, message in consumer.getmany(1.0)]


def test_a_fetch_is_one_event_with_a_run_of_each_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        fetched = {TP(LIFECYCLE, 2): records(2, 5, 6), TP(LIFECYCLE, 0): records(0, 4, 5), CHANGELOG: records(0, 7)}
        consumer = a_consumer(monkeypatch, fetched, 0, 2)
        found = dict(await taken(consumer))
        assert found.keys() == {TP(LIFECYCLE, 0), CHANGELOG}
        runs = found[TP(LIFECYCLE, 0)].value.runs
        assert sorted((run.partition, run.first, run.next) for run in runs) == [(0, 5, 6), (2, 5, 7)]
        assert (found[CHANGELOG].offset, found[CHANGELOG].value) == (7, b"v")
        assert consumer.sought == {}

    asyncio.run(scenario())


def test_a_gap_is_fetched_again_and_holds_up_no_other_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        fetched = {TP(LIFECYCLE, 0): records(0, 6), TP(LIFECYCLE, 1): records(1, 5), TP(LIFECYCLE, 3): records(3, 5)}
        consumer = a_consumer(monkeypatch, fetched, 0, 1)
        [(_, message)] = await taken(consumer)
        assert [run.partition for run in message.value.runs] == [1]
        assert consumer.sought == {TP(LIFECYCLE, 0): 5}

    asyncio.run(scenario())


def test_nothing_new_is_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        consumer = a_consumer(monkeypatch, {TP(LIFECYCLE, 0): records(0, 3, 4)}, 0)
        assert await taken(consumer) == []

    asyncio.run(scenario())


def test_faust_never_takes_a_fetch_for_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """It drops what begins before the last event of the same partition, with the runs of all others."""

    async def scenario() -> None:
        consumer = a_consumer(monkeypatch, {TP(LIFECYCLE, 0): records(0, 4, 5)}, 0)
        consumer._read_offset[TP(LIFECYCLE, 0)] = 5
        [(_, message)] = await taken(consumer)
        assert message.offset == 5

    asyncio.run(scenario())
