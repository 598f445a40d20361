"""One partition's queue: what waits can be withdrawn, what was handed over can not, and the order stays."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from producers.lanes import Batch, Lane, Part
from producers.log import Appended, LogUnavailable
from schemas.codec import Encoded, Headers


class Room:
    """A batch builder with room for so many records."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken: list[bytes | None] = []

    def append(self, *, timestamp: int | None, key: bytes | None, value: bytes | None, headers: Headers) -> object:
        if len(self.taken) == self.room:
            return None
        self.taken.append(value)
        return object()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def lane() -> Lane:
    return Lane(("topic", 3))


def _wait(lane: Lane, loop: asyncio.AbstractEventLoop, *values: bytes, deadline: float = 5.0) -> Part:
    records = [Encoded(b"key", value, []) for value in values]
    part = Part(records, len(records), deadline, loop.create_future())
    lane.waiting.append(part)
    return part


def _fill(lane: Lane, room: int, now: float = 0.0) -> tuple[list[bytes | None], Batch | None]:
    builder = Room(room)
    return builder.taken, lane.fill(builder, now, 0)


def _answer(lane: Lane, base_offset: int) -> None:
    assert lane.batch
    lane.batch.answered(base_offset, 77)
    lane.batch = None


def _outcomes(part: Part) -> list[object]:
    return [one.outcome if isinstance(one, LogUnavailable) else one.offset for one in part.future.result()]


def test_what_waits_leaves_in_order_and_each_gets_its_own_place(lane: Lane, loop: asyncio.AbstractEventLoop) -> None:
    first, second = _wait(lane, loop, b"a"), _wait(lane, loop, b"b", b"c")
    taken, _ = _fill(lane, 10)
    assert taken == [b"a", b"b", b"c"]
    _answer(lane, 40)
    assert first.future.result() == [Appended("topic", 3, 40, 77)]
    assert second.future.result() == [Appended("topic", 3, 41, 77), Appended("topic", 3, 42, 77)]


def test_a_part_larger_than_a_batch_goes_on_in_the_next(lane: Lane, loop: asyncio.AbstractEventLoop) -> None:
    part = _wait(lane, loop, b"a", b"b", b"c")
    behind = _wait(lane, loop, b"d")
    assert _fill(lane, 2)[0] == [b"a", b"b"]
    assert not lane.ready
    _answer(lane, 10)
    assert not part.future.done()
    assert lane.ready
    assert _fill(lane, 2)[0] == [b"c", b"d"]
    _answer(lane, 90)
    assert (_outcomes(part), _outcomes(behind)) == ([10, 11, 90], [91])


def test_a_full_batch_leaves_the_next_part_whole(lane: Lane, loop: asyncio.AbstractEventLoop) -> None:
    _wait(lane, loop, b"a")
    part = _wait(lane, loop, b"b")
    assert _fill(lane, 1)[0] == [b"a"]
    assert (part.handed, list(lane.waiting)) == (0, [part])


def test_what_its_caller_gave_up_never_leaves(lane: Lane, loop: asyncio.AbstractEventLoop) -> None:
    _wait(lane, loop, b"a").future.cancel()
    _wait(lane, loop, b"b")
    assert _fill(lane, 10)[0] == [b"b"]


def test_a_lane_with_nothing_left_to_send_stays_free(lane: Lane, loop: asyncio.AbstractEventLoop) -> None:
    _wait(lane, loop, b"a").future.cancel()
    assert _fill(lane, 10) == ([], None)
    assert lane.batch is None


def test_overdue_and_not_handed_over_is_rejected_and_withdrawn(lane: Lane, loop: asyncio.AbstractEventLoop) -> None:
    overdue, young = _wait(lane, loop, b"a", deadline=5), _wait(lane, loop, b"b", deadline=6)
    lane.expire(5.0, "late")
    assert _outcomes(overdue) == ["rejected"]
    assert not young.future.done()
    assert _fill(lane, 10)[0] == [b"b"]


def test_overdue_and_handed_over_is_unknown_and_a_late_answer_changes_nothing(
    lane: Lane, loop: asyncio.AbstractEventLoop
) -> None:
    overdue, young = _wait(lane, loop, b"a", deadline=5), _wait(lane, loop, b"b", deadline=6)
    _fill(lane, 10)
    lane.expire(5.0, "late")
    assert _outcomes(overdue) == ["unknown"]
    assert not young.future.done()
    _answer(lane, 3)
    assert (_outcomes(overdue), _outcomes(young)) == (["unknown"], [4])


def test_a_part_half_handed_over_says_so_record_by_record(lane: Lane, loop: asyncio.AbstractEventLoop) -> None:
    part = _wait(lane, loop, b"a", b"b", b"c", b"d")
    _fill(lane, 1)
    _answer(lane, 8)
    _fill(lane, 2)
    lane.expire(5.0, "late")
    assert _outcomes(part) == [8, "unknown", "unknown", "rejected"]
    assert not lane.waiting


def test_a_batch_that_fails_answers_only_its_own_records(lane: Lane, loop: asyncio.AbstractEventLoop) -> None:
    part, behind = _wait(lane, loop, b"a"), _wait(lane, loop, b"b")
    _fill(lane, 1)
    lane.forget("the producer is gone")
    assert _outcomes(part) == ["unknown"]
    assert not behind.future.done()
    assert lane.ready


def test_a_lane_knows_how_long_it_has_gone_unanswered(lane: Lane, loop: asyncio.AbstractEventLoop) -> None:
    assert lane.stuck_for(9.0) == 0
    _wait(lane, loop, b"a")
    _fill(lane, 1, now=2.0)
    assert lane.stuck_for(9.0) == 7.0
