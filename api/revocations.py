"""Tokens that ended before their time, and accounts that were erased, known to every API process within moments.

An access token is good by its signature alone, so each process remembers the devices whose tokens were ended. It hears of
them from PostgreSQL, asks for all that matter on each connect, and for the latest each second in case an announcement was
lost. While PostgreSQL is away, what is known holds. Nothing compares clocks: a token has the generation that its device had,
and ending tokens raises that, so a login within the same second gives good ones.

What else is kept of an account, its keys and its name, has no end of its own, so after each connect a process asks for all
who were erased since it last could.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Final, Self
from uuid import UUID

from api.accounts import ERASED, REVOKED, erased, revoked
from api.tokens import Principal
from projections.database import Connection
from projections.listening import Listening

Ended = Callable[[UUID, int], None]
"""Called with a device and the generation below which its tokens ended."""

Erased = Callable[[UUID], None]
"""Called with an account that was erased."""

LEEWAY_SECONDS: Final = 300.0
"""How far the clocks of API processes and PostgreSQL may be apart."""

OVERLAP_SECONDS: Final = 60.0
"""A transaction that ended tokens may have taken this long to commit."""

PATIENCE_SECONDS: Final = 2.0
"""How long the start waits for what was revoked before. Without PostgreSQL nobody can be served much anyway."""


class Revocations:
    """Listens from entry to exit. `ttl` is how long an access token lives; older entries are forgotten, since those tokens
    have expired. `clock` gives seconds since the epoch."""

    def __init__(self, url: str, *, ttl: float, clock: Callable[[], float]) -> None:
        self._ttl = ttl + LEEWAY_SECONDS
        self._clock = clock
        self._ended: dict[int, tuple[int, float]] = {}
        self._told: list[Ended] = []
        self._gone: dict[int, float] = {}
        self._told_gone: list[Erased] = []
        self._asked = monotonic()
        self._loaded = asyncio.Event()
        self._listening = Listening(url, REVOKED, fresh=self._load, look=self._look, hear=self._hear)

    async def __aenter__(self) -> Self:
        await self._listening.__aenter__()
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._loaded.wait()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._listening.__aexit__(*failure)

    def on_ended(self, told: Ended) -> None:
        """Tell of every device whose tokens end from now on."""
        self._told.append(told)

    def on_erased(self, told: Erased) -> None:
        """Tell of every account that is erased from now on."""
        self._told_gone.append(told)

    def erased(self, user: UUID) -> bool:
        """Whether this account was erased lately: longer ago than any read that still goes on may not know it."""
        return user.int in self._gone

    def erase(self, user: UUID, age: float = 0.0) -> None:
        """The account was erased `age` seconds ago."""
        if user.int not in self._gone:
            self._gone[user.int] = self._clock() + max(self._ttl - age, OVERLAP_SECONDS)
            for told in self._told_gone:
                told(user)

    def revoked(self, who: Principal) -> bool:
        """Whether this principal's token was ended."""
        found = self._ended.get(who.device.int)
        return found is not None and found[0] > who.generation

    def end(self, device: UUID, generation: int, age: float = 0.0) -> None:
        """The device's tokens below this generation ended `age` seconds ago."""
        known = self._ended.get(device.int)
        if known is not None and known[0] >= generation:
            return
        self._ended[device.int] = (generation, self._clock() + self._ttl - age)
        for told in self._told:
            told(device, generation)

    async def _load(self, connection: Connection) -> None:
        await self._ask(connection, self._ttl)
        self._loaded.set()

    async def _look(self, connection: Connection) -> None:
        await self._ask(connection, OVERLAP_SECONDS)
        now = self._clock()
        for device in [device for device, (_, until) in self._ended.items() if until <= now]:
            del self._ended[device]
        for user in [user for user, until in self._gone.items() if until <= now]:
            del self._gone[user]

    async def _ask(self, connection: Connection, seconds: float) -> None:
        for device, generation, age in await revoked(connection, seconds):
            self.end(device, generation, age)
        began = monotonic()
        for user, age in await erased(connection, began - self._asked + OVERLAP_SECONDS):
            self.erase(user, age)
        self._asked = began

    def _hear(self, payload: str) -> None:
        subject, word = payload.split(" ")
        if word == ERASED:
            self.erase(UUID(subject))
        else:
            self.end(UUID(subject), int(word))
