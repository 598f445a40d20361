"""A WebSocket without a network: the server's side is `api.ports.Socket`, the other side is the client's."""

import asyncio
from collections import deque
from typing import Any, Final

from api.frames import ClientFrame, SocketClosed, decode
from tests.simulation.chance import Bell, Chance
from tests.simulation.loop import outside
from tests.simulation.watch import Session

TRAVEL_SECONDS: Final = 0.003
CAPACITIES: Final = (1_000, 4_000, 32_768)
CLOSE_SECONDS: Final = 2.0
ABNORMAL: Final = 1006
_ORDER: Final = 1e-6


class Link:
    """One connection, with buffers of one of the `CAPACITIES`. A `deaf` peer takes nothing and answers nothing."""

    def __init__(self, chance: Chance, session: Session) -> None:
        self.session = session
        self.deaf = False
        self.heard = _now()
        self.stuck_since: float | None = None
        self._capacity = chance.choice(CAPACITIES)
        self._sending = False
        self._chance = chance
        self._inbound: deque[bytes] = deque()
        self._outbound: deque[dict[str, Any]] = deque()
        self._sizes: deque[int] = deque()
        self._waiting_bytes = 0
        self._gone: int | None = None
        self._ending: int | None = None
        self._over_for_client: int | None = None
        self._latest = 0.0
        self._for_server = Bell()
        self._for_client = Bell()
        self._room = Bell()

    # The server's side

    async def receive(self) -> ClientFrame:
        while not self._inbound:
            if self._gone is None:
                self._gone = self._ending
            if self._gone is not None:
                raise SocketClosed(self._gone)
            await self._for_server.wait()
        return decode(self._inbound.popleft())

    async def send(self, frame: bytes) -> None:
        said = self.session.frame(frame, alone=not self._sending)
        if self._gone is not None or self._ending == ABNORMAL:
            raise SocketClosed(self._gone or ABNORMAL)
        if self.stuck_since is None:
            self.stuck_since = _now()
        self._outbound.append(said)
        self._sizes.append(len(frame))
        self._waiting_bytes += len(frame)
        self._for_client.ring()
        self._sending = True
        try:
            while self._waiting_bytes > self._capacity:
                if self._gone is not None or self._ending == ABNORMAL:
                    raise SocketClosed(self._gone or ABNORMAL)
                await self._room.wait()
            await asyncio.sleep(0)
        finally:
            self._sending = False

    async def close(self, code: int, reason: str) -> None:
        if self.session.closed is not None:
            return
        self.session.end(code, reason)
        if self._gone is None:
            self._outbound.append({"type": "close", "code": code, "reason": reason})
            self._sizes.append(0)
            self._for_client.ring()
            deadline = _now() + CLOSE_SECONDS
            while self._outbound and not self.deaf and _now() < deadline:
                await asyncio.sleep(0.05)
            if self.deaf:
                await asyncio.sleep(CLOSE_SECONDS)
        self._gone = code if self._gone is None else self._gone
        self._for_server.ring()
        self._room.ring()

    def ping(self) -> None:
        if not self.deaf and self._gone is None:
            outside(self._chance.delay(TRAVEL_SECONDS), self._pong)

    def _pong(self) -> None:
        if not self.deaf:
            self.heard = _now()

    # The client's side

    def say(self, frame: bytes) -> None:
        """The client sends a frame."""
        self._travel(self._inbound.append, frame)

    def hang_up(self, code: int) -> None:
        """The client closes, with 1006 without a word. What it did not read is lost."""
        if self._over_for_client is None:
            self._over_for_client = code
            self._travel(self._end, code)

    def reset(self) -> None:
        """The server's process has died."""
        outside(self._chance.delay(TRAVEL_SECONDS), self._died)

    async def take(self) -> dict[str, Any]:
        """What the client reads next: a frame, or `{"type": "close", "code": ...}`."""
        while not self._outbound:
            if self._over_for_client is not None:
                return {"type": "close", "code": self._over_for_client, "reason": ""}
            await self._for_client.wait()
        said = self._outbound.popleft()
        self._waiting_bytes -= self._sizes.popleft()
        self.stuck_since = _now() if self._outbound else None
        self._room.ring()
        return said

    def _travel(self, arrive: Any, what: object) -> None:
        self._latest = max(_now() + self._chance.delay(TRAVEL_SECONDS), self._latest + _ORDER)
        outside(self._latest - _now(), self._arrived, arrive, what)

    def _arrived(self, arrive: Any, what: object) -> None:
        if self._ending is None:
            self.heard = _now()
            arrive(what)
            self._for_server.ring()

    def _end(self, code: int) -> None:
        self._ending = code
        self._room.ring()
        self._for_client.ring()

    def _died(self) -> None:
        self._over_for_client = ABNORMAL
        self._for_client.ring()


def _now() -> float:
    return asyncio.get_running_loop().time()
