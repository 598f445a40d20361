"""Waiting for a condition, with a deadline: the only way in which a test waits."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

T = TypeVar("T")
_PAUSE = 0.02


async def eventually(condition: Callable[[], T | Awaitable[T]], within: float = 10.0, what: str = "") -> T:
    """The first truthy answer of `condition`, asked again for `within` seconds; else AssertionError with the last one.

    An AssertionError of the condition counts as "not yet".
    """
    deadline = time.monotonic() + within
    while True:
        try:
            found = condition()
            answer = await found if inspect.isawaitable(found) else found
            if answer:
                return answer
            last: object = answer
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what or inspect.getsource(condition).strip()}; last: {last!r}")
        await anyio.sleep(_PAUSE)


def soon(condition: Callable[[], T], within: float = 10.0, what: str = "") -> T:
    """The same for tests without an event loop."""
    deadline = time.monotonic() + within
    while True:
        try:
            last: object = condition()
            if last:
                return last  # type: ignore[return-value]
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what or inspect.getsource(condition).strip()}; last: {last!r}")
        time.sleep(_PAUSE)
