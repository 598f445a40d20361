"""What a process remembers of ended tokens, and of devices that were seen; the connection to PostgreSQL aside."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import pytest

from api.revocations import LEEWAY_SECONDS, OVERLAP_SECONDS, Revocations
from api.seen import LastSeen
from api.tokens import Principal
from projections.errors import DatabaseUnavailable
from tests.builders import ALICE, BOB, LAPTOP, PHONE, an_id
from tests.eventually import eventually

aio = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Clock:
    now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


class Connected:
    """A connection whose answer is given."""

    def __init__(self, *rows: tuple[UUID, int, float], erased: Sequence[tuple[UUID, float]] = ()) -> None:
        self.rows, self.erased = list(rows), list(erased)

    async def tuples(self, statement: bytes, **params: Any) -> list[Any]:
        rows: list[Any] = self.erased if b"erased_at" in statement else self.rows
        return [row for row in rows if row[-1] < params["seconds"]]


def of(generation: int, device: UUID = PHONE) -> Principal:
    return Principal(ALICE, device, 1_790_000_900, generation)


def known(clock: Clock | None = None) -> Revocations:
    return Revocations("postgresql://nowhere", ttl=900, clock=clock or Clock())


def test_tokens_below_the_generation_are_ended_and_no_others() -> None:
    ended = known()
    assert not ended.revoked(of(0))
    ended.end(PHONE, 2)
    assert [ended.revoked(of(generation)) for generation in (0, 1, 2, 3)] == [True, True, False, False]
    assert not ended.revoked(of(0, LAPTOP))


def test_what_is_heard_late_takes_nothing_back() -> None:
    ended = known()
    ended.end(PHONE, 3)
    ended._hear(f"{PHONE} 2")
    assert ended.revoked(of(2))


def test_each_end_is_told_once() -> None:
    ended, told = known(), []
    ended.on_ended(lambda device, generation: told.append((device, generation)))
    for _ in range(2):
        ended.end(PHONE, 1)
        ended._hear(f"{PHONE} 1")
        ended._hear(f"{LAPTOP} 5")
    ended.end(PHONE, 2)
    assert told == [(PHONE, 1), (LAPTOP, 5), (PHONE, 2)]


def test_what_no_token_can_have_any_more_is_forgotten() -> None:
    clock = Clock()
    ended = known(clock)
    asyncio.run(ended._load(Connected((LAPTOP, 1, 600.0))))  # type: ignore[arg-type]
    ended.end(PHONE, 1)
    clock.now += 300 + LEEWAY_SECONDS - 1
    asyncio.run(ended._look(Connected()))  # type: ignore[arg-type]
    assert len(ended._ended) == 2
    clock.now += 2
    asyncio.run(ended._look(Connected()))  # type: ignore[arg-type]
    assert not ended.revoked(of(0, LAPTOP)) and ended.revoked(of(0))
    clock.now += 900
    asyncio.run(ended._look(Connected()))  # type: ignore[arg-type]
    assert ended._ended == {}


def test_each_erasure_is_told_once() -> None:
    ended, told = known(), []
    ended.on_erased(told.append)
    assert not ended.erased(ALICE)
    ended._hear(f"{ALICE} erased")
    asyncio.run(ended._look(Connected(erased=[(ALICE, 1.0), (BOB, 2.0)])))  # type: ignore[arg-type]
    assert told == [ALICE, BOB]
    assert ended.erased(ALICE) and ended.erased(BOB)


def test_an_erasure_is_forgotten_once_every_read_that_did_not_know_it_is_over() -> None:
    clock = Clock()
    ended = known(clock)
    ended.erase(ALICE, age=10_000)
    clock.now += OVERLAP_SECONDS - 1
    asyncio.run(ended._look(Connected()))  # type: ignore[arg-type]
    assert ended.erased(ALICE)
    clock.now += 2
    asyncio.run(ended._look(Connected()))  # type: ignore[arg-type]
    assert not ended.erased(ALICE)


def test_after_a_day_without_postgresql_a_process_asks_for_the_erasures_of_that_day(monkeypatch: Any) -> None:
    now = [1000.0]
    monkeypatch.setattr("api.revocations.monotonic", lambda: now[0])
    ended = known()
    now[0] += 86_400
    long_ago = Connected(erased=[(ALICE, 80_000.0)])
    asyncio.run(ended._load(long_ago))  # type: ignore[arg-type]
    assert ended.erased(ALICE)
    ended = known()
    now[0] += 1
    asyncio.run(ended._load(long_ago))  # type: ignore[arg-type]
    assert not ended.erased(ALICE)


class Written:
    """Accounts that keep what was written about devices; `away` refuses."""

    def __init__(self) -> None:
        self.calls: list[dict[UUID, float]] = []
        self.away = False

    async def seen(self, times: Mapping[UUID, float]) -> None:
        if self.away:
            raise DatabaseUnavailable("away")
        self.calls.append(dict(times))


@aio
async def test_many_calls_are_one_write_of_the_last_time() -> None:
    clock, accounts = Clock(), Written()
    seen = LastSeen(accounts, clock)  # type: ignore[arg-type]
    for _ in range(100):
        clock.now += 0.1
        seen.note(PHONE)
    seen.note(LAPTOP)
    await seen.write()
    assert accounts.calls == [{PHONE: clock.now, LAPTOP: clock.now}]
    await seen.write()
    assert len(accounts.calls) == 1


@aio
async def test_notes_wait_while_postgresql_is_away_and_are_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr("api.seen.MOST_NOTED", 3)
    monkeypatch.setattr("api.seen.AT_ONCE", 2)
    clock, accounts = Clock(), Written()
    seen = LastSeen(accounts, clock)  # type: ignore[arg-type]
    accounts.away = True
    for number in range(5):
        seen.note(an_id("dev", number))
    try:
        await seen.write()
    except DatabaseUnavailable:
        accounts.away = False
    clock.now += 1
    seen.note(an_id("dev", 0))
    await seen.write()
    written = {device: at for call in accounts.calls for device, at in call.items()}
    assert written == {an_id("dev", 0): clock.now, an_id("dev", 1): clock.now - 1, an_id("dev", 2): clock.now - 1}
    assert [len(call) for call in accounts.calls] == [2, 1]


@aio
async def test_what_is_noted_during_a_write_is_written_by_the_next() -> None:
    clock = Clock()

    class Slow(Written):
        async def seen(self, times: Mapping[UUID, float]) -> None:
            await super().seen(times)
            if len(self.calls) == 1:
                clock.now += 1
                seen.note(PHONE)

    accounts = Slow()
    seen = LastSeen(accounts, clock)  # type: ignore[arg-type]
    seen.note(PHONE)
    await seen.write()
    assert [call[PHONE] for call in accounts.calls] == [clock.now - 1, clock.now]


@aio
async def test_notes_are_written_once_in_a_while_and_at_the_end(monkeypatch: Any) -> None:
    monkeypatch.setattr("api.seen.EVERY_SECONDS", 0.01)
    accounts = Written()
    async with LastSeen(accounts, Clock()) as seen:  # type: ignore[arg-type]
        seen.note(PHONE)
        await eventually(lambda: accounts.calls)
        monkeypatch.setattr("api.seen.EVERY_SECONDS", 60.0)
        seen.note(LAPTOP)
    assert {device for call in accounts.calls for device in call} == {PHONE, LAPTOP}


@aio
async def test_leaving_does_not_fail_while_postgresql_is_away() -> None:
    accounts = Written()
    accounts.away = True
    async with LastSeen(accounts, Clock()) as seen:  # type: ignore[arg-type]
        seen.note(PHONE)
    assert seen.noted(PHONE) is not None
