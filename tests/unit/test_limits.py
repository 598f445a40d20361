"""The table of rates, and the buckets that hold callers to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.frames import MAX_FRAME_BYTES
from api.limits import LIMITS, Buckets, Limit, Limits, What, address_of
from api.messages import BATCH_ON_THE_WIRE, ONE_ON_THE_WIRE
from api.passwords import WAITING
from api.problems import Code, Problem
from api.session import StreamOptions
from api.sockets import PINGS, PINGS_SECONDS
from api.stream import CHATTER, CHATTER_SECONDS, TOKEN_SECONDS

FEW = Limit(amount=5, seconds=10, each="account", meaning="for tests")


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_full_bucket_gives_its_amount_and_then_one_each_time_it_fills() -> None:
    clock = Clock()
    buckets = Buckets(FEW, clock)
    assert [buckets.take("a") for _ in range(5)] == [0.0] * 5
    assert buckets.take("a") == pytest.approx(2.0)
    assert buckets.take("b") == 0.0
    clock.now += 1.5
    assert buckets.take("a") == pytest.approx(0.5)
    clock.now += 0.5
    assert buckets.take("a") == 0.0
    assert buckets.take("a") > 0
    clock.now += 1_000
    assert [buckets.take("a") > 0 for _ in range(6)] == [False] * 5 + [True]


def test_some_are_taken_where_not_all_are_there() -> None:
    clock = Clock()
    buckets = Buckets(FEW, clock)
    assert buckets.take_some("a", 3) == (3, 0.0)
    assert buckets.take_some("a", 3)[0] == 2
    taken, wait = buckets.take_some("a", 3)
    assert (taken, wait) == (0, pytest.approx(2.0))
    clock.now += 4
    assert buckets.take_some("a", 9)[0] == 2


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 4)), max_size=60))
def test_never_more_than_the_amount_and_what_filled_since(steps: list[tuple[float, int]]) -> None:
    clock = Clock()
    buckets = Buckets(FEW, clock)
    taken = 0
    for pause, wanted in steps:
        clock.now += pause
        taken += buckets.take_some(7, wanted)[0] if wanted > 1 else buckets.take(7) == 0.0
        assert taken <= FEW.amount + (clock.now - 1_000.0) * FEW.amount / FEW.seconds + 1e-3


def test_full_buckets_are_forgotten() -> None:
    clock = Clock()
    buckets = Buckets(FEW, clock)
    for key in range(10_000):
        buckets.take(key)
    clock.now += FEW.seconds
    for key in range(10_000, 10_010):
        buckets.take(key)
    assert len(buckets._empty_at) < 20


@pytest.mark.parametrize("what", ["sign_ups", "logins"])
def test_attempts_are_counted_for_each_address_and_each_kind(what: Any) -> None:
    limits = Limits(table={**LIMITS, what: Limit(amount=2, seconds=60, each="address", meaning="")})
    limits.attempt(what, "10.0.0.1")
    limits.attempt(what, "10.0.0.1")
    with pytest.raises(Problem) as refused:
        limits.attempt(what, "10.0.0.1")
    assert (refused.value.code, refused.value.status) == ("rate_limited", 429)
    assert 0 < refused.value.wait <= 60
    limits.attempt(what, "10.0.0.2")
    limits.attempt("logins" if what == "sign_ups" else "sign_ups", "10.0.0.1")


def test_wrong_passwords_are_counted_for_a_name_from_an_address_and_nothing_else_is() -> None:
    clock = Clock()
    few = Limit(amount=2, seconds=60, each="name and address", meaning="")
    limits = Limits(table={**LIMITS, "wrong_passwords": few}, clock=clock)

    def guess(name: str, address: str, code: Code | None = "bad_credentials") -> str:
        try:
            with limits.guess(name, address):
                if code is not None:
                    raise Problem(code, "")
        except Problem as problem:
            return problem.code
        return "right"

    for _ in range(5):
        assert guess("bob", "10.0.0.1", None) == "right"
        assert guess("bob", "10.0.0.1", "overloaded") == "overloaded"
    assert [guess("bob", "10.0.0.1") for _ in range(3)] == ["bad_credentials", "bad_credentials", "rate_limited"]
    assert guess("bob", "10.0.0.1", None) == "rate_limited", "nobody learns that it would have been right"
    assert guess("bob", "10.0.0.2", None) == guess("ann", "10.0.0.1", None) == "right"
    clock.now += 30
    assert guess("bob", "10.0.0.1", None) == "right"


def test_off_is_off() -> None:
    nothing = Limit(amount=1, seconds=1_000, each="account", meaning="")
    limits = Limits(on=False, table=dict.fromkeys(LIMITS, nothing))
    for _ in range(3):
        limits.message(1)
        limits.request(1)
        limits.request_from("10.0.0.1")
        limits.attempt("sign_ups", "10.0.0.1")
        with pytest.raises(Problem), limits.guess("bob", "10.0.0.1"):
            raise Problem("bad_credentials", "")
        assert limits.messages(1, 500) == (500, None)


def test_retry_after_is_not_before_the_wait_and_not_always_the_same() -> None:
    refusal = Limits().refusal("messages", 7.2)
    said = {int(dict(refusal.headers())[b"retry-after"]) for _ in range(200)}
    assert min(said) >= 8
    assert len(said) > 1


@pytest.mark.parametrize(
    ("client", "counted"),
    [
        (("10.0.0.1", 5), "10.0.0.1"),
        (("2001:db8:1:2:3:4:5:6", 5), "2001:db8:1:2::/64"),
        (("2001:db8:1:2:ffff::1", 5), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5), "fe80::/64"),
        (("::ffff:10.0.0.1", 5), "10.0.0.1"),
        (("a:b", 5), "a:b"),
        (None, ""),
    ],
)
def test_the_address_is_the_peers_and_of_ipv6_its_network(client: Any, counted: str) -> None:
    assert address_of({"type": "http", "client": client}) == counted


def _rate(row: Limit) -> str:
    rate = row.amount / row.seconds
    return f"{rate:,.0f}" if rate >= 1 else f"{rate:.2f}"


def test_the_page_shows_the_table() -> None:
    assert set(LIMITS) == set(get_args(What))
    page = Path("docs/limits.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \|", page, re.MULTILINE)
    assert rows == [
        (what, row.meaning, row.each, f"{row.amount:,} in {row.seconds} s, {_rate(row)} a second")
        for what, row in LIMITS.items()
    ]


def test_the_page_has_the_sizes_that_the_code_has() -> None:
    page = Path("docs/limits.md").read_text(encoding="utf-8")
    session, kib = StreamOptions(), 1024
    for row in (
        f"| `POST /messages` on the wire | {ONE_ON_THE_WIRE // kib} KiB | 413 `body_too_large` |",
        f"| `POST /messages/batch` | 500 messages, {BATCH_ON_THE_WIRE // kib**2} MiB on the wire |",
        f"| passwords waiting for their hash | {WAITING} a process | 503 `overloaded` |",
        f"| a frame of the client, all its pieces together | {MAX_FRAME_BYTES // kib} KiB, ",
        f"| time until the token comes, where it is not in the request | {TOKEN_SECONDS:g} s | closed with 4401 ",
        f"| sockets of an account | {session.sockets} a process | closed with 4429 `rate_limited` |",
        f"| frames that move nothing: `ping`, `authenticate`, invalid ones | {CHATTER} in {CHATTER_SECONDS:g} s | ",
        f"| WebSocket pings of the client | {PINGS} in {PINGS_SECONDS:g} s | closed with 4429 `rate_limited` |",
    ):
        assert row in page
