"""The room in a mailbox, against a model that knows the truth."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import room as rooms
from api.room import LARGEST, Room
from projections.reads import Held, Measured

QUOTA = 20
SHARE = 2
BYTES = 400_000
BYTES_SHARE = LARGEST


def size_of(sender: int) -> int:
    """All messages of a sender have one size; of the large ones a share holds one only."""
    return 20_000 * (1 + sender % 3)


def bytes_of(counts: Counter[int]) -> Counter[int]:
    return Counter({sender: count * size_of(sender) for sender, count in counts.items()})


class World:
    """A log, a mailbox that follows it, and messages on their way."""

    def __init__(self) -> None:
        self.room = Room(QUOTA, BYTES, lambda room: None)
        self.log: list[int] = []
        self.acknowledged: set[int] = set()
        self.flying: list[int] = []
        self.freed: list[int] = []
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
            held, small = self.held(applied), (self.room.messages.small, self.room.bytes.small)
            sizes = bytes_of(held)
            listed = [sender for sender in held if held[sender] > small[0] or sizes[sender] > small[1]]
            messages, size = (
                Measured(total=of.total(), others=others, by_sender={sender: of[sender] for sender in listed})
                for of, others in ((held, small[0]), (sizes, small[1]))
            )
            self.room.counted(Held(applied=applied, messages=messages, bytes=size))
            self.begun_at, self.freed = None, [self.log[at] for at in self.acknowledged if at >= applied]

    def acknowledge(self, at: int) -> None:
        if at < len(self.log) and at not in self.acknowledged:
            self.acknowledged.add(at)
            self.freed.append(self.log[at])

    def send(self, sender: int) -> None:
        if self.room.take(sender, size_of(sender)):
            self.flying.append(sender)

    def land(self, which: int, rejected: bool) -> None:
        if self.flying:
            sender = self.flying.pop(which % len(self.flying))
            if rejected:
                self.room.land(sender, size_of(sender), None, rejected=True)
            else:
                self.log.append(sender)
                self.room.land(sender, size_of(sender), len(self.log) - 1)


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
        assert world.room.messages.total == held.total() + on_the_way.total() + len(world.freed)
        assert all(count <= SHARE for count in (held + on_the_way).values())
        size = bytes_of(held + on_the_way)
        assert size.total() <= BYTES
        assert world.room.bytes.total == size.total() + bytes_of(Counter(world.freed)).total()
        assert all(each <= BYTES_SHARE for each in size.values())
    while world.flying:
        world.land(0, False)
    world.count(100)
    assert world.room.messages._flying == world.room.bytes._flying == {}


def count_of(room: Room, total: int, size: int = 0, *, small: bool = True, **by_sender: int) -> None:
    """A count: so many messages of so many bytes, senders as s7=3 by messages, b7=70_000 by bytes."""
    room.begin()
    messages = {int(name[1:]): count for name, count in by_sender.items() if name[0] == "s"}
    sizes = {int(name[1:]): count for name, count in by_sender.items() if name[0] == "b"}
    others = (room.messages.small, room.bytes.small) if small else (0, 0)
    room.counted(
        Held(
            applied=0,
            messages=Measured(total=total, others=others[0], by_sender=messages),
            bytes=Measured(total=size, others=others[1], by_sender=sizes),
        )
    )


def counted(quota: int, total: int, size: int = 0, **by_sender: int) -> Room:
    room = Room(quota, 10 * LARGEST, lambda room: None)
    count_of(room, total, size, **by_sender)
    return room


def code(room: Room, sender: int, size: int = 1) -> str | None:
    refusal = room.refusal(sender, size)
    return None if refusal is None else refusal.code


def test_nothing_is_taken_before_the_first_count() -> None:
    room = Room(QUOTA, BYTES, lambda room: None)
    assert not room.take(1, 1)
    room.begin()
    assert not room.take(1, 1)


@pytest.mark.parametrize(
    ("much", "more"), [((998, 0), (1_000, 0)), ((0, 999_998), (0, 1_000_000))], ids=["messages", "bytes"]
)
def test_an_old_count_is_taken_anew_only_where_there_is_much(
    monkeypatch: pytest.MonkeyPatch, much: tuple[int, int], more: tuple[int, int]
) -> None:
    asked: list[Room] = []
    now = [100.0]
    monkeypatch.setattr(rooms, "monotonic", lambda: now[0])
    room = Room(100_000, 100_000_000, asked.append)
    count_of(room, *much, small=False)
    now[0] += rooms.LOOK_SECONDS + 1
    assert room.take(1, 1)
    assert asked == []
    assert room.take(1, 1)
    assert asked == [room]
    count_of(room, *more, small=False)
    assert room.take(1, 1)
    assert asked == [room]


def test_an_unlisted_sender_is_taken_for_half_a_share() -> None:
    room = counted(1_000, 500, s7=99)
    assert room.take(7, 1)
    assert not room.take(7, 1)
    assert [room.take(8, 1) for _ in range(51)] == [True] * 50 + [False]
    room = counted(1_000, 2, LARGEST, b7=60_000)
    assert not room.take(7, 7_000)
    assert room.take(7, 6_000)
    assert [room.take(8, LARGEST // 2) for _ in range(3)] == [True, True, False]


def test_without_a_count_the_last_one_decides() -> None:
    room = counted(100, 50, s7=10, s8=9)
    assert room.take(8, 1)
    assert not room.take(8, 1)
    room.begin()
    room.failed()
    assert (code(room, 7), code(room, 8)) == ("sender_share_full", None)
    full = counted(100, 100)
    full.begin()
    full.failed()
    assert code(full, 8) == "mailbox_full"


def test_bytes_are_refused_as_messages_are() -> None:
    room = counted(100, 10, 10 * LARGEST - 1_000)
    assert (code(room, 8, 1_001), code(room, 8, 1_000)) == ("mailbox_full", None)
    room = counted(100, 10, 5 * LARGEST, b7=LARGEST - 10)
    assert (code(room, 7, 11), code(room, 7, 10), code(room, 8, 11)) == ("sender_share_full", None, None)
    room.begin()
    room.failed()
    assert (code(room, 7, 11), code(room, 8, 11)) == ("sender_share_full", None)
