"""The errand that brings a client's acknowledgements into the log, and answers them once the log has them."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Final
from uuid import UUID

from api.acks import Plan, Request, Requests
from api.common import Common, Me
from api.facts import Acknowledgement, acknowledged
from api.frames import encode, error_frame
from api.outages import log_silent, projection_behind
from api.pause import Pauses
from api.problems import Problem
from api.window import Window
from producers.log import LogUnavailable
from projections.errors import DatabaseUnavailable, ProjectionBehind

SLOW_SECONDS: Final = 1.0
"""An answer that takes longer is for us to answer for: the client's time begins anew."""


class Acknowledging:
    """What one session acknowledges. `say` takes the answers, `moved` is called when the window has got room, `strange`
    whenever the projection was asked about ids that this session has not in its window, and nothing came of it."""

    __slots__ = (
        "_common",
        "_fact",
        "_me",
        "_moved",
        "_requests",
        "_say",
        "_strange",
        "_taken",
        "_window",
        "answered",
        "answers_since",
    )

    def __init__(
        self,
        common: Common,
        me: Me,
        window: Window,
        *,
        say: Callable[[bytes], None],
        moved: Callable[[], None],
        strange: Callable[[], None],
    ) -> None:
        self._common = common
        self._me = me
        self._window = window
        self._say = say
        self._moved = moved
        self._strange = strange
        self._requests = Requests()
        self._taken: list[Request] = []
        self._fact: Acknowledgement | None = None
        self.answers_since: float | None = None
        """Since when (loop time) a client waits for an answer."""
        self.answered = 0.0
        """When the latest answer came that took longer than SLOW_SECONDS."""

    @property
    def full(self) -> bool:
        """Whether no more should be added now."""
        return self._requests.full

    def add(self, request: Request) -> None:
        """One more; `work` does it."""
        self._requests.add(request)

    async def work(self) -> None:
        """Until none is left. An answer waits for the log as long as it takes, for the projection once."""
        while self._requests:
            self.answers_since = asyncio.get_running_loop().time()
            self._taken = self._requests.take()
            plan = await self._known(self._taken)
            if plan.entries:
                await self._append(self._fact_of(plan))
            self._taken = []
            self._window.settle(plan.entries)
            for acked in plan.answers():
                self._say(encode(acked))
            self._note_time()
            self._moved()

    def unfinished(self) -> Iterator[Acknowledgement]:
        """What the client has said and the log may not have: for whoever goes on when the session is over. The append under
        way goes along; a repeat is seen as one."""
        if self._fact is not None:
            yield self._fact
        elif self._taken:
            yield from self._unplanned(self._taken)
        while self._requests:
            yield from self._unplanned(self._requests.take())

    def elsewhere(self, ids: Sequence[UUID]) -> None:
        """The device has acknowledged these by HTTP, and was answered."""
        self._window.drop(ids, asyncio.get_running_loop().time())
        self._moved()

    def _unplanned(self, taken: Sequence[Request]) -> Iterator[Acknowledgement]:
        plan = Plan.of(taken, self._window)
        if plan.entries:
            yield self._fact_of(plan)

    async def _known(self, taken: Sequence[Request]) -> Plan:
        plan = Plan.of(taken, self._window)
        if not plan.foreign:
            return plan
        try:
            plan.learn(await self._common.known(self._me, plan.foreign))
        except LogUnavailable:
            self._refuse(plan, log_silent())
        except (DatabaseUnavailable, ProjectionBehind):
            self._refuse(plan, projection_behind())
        if plan.entries.keys().isdisjoint(plan.foreign):
            self._strange()
        return plan

    def _refuse(self, plan: Plan, problem: Problem) -> None:
        for request in plan.drop_foreign():
            self._say(error_frame(problem, str(self._me.session), request.n))

    def _fact_of(self, plan: Plan) -> Acknowledgement:
        return acknowledged(plan.kind, self._common, self._me, plan.in_order())

    async def _append(self, fact: Acknowledgement) -> None:
        pauses = Pauses()
        self._fact = fact
        while True:
            try:
                await self._common.log.append(fact, partition=self._me.partition)
            except LogUnavailable:
                await asyncio.sleep(pauses.longer())
            else:
                self._fact = None
                return

    def _note_time(self) -> None:
        now = asyncio.get_running_loop().time()
        if self.answers_since is not None and now - self.answers_since > SLOW_SECONDS:
            self.answered = now
        self.answers_since = None
