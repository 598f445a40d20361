"""Recorded facts before another policy."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from processors.decisions import POLICY, Outgoing
from processors.other_policies import POLICIES, Comparison, Outcome, Policy, never_push
from processors.presence import Here
from schemas.events import Recorded
from tests.histories import World, history, understood

CLEAN = [0, 1, 2, 4, 7, 8, 9, 12, 13]
"""Steps of a processor that never stops: only then does it know all that the log says."""


def compared(world: World, policy: Policy, since: int = 0) -> Comparison:
    comparison = Comparison(policy, since)
    for record in world.records:
        comparison.take(understood(record))
    comparison.close()
    return comparison


def a_world() -> World:
    """Two messages pushed to two devices, one that waits after both have gone."""
    connected = [(8, 0, 0), (4, 0, 0), (4, 0, 1)]
    world = history([*connected, (0, 0, 0), (0, 0, 0), (1, 0, 11), (9, 0, 0), (9, 0, 0), (1, 0, 11), (0, 0, 0), (1, 0, 11)])
    world.finish()
    return world


@given(st.lists(st.tuples(st.sampled_from(CLEAN), st.integers(0, 1), st.integers(0, 11)), min_size=10, max_size=60))
def test_the_policy_that_made_the_log_decides_the_same_again(steps: list[tuple[int, int, int]]) -> None:
    world = history(steps)
    world.finish()
    comparison = compared(world, POLICIES[POLICY])
    assert (comparison.differing, comparison.undecided) == (0, 0)
    assert comparison.recorded == comparison.other
    assert comparison.recorded_pushes == comparison.other_pushes


def test_what_another_policy_would_have_done_is_counted() -> None:
    comparison = compared(a_world(), never_push)
    assert comparison.recorded == {"DeliveryAttempted": 2, "PendingSync": 1}
    assert comparison.other == {"PendingSync": 3}
    assert (comparison.recorded_pushes, comparison.other_pushes) == (4, 0)
    assert (comparison.messages, comparison.differing) == (3, 2)
    assert comparison.examples[0].was == Outcome("DeliveryAttempted", 2)
    assert comparison.examples[0].would_be == Outcome("PendingSync", 0)


def test_fewer_pushes_are_a_difference_too() -> None:
    comparison = compared(a_world(), POLICIES["newest-session"])
    assert (comparison.recorded_pushes, comparison.other_pushes, comparison.differing) == (4, 2, 2)


def test_messages_from_before_are_not_counted_and_their_sessions_are_known() -> None:
    world = a_world()
    second = [at for at, record in enumerate(world.records) if "Stored" in type(understood(record).fact).__name__][1]
    comparison = compared(world, POLICIES[POLICY], since=second)
    assert (comparison.messages, comparison.recorded_pushes, comparison.differing) == (2, 2, 0)


def test_a_policy_that_decides_nothing_and_messages_that_nobody_decided_on() -> None:
    def nothing(here: Here, recorded: Recorded, producer: str) -> Sequence[Outgoing]:
        return []

    assert compared(a_world(), nothing).other == {"nothing": 3}
    undecided = compared(history([(0, 0, 0)]), never_push)
    assert (undecided.messages, undecided.undecided) == (0, 1)
