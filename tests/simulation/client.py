"""A device's program: connects, reads, acknowledges, and goes wrong in every way in which clients do."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec

from tests.simulation.chance import Bell, Chance
from tests.simulation.peer import ABNORMAL, Link

NORMAL: Final = 1000


class Acks(StrEnum):
    """How a client acknowledges."""

    PROMPTLY = "promptly"
    READS = "reads"
    BY_HTTP = "by http"
    SLOWLY = "slowly"
    NEVER = "never"


class End(StrEnum):
    """How a connection ends by the client's doing."""

    STAYS = "stays"
    CLOSES = "closes"
    ABORTS = "aborts"
    VANISHES = "vanishes"
    STALLS = "stalls"


@dataclass(slots=True)
class Plan:
    """What a client does on one connection. After `frames` messages it comes to its end; `pace` is the seconds that it takes
    to read a frame, `patience` those that it waits before it acknowledges, `share` of what it has it then does."""

    acks: Acks = Acks.PROMPTLY
    end: End = End.STAYS
    frames: int = 0
    pace: float = 0.001
    patience: float = 0.02
    share: float = 1.0

    @property
    def behaves(self) -> bool:
        """Whether a server has no reason to close."""
        return self.acks not in (Acks.SLOWLY, Acks.NEVER) and self.end not in (End.VANISHES, End.STALLS)


def draw(chance: Chance, wildness: float) -> Plan:
    """A plan; with `wildness` 0 a good one."""
    plan = Plan(
        acks=chance.choice((Acks.PROMPTLY, Acks.PROMPTLY, Acks.READS, Acks.BY_HTTP)),
        patience=chance.choice((0.0, 0.01, 0.1, 0.5)),
        share=chance.choice((1.0, 1.0, 0.5, 0.1)),
        pace=chance.choice((0.0, 0.0005, 0.005)),
    )
    if chance.happens(wildness):
        plan.acks = chance.choice((*Acks, Acks.PROMPTLY, Acks.NEVER))
        plan.end = chance.choice(tuple(End))
        plan.frames = chance.choice((0, 1, 2, 5, 20))
        plan.pace = chance.choice((plan.pace, plan.pace, 0.5))
        if plan.acks is Acks.NEVER and chance.happens(0.5):
            plan.end = End.STAYS
    return plan


class Connection:
    """A client at work on one link. `left` is what it has acknowledged and not heard of; `first` is when mail first came."""

    def __init__(
        self,
        link: Link,
        plan: Plan,
        chance: Chance,
        by_http: Callable[[list[UUID]], Awaitable[None]],
        strange: Callable[[], list[UUID]],
        slowly: float,
    ) -> None:
        self.link = link
        self.plan = plan
        self.code: int | None = None
        self.messages = 0
        self.first: float | None = None
        self.left: dict[int, list[UUID]] = {}
        self._chance = chance
        self._by_http = by_http
        self._strange = strange
        self._slowly = slowly
        self._number = 0
        self._had: deque[UUID] = deque()
        self._more = Bell()

    @property
    def good(self) -> bool:
        """Whether both sides are there and talk."""
        return self.code is None and not self.link.deaf

    async def live(self) -> int:
        """Until the connection is over for the client; returns the close code."""
        acknowledging = asyncio.create_task(self._acknowledge())
        try:
            while self.code is None:
                if self.messages >= self.plan.frames and self.plan.end is not End.STAYS:
                    await self._come_to_an_end()
                said = await self.link.take()
                await self._read(said)
            return self.code
        finally:
            acknowledging.cancel()
            await asyncio.wait([acknowledging])

    async def _come_to_an_end(self) -> None:
        match self.plan.end:
            case End.CLOSES:
                self.link.hang_up(NORMAL)
            case End.ABORTS:
                self.link.hang_up(ABNORMAL)
            case End.VANISHES | End.STALLS:
                self.link.deaf = True
                self.code = ABNORMAL
            case _:
                pass
        self.plan.end = End.STAYS

    async def _read(self, said: dict[str, Any]) -> None:
        if self.plan.pace:
            await asyncio.sleep(self.plan.pace * self._chance.random())
        match said["type"]:
            case "close":
                self.code = said["code"]
            case "message":
                self.messages += 1
                self.first = self.first or asyncio.get_running_loop().time()
                self._had.append(UUID(said["id"]))
                self._more.ring()
            case "acked" | "error":
                self.left.pop(said["n"])
            case _:
                pass

    async def _acknowledge(self) -> None:
        while True:
            if not self._had or self.plan.acks is Acks.NEVER:
                await self._more.wait()
                continue
            patience = self._slowly if self.plan.acks is Acks.SLOWLY else self.plan.patience
            await asyncio.sleep(patience * self._chance.random())
            count = max(1, min(500, int(len(self._had) * self.plan.share)))
            ids = [self._had.popleft() for _ in range(min(count, len(self._had)))]
            if self.link.deaf:
                continue
            if self.plan.acks is Acks.BY_HTTP:
                await self._by_http(ids)
            else:
                self.tell("read" if self.plan.acks is Acks.READS else "ack", [*ids, *self._strange()])

    def tell(self, kind: str, ids: list[UUID]) -> None:
        """Send an acknowledgement over the socket."""
        self._number += 1
        self.left[self._number] = ids
        self.link.session.asked[self._number] = list(ids)
        self.link.say(msgspec.json.encode({"type": kind, "n": self._number, "ids": ids}))

    def calm_down(self) -> None:
        """From now on a good client, if the connection is still good."""
        self.plan = Plan()
        self._more.ring()
