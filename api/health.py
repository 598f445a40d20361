"""How it stands: this process (live, ready), and the whole service. Cheap for any prober, bounded while things are down."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any, Final

from api.calls import Answer, Call, answer
from api.lag import TOO_FAR_SECONDS, LagWatch
from api.models import Health
from producers.log import EventLog, LogUnavailable
from projections.errors import NotMigrated, ProjectionsError
from projections.reads import Reads

BOUND_SECONDS: Final = 2.0
"""At most this long for a look."""

KEPT_SECONDS: Final = 1.0
"""For so long every prober gets the same answer."""

_NO_STORE: Final = ((b"cache-control", b"no-store"),)
ProcessorLag = Callable[[], Awaitable[Mapping[str, Any]]]
"""How the processors' group stands: `members` (a count), `seconds` (age of the oldest undecided record, or None)."""


class Phase:
    """Where this process is in its life. The server calls `drain` when it is told to stop, before calls end."""

    def __init__(self) -> None:
        self.started = False
        self.draining = asyncio.Event()

    def drain(self) -> None:
        """Take no more work that waits: long polls end now, and `ready` says so."""
        self.draining.set()

    @property
    def word(self) -> str:
        """`starting`, `ok` or `draining`."""
        if self.draining.is_set():
            return "draining"
        return "ok" if self.started else "starting"


class HealthCalls:
    """The handlers."""

    def __init__(self, *, phase: Phase, log: EventLog, reads: Reads, lag: LagWatch, processor_lag: ProcessorLag) -> None:
        self._phase = phase
        self._log = log
        self._reads = reads
        self._lag = lag
        self._processor_lag = processor_lag
        self._look: asyncio.Task[tuple[list[str], list[str]]] | None = None
        self._looked_at = 0.0

    async def live(self, call: Call) -> Answer:
        """GET /health/live: the process answers."""
        return answer(Health("ok", []), headers=_NO_STORE)

    async def ready(self, call: Call) -> Answer:
        """GET /health/ready: whether to send this process calls."""
        if self._phase.word != "ok":
            return answer(Health(self._phase.word, [f"this process is {self._phase.word}"]), 503, _NO_STORE)
        own, _ = await self._reasons()
        return _health(own)

    async def whole(self, call: Call) -> Answer:
        """GET /health: whether the service as a whole does its work."""
        own, others = await self._reasons()
        return _health([*own, *others])

    async def _reasons(self) -> tuple[list[str], list[str]]:
        """What is wrong for this process, and what is wrong elsewhere. One look serves all who ask within a second."""
        if self._look is None or monotonic() - self._looked_at > KEPT_SECONDS + (0 if self._look.done() else BOUND_SECONDS):
            self._looked_at = monotonic()
            self._look = asyncio.create_task(self._take_a_look())
        return await asyncio.shield(self._look)

    async def _take_a_look(self) -> tuple[list[str], list[str]]:
        log, database, processor = await asyncio.gather(
            _bounded(self._log_reasons), _bounded(self._database_reasons), _bounded(self._processor_reasons)
        )
        behind = self._lag.behind_seconds
        projection = [f"the projection is {behind:.0f} s behind the log"] if behind > TOO_FAR_SECONDS else []
        return [*log, *database], [*projection, *processor]

    async def _log_reasons(self) -> list[str]:
        await self._log.ends()
        return [] if self._log.healthy else ["the log does not take records"]

    async def _database_reasons(self) -> list[str]:
        await self._reads.offsets()
        return []

    async def _processor_reasons(self) -> list[str]:
        lag = await self._processor_lag()
        if not lag.get("members"):
            return ["no processor is running"]
        seconds = lag.get("seconds") or 0.0
        return [f"the processor is {seconds:.0f} s behind the log"] if seconds > TOO_FAR_SECONDS else []


async def _bounded(look: Callable[[], Awaitable[list[str]]]) -> list[str]:
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            return await look()
    except LogUnavailable:
        return ["the log is out of reach"]
    except NotMigrated:
        return ["the database has no tables yet: run `restante migrate`"]
    except ProjectionsError:
        return ["PostgreSQL is out of reach"]
    except TimeoutError:
        names = {"_log_reasons": "the log", "_database_reasons": "PostgreSQL"}
        what = names.get(look.__name__, "the state of the processors")
        return [f"{what} does not answer within {BOUND_SECONDS:g} s"]


def _health(reasons: list[str]) -> Answer:
    return answer(Health("unhealthy" if reasons else "ok", reasons), 503 if reasons else 200, _NO_STORE)
