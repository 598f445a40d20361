"""Tasks that exist while there is something to do, at most one of each kind: an idle socket has none."""

import asyncio
from collections.abc import Awaitable, Callable


class Errands:
    """The running ones, by kind. `failed` is told what ended one, and must not raise.

    No start is lost if the work looks for more before it returns: between its last look and its end nothing else runs.
    """

    __slots__ = ("_failed", "_stopped", "_tasks")

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopped = False

    def __contains__(self, kind: str) -> bool:
        return kind in self._tasks

    def start(self, kind: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do this, unless one of this kind is running, or all were stopped."""
        if kind not in self._tasks and not self._stopped:
            self._tasks[kind] = asyncio.get_running_loop().create_task(self._run(kind, work))

    def stop(self, *, but: str) -> None:
        """Start no more, and cancel all of them but the one of this kind."""
        self._stopped = True
        for kind, task in list(self._tasks.items()):
            if kind != but:
                task.cancel()

    async def stop_after(self, kind: str, seconds: float) -> None:
        """Let the one of this kind go on for so many seconds at most."""
        task = self._tasks.get(kind)
        if task is not None:
            await asyncio.wait({task}, timeout=seconds)
            task.cancel()

    async def _run(self, kind: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:
            self._failed(error)
        finally:
            del self._tasks[kind]
