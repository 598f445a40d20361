"""Waiting for the processors: one question for all who wait, none while nobody does, and what was seen stays true."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from api.processed import Processed
from producers.log import LogUnavailable
from projections.errors import ProjectionBehind
from tests.eventually import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.processed.POLL_SECONDS", 0.0)


class Group:
    """The processors' offsets, as far as the test lets them come."""

    def __init__(self) -> None:
        self.offsets: dict[int, int] = {}
        self.away = False
        self.asked = 0
        self.under_way = 0
        self.most_at_once = 0

    async def committed(self) -> Mapping[int, int]:
        self.asked += 1
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        if self.away:
            raise LogUnavailable("rejected", "away")
        return dict(self.offsets)


async def test_waits_until_every_partition_is_decided() -> None:
    group = Group()
    async with Processed(group.committed) as processed:
        waiting = asyncio.create_task(processed.reached({0: 2, 1: 1}, 10))
        for offsets in ({0: 2}, {0: 2, 1: 0}):
            group.offsets = offsets
            asked = group.asked
            await eventually(lambda asked=asked: group.asked > asked + 2)  # type: ignore[misc]
            assert not waiting.done()
        group.offsets = {0: 3, 1: 1}
        await waiting


async def test_partitions_without_records_need_no_processor() -> None:
    group = Group()
    async with Processed(group.committed) as processed:
        await processed.reached({0: 0, 1: 0}, 0)
    assert group.asked == 0


async def test_who_wait_at_once_share_the_questions() -> None:
    group = Group()
    async with Processed(group.committed) as processed:
        waiting = asyncio.gather(*(processed.reached({0: end}, 10) for end in range(1, 500)))
        await eventually(lambda: group.asked > 2)
        group.offsets = {0: 500}
        await waiting
    assert group.most_at_once == 1


async def test_nobody_asks_once_nobody_waits_and_what_was_seen_stays_true() -> None:
    group = Group()
    group.offsets = {0: 5}
    async with Processed(group.committed) as processed:
        await processed.reached({0: 5}, 10)
        await asyncio.sleep(0)
        asked, group.offsets = group.asked, {0: 1}
        for _ in range(100):
            await asyncio.sleep(0)
        await processed.reached({0: 4}, 10)
        assert group.asked == asked == 1
        with pytest.raises(ProjectionBehind):
            await processed.reached({0: 6}, 0.05)
        await processed.reached({0: 5}, 0)


async def test_a_log_that_does_not_answer_is_another_thing_than_a_slow_processor() -> None:
    group = Group()
    group.away = True
    async with Processed(group.committed) as processed:
        with pytest.raises(LogUnavailable):
            await processed.reached({0: 1}, 0.05)
        waiting = asyncio.create_task(processed.reached({0: 1}, 10))
        group.away, group.offsets = False, {0: 1}
        await waiting
        with pytest.raises(ProjectionBehind):
            await processed.reached({0: 2}, 0.05)


async def test_a_question_that_never_ends_holds_nobody_beyond_his_time() -> None:
    never = asyncio.Event()

    async def silent() -> Mapping[int, int]:
        await never.wait()
        return {}

    async with Processed(silent) as processed:
        with pytest.raises(ProjectionBehind):
            await processed.reached({0: 1}, 0.05)
