"""How often: one table, counted by each process for itself.

What precedes a password hash is counted by the library `limits`, in a moving window. What every request pays is counted
by a bucket of our own: the library's in-memory store takes 4 us a hit, and starts a thread up to a hundred times a second
that walks over all its keys (measured: 19 to 92 us a hit with 20,000 keys). A bucket takes under 1 us, however many there
are.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Network, ip_address
from time import monotonic, time
from typing import Final, Literal

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.types import Scope

from api.problems import Problem

What = Literal["messages", "requests", "address_requests", "sign_ups", "logins", "wrong_passwords"]
Attempt = Literal["sign_ups", "logins"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A row: `amount` of something in `seconds`, for each of somebody."""

    amount: int
    seconds: int
    each: Literal["account", "address", "name and address"]
    meaning: str


LIMITS: Final[Mapping[What, Limit]] = {
    "messages": Limit(amount=5_000, seconds=10, each="account", meaning="messages sent, each of a batch by itself"),
    "requests": Limit(amount=3_000, seconds=10, each="account", meaning="other calls with an access token"),
    "address_requests": Limit(amount=10_000, seconds=10, each="address", meaning="calls, but accepted tokens' sending"),
    "sign_ups": Limit(amount=300, seconds=60, each="address", meaning="calls of POST /accounts"),
    "logins": Limit(amount=600, seconds=60, each="address", meaning="calls of POST /tokens"),
    "wrong_passwords": Limit(amount=50, seconds=300, each="name and address", meaning="logins that did not succeed"),
}


_ROUNDING: Final = 1e-6
"""Seconds by which sums of times may be off."""


class Buckets:
    """Token buckets by key: a full one holds `amount`, and fills at amount / seconds. Kept is the time at which each was
    empty, or would have been, and only of those that are not full."""

    def __init__(self, limit: Limit, clock: Callable[[], float]) -> None:
        self._seconds = float(limit.seconds)
        self._each = limit.seconds / limit.amount
        self._clock = clock
        self._empty_at: dict[int | str, float] = {}
        self._sweep_at = 10_000

    def take(self, key: int | str) -> float:
        """Take one, and give 0; or take none, and give the seconds until there is one."""
        now = self._clock()
        floor = now - self._seconds
        empty_at = self._empty_at.get(key, floor)
        after = (empty_at if empty_at > floor else floor) + self._each
        if after > now + _ROUNDING:
            return after - now
        self._empty_at[key] = after
        if len(self._empty_at) > self._sweep_at:
            self._sweep(floor)
        return 0.0

    def take_some(self, key: int | str, wanted: int) -> tuple[int, float]:
        """Take as many as there are, `wanted` at most: how many, and the seconds until there is another."""
        now = self._clock()
        empty_at = max(self._empty_at.get(key, 0.0), now - self._seconds)
        taken = min(wanted, int((now - empty_at + _ROUNDING) / self._each))
        self._empty_at[key] = empty_at = empty_at + taken * self._each
        return taken, max(0.0, empty_at + self._each - now)

    def give_back(self, key: int | str) -> None:
        """Undo a `take`."""
        if key in self._empty_at:
            self._empty_at[key] -= self._each

    def _sweep(self, floor: float) -> None:
        """Forget the full ones, once there may be as many of them as of the others."""
        self._empty_at = {key: empty_at for key, empty_at in self._empty_at.items() if empty_at > floor}
        self._sweep_at = max(10_000, 2 * len(self._empty_at))


class Limits:
    """What callers are held to. `clock` is any steady clock in seconds (the library has its own)."""

    def __init__(
        self, *, on: bool = True, table: Mapping[What, Limit] = LIMITS, clock: Callable[[], float] = monotonic
    ) -> None:
        self._on = on
        self._table = table
        self._messages, self._requests, self._addresses, self._guesses = (
            Buckets(table[what], clock) for what in ("messages", "requests", "address_requests", "wrong_passwords")
        )
        self._attempts = MovingWindowRateLimiter(MemoryStorage())
        self._windows = {
            what: RateLimitItemPerSecond(table[what].amount, table[what].seconds, namespace=what)
            for what in ("sign_ups", "logins")
        }

    def message(self, account: int) -> None:
        """One message of an account (the integer of its id). Raises `Problem` rate_limited."""
        if self._on:
            wait = self._messages.take(account)
            if wait:
                raise self.refusal("messages", wait)

    def messages(self, account: int, wanted: int) -> tuple[int, Problem | None]:
        """So many messages of an account: how many may go on, and what to tell the others."""
        if not self._on or not wanted:
            return wanted, None
        taken, wait = self._messages.take_some(account, wanted)
        return taken, None if taken == wanted else self.refusal("messages", wait)

    def request(self, account: int) -> None:
        """One other call of an account. Raises `Problem` rate_limited."""
        if self._on:
            wait = self._requests.take(account)
            if wait:
                raise self.refusal("requests", wait)

    def request_from(self, address: str) -> None:
        """One call from an address. Raises `Problem` rate_limited."""
        if self._on:
            wait = self._addresses.take(address)
            if wait:
                raise self.refusal("address_requests", wait)

    def attempt(self, what: Attempt, address: str) -> None:
        """One sign-up or login from an address. Raises `Problem` rate_limited."""
        window = self._windows[what]
        if self._on and not self._attempts.hit(window, address):
            raise self.refusal(what, max(0.0, self._attempts.get_window_stats(window, address).reset_time - time()))

    @contextmanager
    def guess(self, name: str, address: str) -> Iterator[None]:
        """Around the look at a password for a name. Raises `Problem` rate_limited. Taken before the look, so that guesses at
        the same time count, and given back unless it was wrong."""
        if not self._on:
            yield
            return
        key, wrong = f"{name} {address}", False
        wait = self._guesses.take(key)
        if wait:
            raise self.refusal("wrong_passwords", wait)
        try:
            yield
        except Problem as problem:
            wrong = problem.code == "bad_credentials"
            raise
        finally:
            if not wrong:
                self._guesses.give_back(key)

    def refusal(self, what: What, wait: float) -> Problem:
        """429. `wait` is in seconds."""
        limit = self._table[what]
        allowed = f"{limit.amount:,} {what.replace('_', ' ')} in {limit.seconds} seconds"
        return Problem("rate_limited", f"Over {allowed}. Try again in {math.ceil(wait)} s, then slower.", wait=wait)


def address_of(scope: Scope) -> str:
    """The peer that a call is counted for. Of an IPv6 address the first half: the second is the caller's to choose."""
    client = scope.get("client")
    return _prefix(client[0]) if client else ""


@lru_cache(10_000)
def _prefix(host: str) -> str:
    if ":" not in host:
        return host
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped) if mapped else str(IPv6Network((int(address), 64), strict=False))
