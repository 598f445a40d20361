"""Names of senders, as the mailbox told them: a push has only the id."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final
from uuid import UUID

from projections.reads import MailboxRow

REMEMBERED: Final = 50_000


class Names:
    """The last `remembered` senders that were learned. An erased one has no name (None), and never again one."""

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
            if names.get(row.sender, "") is not None:
                names[row.sender] = row.sender_name
        self._shrink()

    def forget(self, user: UUID) -> None:
        """The account is erased. Known from now on, so that a page that was read before teaches nothing."""
        self._names[user] = None
        self._shrink()

    def renamed(self, row: MailboxRow) -> MailboxRow:
        """The row without its sender's name, if he was erased since it was made."""
        gone = row.sender_name is not None and self._names.get(row.sender, row.sender_name) is None
        return replace(row, sender_name=None) if gone else row

    def _shrink(self) -> None:
        while len(self._names) > self._remembered:
            del self._names[next(iter(self._names))]
