"""Names of senders, as the mailbox told them: a push has only the id."""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from projections.reads import MailboxRow

REMEMBERED: Final = 50_000


class Names:
    """The last `remembered` senders that were learned. An erased one has no name (None)."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._names: dict[UUID, str | None] = {}

    def __contains__(self, user: UUID) -> bool:
        return user in self._names

    def __getitem__(self, user: UUID) -> str | None:
        return self._names[user]

    def learn(self, rows: Iterable[MailboxRow]) -> None:
        """What these rows tell."""
        names = self._names
        for row in rows:
            names[row.sender] = row.sender_name
        while len(names) > self._remembered:
            del names[next(iter(names))]
