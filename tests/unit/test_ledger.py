"""Offsets: an unfinished run holds everything after it, whatever comes or goes around it."""

from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from processors.ledger import Ledger, Refused, Run


@dataclass
class Fetched:
    offset: int
    value: bytes | None = b"12345"


def records(first: int, end: int) -> list[Fetched]:
    return [Fetched(offset) for offset in range(first, end)]


def run(ledger: Ledger, first: int, end: int, partition: int = 0) -> Run:
    made = ledger.offer(partition, records(first, end))
    assert isinstance(made, Run)
    return made


def reading_from(offset: int, **limits: int) -> Ledger:
    ledger = Ledger(**limits)
    ledger.restart(0, offset)
    return ledger


def test_nothing_is_committed_before_anything_is_finished() -> None:
    for offset in (0, 40):
        ledger = reading_from(offset)
        run(ledger, offset, offset + 5)
        assert ledger.committable(0) is None


def test_finished_runs_are_committed_in_their_order() -> None:
    ledger = reading_from(0)
    one, two, three = run(ledger, 0, 5), run(ledger, 5, 7), run(ledger, 7, 9)
    ledger.finish(one)
    assert ledger.committable(0) == 5
    ledger.finish(three)
    assert ledger.committable(0) == 5
    ledger.finish(two)
    assert ledger.committable(0) == 9


def test_a_single_held_run_holds_all_later_ones() -> None:
    for offset in (0, 1, 40):
        ledger = reading_from(offset)
        held = run(ledger, offset, offset + 1)
        for first in range(offset + 1, offset + 30):
            ledger.finish(run(ledger, first, first + 1))
        assert ledger.committable(0) is None
        ledger.finish(held)
        assert ledger.committable(0) == offset + 30


def test_what_comes_twice_is_handed_out_once() -> None:
    ledger = reading_from(3)
    run(ledger, 3, 6)
    assert ledger.offer(0, records(3, 6)) is Refused.SEEN
    again = run(ledger, 4, 9)
    assert (again.first, again.next, [r.offset for r in again.records]) == (6, 9, [6, 7, 8])


def test_a_gap_is_no_run() -> None:
    ledger = reading_from(3)
    assert ledger.offer(0, records(4, 6)) is Refused.GAP
    assert ledger.wanted(0) == 3


def test_a_partition_that_is_not_ours_gives_no_runs() -> None:
    assert reading_from(0).offer(1, records(0, 1)) is Refused.UNKNOWN


def test_after_a_restart_runs_from_before_count_for_nothing() -> None:
    ledger = reading_from(0)
    old = run(ledger, 0, 5)
    ledger.restart(0, 0)
    assert ledger.stale(old)
    ledger.finish(old)
    assert ledger.committable(0) is None
    new = run(ledger, 0, 5)
    assert not ledger.stale(new)


def test_a_run_that_never_came_is_noticed() -> None:
    ledger = reading_from(0)
    lost, next_ = run(ledger, 0, 5), run(ledger, 5, 9)
    assert not ledger.begin(next_)
    assert ledger.begin(lost)
    assert ledger.begin(next_)


def test_a_partition_is_untouched_until_a_run_of_it_is_taken_up() -> None:
    ledger = reading_from(4)
    assert ledger.untouched() == {0: 4}
    one = run(ledger, 4, 6)
    assert ledger.untouched() == {0: 4}
    ledger.begin(one)
    assert ledger.untouched() == {}
    ledger.restart(0, 4)
    assert ledger.untouched() == {0: 4}


def test_a_dropped_partition_is_forgotten() -> None:
    ledger = reading_from(0)
    left = run(ledger, 0, 5)
    ledger.drop([0, 1])
    assert ledger.stale(left)
    assert (ledger.committable(0), ledger.wanted(0), ledger.done(0), ledger.partitions) == (None, None, None, frozenset())


def test_memory_is_bounded_in_runs_and_in_bytes() -> None:
    ledger = reading_from(0, max_runs=2)
    one, two = run(ledger, 0, 1), run(ledger, 1, 2)
    assert not ledger.has_room
    ledger.finish(two)
    assert not ledger.has_room
    ledger.finish(one)
    assert ledger.has_room
    ledger = reading_from(0, max_bytes=10)
    run(ledger, 0, 2)
    assert not ledger.has_room
    ledger.restart(0, 0)
    assert ledger.has_room


@given(st.data())
def test_no_interleaving_commits_past_an_unfinished_record(data: Any) -> None:
    start = data.draw(st.integers(0, 5))
    ledger = reading_from(start)
    runs: list[Run] = []
    finished: set[int] = set()
    for step in data.draw(st.lists(st.sampled_from(["offer", "finish", "restart", "old"]), max_size=40)):
        match step:
            case "offer":
                first = ledger.wanted(0)
                assert first is not None
                runs.append(run(ledger, first, first + data.draw(st.integers(1, 4))))
            case "finish" if runs:
                done = data.draw(st.sampled_from(runs))
                ledger.finish(done)
                if not ledger.stale(done):
                    finished.update(range(done.first, done.next))
            case "restart":
                at = ledger.done(0)
                assert at is not None
                ledger.restart(0, at)
                finished = {offset for offset in finished if offset < at}
        end = ledger.committable(0)
        if end is not None:
            assert set(range(start, end)) <= finished
