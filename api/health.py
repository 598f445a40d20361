"""How it stands: this process (live, ready), and the whole service. Cheap for any prober, bounded while things are down."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is not well: in general, and in figures, which are the operator's."""

    words: str
    figures: str


class HealthCalls:
    """The handlers. Those `in_figures` are for the admin port."""

    def __init__(self, *, phase: Phase, log: EventLog, reads: Reads, lag: LagWatch, processor_lag: ProcessorLag) -> None:
        self._phase = phase
        self._log = log
        self._reads = reads
        self._lag = lag
        self._processor_lag = processor_lag
        self._look: asyncio.Task[tuple[list[Reason], list[Reason]]] | None = None
        self._looked_at = 0.0

    async def live(self, call: Call) -> Answer:
        """GET /health/live: the process answers."""
        return answer(Health("ok", []), headers=_NO_STORE)

    async def ready(self, call: Call) -> Answer:
        """GET /health/ready: whether to send this process calls."""
        if self._phase.word != "ok":
            return answer(Health(self._phase.word, [f"this process is {self._phase.word}"]), 503, _NO_STORE)
        own, _ = await self._reasons()
        return _health([reason.words for reason in own])

    async def whole(self, call: Call) -> Answer:
        """GET /health: whether the service as a whole does its work."""
        own, others = await self._reasons()
        return _health([reason.words for reason in (*own, *others)])

    async def whole_in_figures(self, call: Call) -> Answer:
        """GET /health on the admin port: the same, exactly."""
        own, others = await self._reasons()
        return _health([reason.figures for reason in (*own, *others)])

    async def _reasons(self) -> tuple[list[Reason], list[Reason]]:
        """What is wrong for this process, and what is wrong elsewhere. One look serves all who ask within a second."""
        if self._look is None or monotonic() - self._looked_at > KEPT_SECONDS + (0 if self._look.done() else BOUND_SECONDS):
            self._looked_at = monotonic()
            self._look = asyncio.create_task(self._take_a_look())
        return await asyncio.shield(self._look)

    async def _take_a_look(self) -> tuple[list[Reason], list[Reason]]:
        log, database, processor = await asyncio.gather(
            _bounded(self._log_reasons), _bounded(self._database_reasons), _bounded(self._processor_reasons)
        )
        behind = self._lag.behind_seconds
        projection = [_behind("projection", behind)] if behind > TOO_FAR_SECONDS else []
        return [*log, *database], [*projection, *processor]

    async def _log_reasons(self) -> list[Reason]:
        await self._log.ends()
        return [] if self._log.healthy else [_just("the log does not take records")]

    async def _database_reasons(self) -> list[Reason]:
        await self._reads.offsets()
        return []

    async def _processor_reasons(self) -> list[Reason]:
        lag = await self._processor_lag()
        if not lag.get("members"):
            return [_just("no processor is running")]
        seconds = lag.get("seconds") or 0.0
        return [_behind("processor", seconds)] if seconds > TOO_FAR_SECONDS else []


def _just(words: str) -> Reason:
    return Reason(words, words)


def _behind(what: str, seconds: float) -> Reason:
    return Reason(f"the {what} is behind the log", f"the {what} is {seconds:.0f} s behind the log")


async def _bounded(look: Callable[[], Awaitable[list[Reason]]]) -> list[Reason]:
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            return await look()
    except LogUnavailable:
        return [_just("the log is out of reach")]
    except NotMigrated:
        return [_just("the database has no tables yet: run `restante migrate`")]
    except ProjectionsError:
        return [_just("PostgreSQL is out of reach")]
    except TimeoutError:
        names = {"_log_reasons": "the log", "_database_reasons": "PostgreSQL"}
        what = names.get(look.__name__, "the state of the processors")
        return [_just(f"{what} does not answer within {BOUND_SECONDS:g} s")]


def _health(reasons: list[str]) -> Answer:
    return answer(Health("unhealthy" if reasons else "ok", reasons), 503 if reasons else 200, _NO_STORE)
