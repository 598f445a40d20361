"""The room in a mailbox, against a model that knows the truth."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import room as rooms
from api.room import Room
from projections.reads import Held

QUOTA = 20
SHARE = 2


class World:
    """A log, a mailbox that follows it, and messages on their way."""

    def __init__(self) -> None:
        self.room = Room(QUOTA, lambda room: None)
        self.log: list[int] = []
        self.acknowledged: set[int] = set()
        self.flying: list[int] = []
        self.freed = 0
        self.begun_at: int | None = None
        self.begin()
        self.count(0)

    def held(self, until: int | None = None) -> Counter[int]:
        return Counter(sender for at, sender in enumerate(self.log[:until]) if at not in self.acknowledged)

    def begin(self) -> None:
        if self.begun_at is None:
            self.room.begin()
            self.begun_at = len(self.log)

    def count(self, beyond: int) -> None:
        """The count is there: at least what the log held when it began, perhaps more."""
        if self.begun_at is not None:
            applied = min(len(self.log), self.begun_at + beyond)
            held, small = self.held(applied), self.room.share // 2
            listed = {sender: count for sender, count in held.items() if count > small}
            self.room.counted(Held(total=held.total(), applied=applied, others=small, by_sender=listed))
            self.begun_at, self.freed = None, sum(at >= applied for at in self.acknowledged)

    def acknowledge(self, at: int) -> None:
        if at < len(self.log) and at not in self.acknowledged:
            self.acknowledged.add(at)
            self.freed += 1

    def send(self, sender: int) -> None:
        if self.room.take(sender):
            self.flying.append(sender)

    def land(self, which: int, rejected: bool) -> None:
        if self.flying:
            sender = self.flying.pop(which % len(self.flying))
            if rejected:
                self.room.land(sender, None, rejected=True)
            else:
                self.log.append(sender)
                self.room.land(sender, len(self.log) - 1)


step = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 14)),
    st.tuples(st.just("send"), st.integers(0, 14)),
    st.tuples(st.just("land"), st.integers(0, 9), st.booleans()),
    st.tuples(st.just("acknowledge"), st.integers(0, 20)),
    st.tuples(st.just("begin")),
    st.tuples(st.just("count"), st.integers(0, 5)),
)


@given(st.lists(step, min_size=25, max_size=120))
def test_the_bound_is_the_truth_but_for_what_was_acknowledged_since_the_count(steps: list[tuple[str, int, bool]]) -> None:
    world = World()
    for what, *how in steps:
        getattr(world, what)(*how)
        held, on_the_way = world.held(), Counter(world.flying)
        assert held.total() + on_the_way.total() <= QUOTA
        assert world.room.total == held.total() + on_the_way.total() + world.freed
        assert all(count <= SHARE for count in (held + on_the_way).values())
    while world.flying:
        world.land(0, False)
    world.count(100)
    assert world.room.flying == {}


def counted(quota: int, total: int, **by_sender: int) -> Room:
    asked: list[Room] = []
    room = Room(quota, asked.append)
    room.begin()
    senders = {int(name[1:]): count for name, count in by_sender.items()}
    room.counted(Held(total=total, applied=0, others=room.share // 2, by_sender=senders))
    return room


def test_nothing_is_taken_before_the_first_count() -> None:
    room = Room(QUOTA, lambda room: None)
    assert not room.take(1)
    room.begin()
    assert not room.take(1)


def test_an_old_count_is_taken_anew_only_where_there_is_much(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Room] = []
    now = [100.0]
    monkeypatch.setattr(rooms, "monotonic", lambda: now[0])
    room = Room(100_000, asked.append)
    room.begin()
    room.counted(Held(total=998, applied=0, by_sender={}))
    now[0] += rooms.LOOK_SECONDS + 1
    assert room.take(1)
    assert asked == []
    assert room.take(1)
    assert asked == [room]
    room.begin()
    room.counted(Held(total=1_000, applied=0, by_sender={}))
    assert room.take(1)
    assert asked == [room]


def test_an_unlisted_sender_is_taken_for_half_a_share() -> None:
    room = counted(1_000, 500, s7=99)
    assert room.take(7)
    assert not room.take(7)
    assert [room.take(8) for _ in range(51)] == [True] * 50 + [False]


def test_without_a_count_the_last_one_decides() -> None:
    room = counted(100, 50, s7=10, s8=9)
    assert room.take(8)
    assert not room.take(8)
    room.begin()
    room.failed()
    refusal = room.refusal(7)
    assert refusal is not None and refusal.code == "sender_share_full"
    assert room.refusal(8) is None
    full = counted(100, 100)
    full.begin()
    full.failed()
    refusal = full.refusal(8)
    assert refusal is not None and refusal.code == "mailbox_full"
