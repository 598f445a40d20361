"""An asyncio event loop without a clock of its own: when nothing is ready, time jumps to the next timer.

The same program takes the same course each time, to the callback: callbacks run in the order in which they were made ready,
as asyncio promises, and what varies are only the delays that the simulated world draws from its seed. (FoundationDB's
simulation is the model: one thread, virtual time, every fault from one random stream.)

Tasks may belong to a `Process`, and their children with them. A process can be stopped in the middle of anything and go on
later (SIGSTOP, SIGCONT), or never (kill -9): what is ready to run in it waits, and no `finally` of it runs.
"""

import asyncio
import contextvars
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, TypeVar

T = TypeVar("T")

MOST_TURNS: Final = 3_000_000
"""Callbacks in one run; a program that takes more runs in circles."""

_CLEARING_ROUNDS: Final = 20


class Deadlock(AssertionError):
    """Nothing is ready and no timer is set: whoever waits will wait for ever."""


class Endless(AssertionError):
    """The loop ran MOST_TURNS callbacks."""


class Untidy(AssertionError):
    """A task was left running, or an exception was seen by nobody."""


class Process:
    """Tasks that stop and go on together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stopped = False
        self.held: deque[asyncio.Handle] = deque()
        self._context = contextvars.copy_context()
        self._context.run(_PROCESS.set, self)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run in this process."""
        return asyncio.get_running_loop().create_task(work, context=self._context.copy())

    def stop(self) -> None:
        """Nothing of it runs from now on."""
        self.stopped = True

    def go_on(self) -> None:
        """It goes on where it was."""
        self.stopped = False
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.release(self)


_PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)
_OUTSIDE: Final = contextvars.Context()


def outside(delay: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
    """Call later, in no process: what is under way in the network arrives also when its sender has died."""
    return asyncio.get_running_loop().call_later(delay, callback, *args, context=_OUTSIDE)


class _Task(asyncio.Task[T]):
    """A task with a hash that does not depend on its address: sets of tasks have the same order in each run."""

    numbers = itertools.count()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._number = next(_Task.numbers)
        self.process: Process | None = None
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualLoop(asyncio.BaseEventLoop):
    """`time()` is virtual, in seconds from 0. `untidy` collects what was reported to nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.turns = 0
        self.untidy: list[str] = []
        self._ready: deque[asyncio.Handle]
        self._scheduled: list[asyncio.TimerHandle]
        self._made: list[asyncio.Task[Any]] = []
        self._stopped: list[Process] = []
        self.set_task_factory(self._make)
        self.set_exception_handler(lambda _, context: self.untidy.append(repr(context.get("exception") or context)))
        _Task.numbers = itertools.count()

    def time(self) -> float:
        return self.now

    def release(self, process: Process) -> None:
        """What waited in a stopped process is ready now."""
        self._ready.extend(process.held)
        process.held.clear()

    def unseen(self) -> list[str]:
        """Exceptions that ended a task and that nobody has asked for."""
        ended = [task for task in self._made if task.done() and task._log_traceback]
        return [f"{task.get_coro()} ended with {task.exception()!r}" for task in ended]

    def clear(self) -> None:
        """End what is left, so that nothing is reported later."""
        for _ in range(_CLEARING_ROUNDS):
            left = asyncio.all_tasks(self)
            if not left:
                break
            for process in self._stopped:
                process.stopped = False
                self.release(process)
            for task in left:
                task.cancel()
            self.turns = 0
            self.run_until_complete(asyncio.wait(left, timeout=0.5))
        self.run_until_complete(self.shutdown_asyncgens())

    def _run_once(self) -> None:
        """What is ready now, or one step of time."""
        ready, scheduled = self._ready, self._scheduled
        while not ready and not self._stopping:  # type: ignore[attr-defined]
            if not scheduled:
                raise Deadlock(f"nothing can happen any more at {self.now:.3f} s")
            timer = heapq.heappop(scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]
            if timer._cancelled:
                continue
            self.now = max(self.now, timer.when())
            ready.append(timer)
        count = len(ready)
        self.turns += count
        if self.turns > MOST_TURNS:
            raise Endless(f"more than {MOST_TURNS} callbacks at {self.now:.3f} s")
        for _ in range(count):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(_PROCESS)  # type: ignore[attr-defined]
            if process is None or not process.stopped:
                handle._run()
            else:
                process.held.append(handle)
                if process not in self._stopped:
                    self._stopped.append(process)

    def _make(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, T] | Generator[Any, None, T],
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        task: _Task[T] = _Task(work, loop=loop, context=context)
        task.process = _PROCESS.get() if context is None else context.get(_PROCESS)
        self._made.append(task)
        return task

    def _write_to_self(self) -> None:
        """Nobody sleeps who could be woken."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, in a loop of its own. What is left in stopped processes is dropped; anything else that is left, or was
    reported to nobody, raises `Untidy`."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        result = loop.run_until_complete(work)
        left = [
            task
            for task in asyncio.all_tasks(loop)
            if not (isinstance(task, _Task) and task.process and task.process.stopped)
        ]
        found = [*(f"still runs: {task.get_coro()}" for task in left), *loop.untidy, *loop.unseen()]
        if found:
            raise Untidy("; ".join(found))
        return result
    finally:
        try:
            loop.clear()
        finally:
            loop.unseen()
            asyncio.set_event_loop(None)
            loop.close()
