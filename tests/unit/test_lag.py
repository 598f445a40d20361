"""How far the projection is behind, and what is remembered in this process."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from api.accounts import AccountRow
from api.directory import Directory
from api.keys import MasterKey
from api.lag import Lag, LagWatch
from api.problems import Problem
from api.replays import Replays, judged
from api.times import maybe_rfc3339, rfc3339
from producers.memory import MemoryLog
from tests.builders import an_id

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_lag_is_the_age_of_the_oldest_end_that_is_not_applied() -> None:
    lag = Lag()
    lag.sample(0.0, {0: 0}, {0: 0})
    assert lag.seconds(5.0) == {0: 0.0}
    lag.sample(10.0, {0: 100}, {0: 0})
    lag.sample(20.0, {0: 200}, {0: 50})
    assert lag.seconds(25.0) == {0: 15.0}
    lag.sample(30.0, {0: 300}, {0: 100})
    assert lag.seconds(30.0) == {0: 10.0}
    lag.sample(40.0, {0: 300}, {0: 300})
    assert lag.seconds(99.0) == {0: 0.0}


def test_an_end_that_stands_still_grows_old() -> None:
    lag = Lag()
    for now in range(40):
        lag.sample(float(now), {0: 7, 1: 7}, {0: 6, 1: 7})
    assert lag.seconds(40.0) == {0: 40.0, 1: 0.0}


class Progress:
    def __init__(self) -> None:
        self.connected = True
        self.offsets: dict[int, int] = {}

    def applied(self, partition: int) -> int:
        return self.offsets.get(partition, 0)


def watch(progress: Any) -> LagWatch:
    return LagWatch(MemoryLog(2), progress, lambda: 1_790_000_000.0)


def test_overloaded_begins_over_30_seconds_and_only_while_we_know(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Progress()
    watching = watch(progress)
    now = 0.0
    monkeypatch.setattr("api.lag.monotonic", lambda: now)
    watching.look({0: 5, 1: 0})
    now = 30.0
    watching.look({0: 5, 1: 0})
    assert not watching.overloaded
    now = 30.5
    watching.look({0: 5, 1: 0})
    assert watching.overloaded
    progress.connected = False
    assert not watching.overloaded
    progress.connected, progress.offsets[0] = True, 5
    watching.look({0: 5, 1: 0})
    assert not watching.overloaded


def test_when_it_was_complete_is_remembered_by_partition() -> None:
    progress = Progress()
    watching = watch(progress)
    watching.look({0: 5, 1: 0})
    assert watching.complete_at_ms == {1: 1_790_000_000_000}


async def test_replays_are_remembered_up_to_a_bound() -> None:
    replays = Replays(remembered=2)
    for n in range(3):
        replays.begin(an_id("msg", n))
        replays.end(an_id("msg", n), (b"digest", n))
    assert [replays.recent(an_id("msg", n), b"digest") for n in range(3)] == [None, 1, 2]


async def test_those_who_wait_learn_what_became_of_it() -> None:
    replays = Replays()
    replays.begin(an_id("msg", 1))
    waiting = replays.storing(an_id("msg", 1))
    assert waiting is not None
    replays.end(an_id("msg", 1), (b"digest", 7))
    assert judged(await waiting, b"digest") == 7
    conflict = judged(await waiting, b"other")
    assert isinstance(conflict, Problem)
    assert conflict.code == "idempotency_conflict"
    assert replays.storing(an_id("msg", 1)) is None


async def test_a_failure_is_shared_and_then_forgotten() -> None:
    replays = Replays()
    replays.begin(an_id("msg", 1))
    waiting = replays.storing(an_id("msg", 1))
    assert waiting is not None
    away = Problem("log_unavailable", "away", outcome="rejected")
    replays.end(an_id("msg", 1), away)
    assert judged(await waiting, b"digest") is away
    assert replays.recent(an_id("msg", 1), b"digest") is None


class People:
    """Accounts that everybody has, and how often they were asked for."""

    def __init__(self, master: MasterKey) -> None:
        self.asked: list[list[str]] = []
        self._rows = {
            f"p{n}": AccountRow(user_id=an_id("acct", n), name=f"p{n}", wrapped_key=master.make(an_id("acct", n)))
            for n in range(5)
        }

    async def by_names(self, names: list[str]) -> list[AccountRow]:
        self.asked.append(list(names))
        return [self._rows[name] for name in names if name in self._rows]

    async def by_id(self, user_id: UUID) -> AccountRow | None:
        return next((row for row in self._rows.values() if row.user_id == user_id), None)


def directory(remembered: int) -> tuple[Directory, People]:
    master = MasterKey(b"m" * 32)
    people: Any = People(master)
    return Directory(people, master, 8, erased=lambda user: False, remembered=remembered), people


async def test_the_directory_asks_once_for_whom_it_knows_and_each_time_for_nobody() -> None:
    made, people = directory(10)
    assert set(await made.find(["p1", "p2", "nobody", "p1"])) == {"p1", "p2"}
    assert set(await made.find(["p1", "nobody"])) == {"p1"}
    assert people.asked == [["p1", "p2", "nobody"], ["nobody"]]


async def test_the_directory_forgets_whom_it_was_not_asked_for_longest() -> None:
    made, _ = directory(2)
    await made.find(["p1"])
    await made.find(["p2"])
    assert made.known("p1") is not None
    await made.find(["p3"])
    assert [made.known(name) is not None for name in ("p1", "p2", "p3")] == [True, False, True]
    assert len(made._by_id) == 2


async def test_keys_are_found_by_id_for_accounts_that_are_there() -> None:
    made, _ = directory(2)
    assert await made.keys_of(an_id("acct", 4)) is not None
    assert await made.keys_of(an_id("acct", 99)) is None


def test_times_are_rfc_3339_in_utc_with_milliseconds() -> None:
    assert rfc3339(1_790_000_000_007) == "2026-09-21T14:13:20.007Z"
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert maybe_rfc3339(None) is None


async def test_the_directory_forgets_who_is_erased_also_where_a_question_was_under_way() -> None:
    gone: set[UUID] = set()
    master = MasterKey(b"m" * 32)
    people: Any = People(master)
    made = Directory(people, master, 8, erased=gone.__contains__)
    assert set(await made.find(["p1", "p2"])) == {"p1", "p2"}
    gone.add(an_id("acct", 1))
    made.forget(an_id("acct", 1))
    made.forget(an_id("acct", 4))
    assert made.known("p1") is None
    assert set(await made.find(["p1", "p2"])) == {"p2"}, "the row is from before"
    assert await made.keys_of(an_id("acct", 1)) is None
