"""Who is connected to this process: conversations by session, device and account, and the sessions that have ended here."""

from collections import Counter
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from api.conversation import Conversation
from api.ends import REPLACED, TOKEN_REVOKED
from api.tokens import Principal

REMEMBERED: Final = 20_000
"""Ended sessions and revoked devices that are remembered; both matter for moments."""


class Connected:
    """A conversation is here from its first moment until it ends."""

    def __init__(self) -> None:
        self._sessions: dict[UUID, Conversation] = {}
        self._devices: dict[UUID, list[Conversation]] = {}
        self._users: Counter[UUID] = Counter()
        self._ended: dict[UUID, int | None] = {}
        self._revoked: dict[UUID, int] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def all(self) -> list[Conversation]:
        """Everybody."""
        return list(self._sessions.values())

    def find(self, session: UUID) -> Conversation | None:
        """The conversation of a session."""
        return self._sessions.get(session)

    def count(self, user: UUID) -> int:
        """How many sockets an account has here."""
        return self._users.get(user, 0)

    def enter(self, one: Conversation) -> None:
        """Somebody comes."""
        self._sessions[one.me.session] = one
        self._devices.setdefault(one.me.device, []).append(one)
        self._users[one.me.user] += 1

    def opened(self, one: Conversation) -> None:
        """The log has this session's beginning: of all sessions of the device the latest stays."""
        opened = [other for other in self._devices[one.me.device] if other.opened_at is not None]
        latest = max(opened, key=lambda other: other.opened_at or 0)
        for other in opened:
            if other is not latest:
                other.end(REPLACED)

    def leave(self, one: Conversation, began: bool) -> None:
        """Somebody goes; `began` says whether the log may know of the session."""
        del self._sessions[one.me.session]
        others = self._devices[one.me.device]
        others.remove(one)
        if not others:
            del self._devices[one.me.device]
        self._users[one.me.user] -= 1
        if not self._users[one.me.user]:
            del self._users[one.me.user]
        if began:
            self.ending(one.me.session)

    def ending(self, session: UUID) -> None:
        """The end of this session is on its way to the log."""
        self._ended[session] = None
        _trim(self._ended)

    def is_closed(self, session: UUID, offset: int) -> None:
        """The log has the end of this session here."""
        if session in self._ended:
            self._ended[session] = offset

    def is_ending(self, session: UUID, epoch: int) -> bool:
        """Whether the log has, or is about to have, an end of this session that comes after this epoch."""
        if session not in self._ended:
            return False
        offset = self._ended[session]
        return offset is None or epoch < offset

    def acknowledged(self, device: UUID, ids: Sequence[UUID]) -> None:
        """The device has acknowledged these by HTTP, and was answered."""
        for one in self._devices.get(device, ()):
            one.acknowledged(ids)

    def revoke(self, device: UUID, generation: int) -> None:
        """The device's tokens below this generation have ended."""
        self._revoked[device] = generation
        _trim(self._revoked)
        for one in list(self._devices.get(device, ())):
            if self.is_revoked(one.who):
                one.end(TOKEN_REVOKED)

    def is_revoked(self, who: Principal) -> bool:
        """Whether this token has ended since it was verified."""
        return who.generation < self._revoked.get(who.device, who.generation)


def _trim(known: dict[UUID, int | None] | dict[UUID, int]) -> None:
    while len(known) > REMEMBERED:
        del known[next(iter(known))]
