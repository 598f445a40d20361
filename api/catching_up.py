"""Errands that bring a session what it lacks: pages of the mailbox, and a fresh marker where the processor lost it."""

import asyncio
from collections.abc import Callable
from typing import Final

from api.common import PATIENCE_SECONDS, Common, Me
from api.facts import marker
from api.keys import AccountKeys
from api.pause import Pauses
from api.session import Session, Wanted
from producers.log import LogUnavailable
from projections.errors import DatabaseUnavailable, ProjectionBehind
from projections.reads import Page
from schemas.events import SessionMarked
from schemas.metrics import SESSION_MARKERS

MARK_EVERY_SECONDS: Final = 0.25
"""A processor that lost many sessions asks for a marker with each message; one does."""


class AccountGone(Exception):
    """The account is erased: there is nothing to bring any more."""


class Pages:
    """Reads pages of one session's mailbox. `keys` open what they hold, once the first was read."""

    __slots__ = ("_common", "_me", "_session", "keys")

    def __init__(self, common: Common, me: Me, session: Session) -> None:
        self._common = common
        self._me = me
        self._session = session
        self.keys: AccountKeys | None = None

    async def work(self, grown: Callable[[], None]) -> None:
        """Read as long as the session lacks something and has room for it; `grown` is called for each page. What is away or
        behind is asked again, as long as it takes. Raises `AccountGone`."""
        while wanted := self._session.wants():
            page = await self._read(wanted)
            self._common.names.learn(page.rows)
            self._session.page(wanted, page.rows, page.has_more)
            grown()

    async def _read(self, wanted: Wanted) -> Page:
        common, me, pauses = self._common, self._me, Pauses()
        passed = wanted.upto + 1
        while True:
            try:
                await self._get_keys()
                await common.progress.reached(me.partition, passed, PATIENCE_SECONDS)
                async with common.pages:
                    return await common.reads.page(
                        me.user,
                        me.device,
                        after=wanted.after,
                        limit=wanted.limit,
                        max_bytes=wanted.max_bytes,
                        floors={me.partition: passed},
                        counted=False,
                    )
            except (ProjectionBehind, DatabaseUnavailable):
                await asyncio.sleep(pauses.longer())

    async def _get_keys(self) -> None:
        if self.keys is None:
            self.keys = await self._common.keys.keys_of(self._me.user)
            if self.keys is None:
                raise AccountGone


class Markers:
    """Appends fresh markers of one session."""

    __slots__ = ("_common", "_due", "_latest", "_me", "_session")

    def __init__(self, common: Common, me: Me, session: Session) -> None:
        self._common = common
        self._me = me
        self._session = session
        self._due = False
        self._latest = 0.0

    def ask(self) -> None:
        """One is needed: `work` appends it."""
        self._due = True

    async def work(self) -> None:
        """Append until none is needed. A marker whose outcome is unknown is tried again: if the first lands, too, its pushes
        tell of it."""
        loop = asyncio.get_running_loop()
        while self._due:
            await asyncio.sleep(max(0.0, self._latest + MARK_EVERY_SECONDS - loop.time()))
            self._due = False
            self._session.marked(await self._appended())
            self._latest = loop.time()
            SESSION_MARKERS.inc()

    async def _appended(self) -> int:
        fact, pauses = marker(SessionMarked, self._common, self._me), Pauses()
        while True:
            try:
                return (await self._common.log.append(fact, partition=self._me.partition)).offset
            except LogUnavailable:
                await asyncio.sleep(pauses.longer())
