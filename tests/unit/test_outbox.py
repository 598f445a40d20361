"""Decisions are appended until the log has them all; and a standstill is noticed."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from processors import outbox
from processors.health import Health, Watch
from processors.outbox import append_until_held
from schemas.codec import Record
from tests.builders import attempted, pending, pushed, receipt

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Refusing:
    """A log that refuses, each time it is asked, the records at these places."""

    def __init__(self, *refusals: set[int]) -> None:
        self._refusals = list(refusals)
        self.asked: list[list[tuple[Record, int | None]]] = []

    async def append_all(
        self, records: Sequence[Record], *, partitions: Sequence[int | None] | None = None
    ) -> Sequence[Any]:
        assert partitions is not None
        self.asked.append(list(zip(records, partitions, strict=True)))
        refused = self._refusals.pop(0) if self._refusals else set()
        return [OSError("away") if at in refused else object() for at in range(len(records))]

    async def ends(self) -> Mapping[int, int]:
        return {}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "FIRST_PAUSE_SECONDS", 0.0)


async def test_what_was_refused_is_appended_again_and_nothing_else() -> None:
    one, two, three = pending(1), pending(2), pending(3)
    log, waits = Refusing({0, 2}, {1}), []
    await append_until_held(log, [one, two, three], [4, 5, 6], waiting=waits.append)
    assert log.asked == [[(one, 4), (two, 5), (three, 6)], [(one, 4), (three, 6)], [(three, 6)]]
    assert waits == [True, True, False]


async def test_a_great_many_leave_in_parts_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log refuses what is more than its memory as a whole, and would do so for ever."""
    monkeypatch.setattr(outbox, "MOST_AT_ONCE", 2)
    records = [pending(number) for number in range(5)]
    log = Refusing(set(), {1})
    await append_until_held(log, records, [0, None, 2, 3, 4], waiting=lambda _: None)
    parts = [[record for record, _ in part] for part in log.asked]
    assert parts == [records[:2], records[2:4], records[3:4], records[4:]]
    assert log.asked[0] == [(records[0], 0), (records[1], None)]


async def test_what_a_client_might_answer_leaves_once_the_log_has_the_facts() -> None:
    """An acknowledgement of the push would overtake the record of the attempt, and the trail would lack it."""
    log = Refusing({1})
    await append_until_held(log, [pushed(), attempted(1), attempted(2)], [1, 4, 5], waiting=lambda _: None)
    assert log.asked == [[(attempted(1), 4), (attempted(2), 5)], [(attempted(2), 5)], [(pushed(), 1)]]


async def test_a_receipt_neither_waits_nor_is_waited_for() -> None:
    log = Refusing({0}, {0}, set(), set(), {0})
    await append_until_held(log, [pushed(), attempted(1), receipt(1)], [1, 4, None], waiting=lambda _: None)
    fact, rest, push = [(attempted(1), 4)], [(receipt(1), None)], [(pushed(), 1)]
    assert log.asked == [fact, rest, fact, push, rest, rest]


async def test_nothing_to_append_asks_nobody() -> None:
    log = Refusing()
    await append_until_held(log, [], [], waiting=lambda _: None)
    assert log.asked == []


def test_ready_means_reading_and_writing() -> None:
    health = Health()
    assert (health.ready, len(health.reasons)) == (False, 1)
    health.reading = True
    assert (health.ready, health.reasons) == (True, [])
    health.log_refuses = True
    assert not health.ready
    assert "look at Kafka" in health.reasons[0]


def test_a_partition_that_waits_and_does_not_move_is_stalled() -> None:
    watch = Watch(patience=60)
    assert watch.stalled({0: 5, 1: 9}, {0: 8, 1: 9}, now=0) == []
    assert watch.stalled({0: 5, 1: 9}, {0: 8, 1: 9}, now=59) == []
    assert watch.stalled({0: 5, 1: 9}, {0: 8, 1: 9}, now=61) == [0]
    assert watch.stalled({0: 6, 1: 9}, {0: 8, 1: 9}, now=62) == []
    assert watch.stalled({1: 9}, {1: 12}, now=200) == []
    assert watch.stalled({0: 6, 1: 9}, {0: 8, 1: 12}, now=259) == []
    assert watch.stalled({0: 6, 1: 9}, {0: 8, 1: 12}, now=260) == [1]
    watch.forget()
    assert watch.stalled({0: 6, 1: 9}, {0: 8, 1: 12}, now=400) == []
