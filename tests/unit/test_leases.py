"""When a gateway is lost, and when it must not be called so."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from processors.leases import Leases, Reach
from tests.builders import lease

ONE, TWO = "gateway/one", "gateway/two"
LEASE = 15.0
NOTHING = Reach({}, {})


@dataclass
class Judge:
    """Leases, looked at once a second; both topics are read to their ends unless a test says otherwise."""

    leases: Leases = field(default_factory=lambda: Leases(seconds=LEASE))
    now: float = 1000.0
    ends: Reach = field(default_factory=lambda: Reach({0: 10, 1: 20}, {0: 5}))
    read: Reach | None = None
    away: bool = False

    def hears(self, gateway: str = ONE, *, ended: bool = False, lease_ms: int = 15_000) -> None:
        self.leases.heard(lease(gateway=gateway, ended=ended, lease_ms=lease_ms), self.now)

    def looks(self, *mentioned: str) -> set[str]:
        ends = None if self.away else self.ends
        return self.leases.lost(mentioned or (ONE,), self.now, ends, self.read or self.ends)

    def after(self, seconds: int, *mentioned: str) -> set[str]:
        """What the last look says after so many, one a second."""
        lost: set[str] = set()
        for _ in range(seconds):
            self.now += 1
            lost = self.looks(*mentioned)
        return lost


@pytest.fixture
def judge() -> Judge:
    """One that has looked before."""
    judge = Judge()
    judge.looks("gateway/another")
    return judge


def test_a_gateway_that_renews_is_never_lost(judge: Judge) -> None:
    for _ in range(10):
        judge.hears()
        assert judge.after(5) == set()


def test_without_a_renewal_it_is_lost_after_its_lease_and_not_before(judge: Judge) -> None:
    judge.hears()
    assert judge.after(14) == set()
    assert judge.after(1) == {ONE}


def test_each_lease_has_its_own_length(judge: Judge) -> None:
    judge.hears(ONE, lease_ms=3_000)
    judge.hears(TWO, lease_ms=30_000)
    assert judge.after(3, ONE, TWO) == {ONE}
    assert judge.after(26, ONE, TWO) == {ONE}
    assert judge.after(1, ONE, TWO) == {ONE, TWO}


def test_an_ended_one_is_lost_at_once(judge: Judge) -> None:
    judge.hears(ended=True)
    assert judge.looks() == {ONE}


def test_one_that_was_never_heard_of_has_a_lease_from_when_it_was_first_seen(judge: Judge) -> None:
    judge.looks(TWO)
    judge.after(10, TWO)
    assert judge.looks(ONE, TWO) == set()
    assert judge.after(5, ONE, TWO) == {TWO}
    assert judge.after(9, ONE, TWO) == {TWO}
    assert judge.after(1, ONE, TWO) == {ONE, TWO}


@pytest.mark.parametrize(
    "behind",
    [Reach({0: 9, 1: 20}, {0: 5}), Reach({0: 10, 1: 19}, {0: 5}), Reach({0: 10, 1: 20}, {0: 4}), Reach({0: 10}, {})],
    ids=["lifecycle 0", "lifecycle 1", "gateways", "nothing of gateways"],
)
@pytest.mark.parametrize("ended", [False, True])
def test_what_was_not_read_to_the_ends_is_not_judged(judge: Judge, behind: Reach, ended: bool) -> None:
    judge.hears(ended=ended)
    judge.read = behind
    assert judge.after(40) == set()
    judge.read = None
    assert judge.after(1) == {ONE}


def test_partitions_of_others_need_not_be_read(judge: Judge) -> None:
    judge.hears()
    judge.read = Reach({1: 20}, {0: 5})
    assert judge.after(15) == {ONE}


def test_only_the_ends_of_when_it_lapsed_count(judge: Judge) -> None:
    """Else under traffic, where reading is always a little behind, nobody would ever be lost."""
    judge.hears()
    judge.read = Reach({0: 9, 1: 20}, {0: 5})
    judge.after(15)
    judge.ends = Reach({0: 100, 1: 200}, {0: 50})
    judge.read = Reach({0: 10, 1: 20}, {0: 5})
    assert judge.after(1) == {ONE}


def test_a_renewal_that_waited_unread_saves_it(judge: Judge) -> None:
    """A processor that was behind reads the renewal once it has lapsed."""
    judge.hears()
    judge.read = Reach({0: 10, 1: 20}, {0: 4})
    judge.after(20)
    judge.hears()
    judge.read = None
    assert judge.after(14) == set()
    assert judge.after(1) == {ONE}


def test_while_the_log_is_away_nobody_is_lost_and_then_all_have_a_lease(judge: Judge) -> None:
    judge.hears()
    judge.after(14)
    judge.away = True
    assert judge.after(60) == set()
    judge.away = False
    assert judge.after(14) == set()
    assert judge.after(1) == {ONE}


def test_a_short_absence_counts_too(judge: Judge) -> None:
    """Back at the moment of judging, a gateway may not have found the log again yet."""
    judge.hears()
    judge.after(13)
    judge.away = True
    judge.after(1)
    judge.away = False
    assert judge.after(14) == set()


def test_ends_that_were_asked_before_an_absence_are_asked_again(judge: Judge) -> None:
    judge.hears()
    judge.read = Reach({0: 9, 1: 20}, {0: 5})
    judge.after(16)
    judge.away = True
    judge.after(1)
    judge.away = False
    judge.read = None
    assert judge.looks() == set()


def test_an_ended_one_stays_ended_through_an_absence(judge: Judge) -> None:
    judge.hears(ended=True)
    judge.away = True
    assert judge.after(1) == set()
    judge.away = False
    assert judge.after(1) == {ONE}


def test_who_stood_still_gives_everybody_a_lease(judge: Judge) -> None:
    """A machine that slept: nobody could renew."""
    judge.hears()
    judge.looks()
    judge.now += 60
    assert judge.looks() == set()
    assert judge.after(14) == set()
    assert judge.after(1) == {ONE}


def test_the_first_look_gives_everybody_a_lease() -> None:
    """The table took its time to recover, and nobody knows whether the log was there."""
    judge = Judge()
    judge.hears()
    judge.now += 60
    assert judge.looks() == set()
    assert judge.after(14) == set()
    assert judge.after(1) == {ONE}


def test_a_lost_one_that_renews_lives(judge: Judge) -> None:
    judge.hears()
    assert judge.after(15) == {ONE}
    judge.hears()
    assert judge.looks() == set()


def test_gateways_of_long_ago_are_forgotten(judge: Judge) -> None:
    for number in range(100):
        judge.hears(f"gateway/{number}", ended=number % 2 == 0)
    judge.after(5, "gateway/7")
    assert len(judge.leases._known) == 100
    judge.after(10, "gateway/7")
    assert set(judge.leases._known) == {"gateway/7"}
