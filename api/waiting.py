"""Long polls: nothing runs for a caller who waits but the timer of his deadline; an arrival wakes him to look again."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from api.calls import Call
from projections.progress import Arrival

T = TypeVar("T")


async def awaited(
    call: Call,
    draining: asyncio.Event,
    arrivals: AbstractContextManager[Arrival],
    seconds: float,
    look: Callable[[], Awaitable[T]],
    found: Callable[[T], bool],
) -> T:
    """Look, and again after each arrival, until something is found, the time is up, the client hangs up or `draining` is
    set; then the last look's answer. The interest is registered before the first look, so nothing is missed. Raises
    `Problem` where the token was ended meanwhile."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    ends = {asyncio.create_task(call.hung_up()), asyncio.create_task(draining.wait())}
    try:
        with arrivals as arrival:
            while True:
                seen = await look()
                left = deadline - loop.time()
                if found(seen) or left <= 0:
                    return seen
                woken = await _came_first(asyncio.create_task(arrival.wait(left)), ends)
                call.check(call.principal)
                if not woken:
                    return seen
    finally:
        for end in ends:
            end.cancel()


async def _came_first(task: asyncio.Task[bool], others: set[asyncio.Task[Any]]) -> bool:
    """Wait until one is done; whether it is the first, and true. The first is given up otherwise."""
    try:
        await asyncio.wait({task, *others}, return_when=asyncio.FIRST_COMPLETED)
        return task.done() and task.result()
    finally:
        task.cancel()
