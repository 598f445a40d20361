"""Accounts that were erased in the last minutes: an acknowledgement that was on its way then does not count, so nobody is
told of it. Older ones need not be remembered: their tokens are dead in every process, so nothing is acknowledged there."""

from collections import OrderedDict
from typing import Final
from uuid import UUID

from schemas.events import Recorded

WINDOW_MS: Final = 600_000
MAX_REMEMBERED: Final = 50_000


class Gone:
    """By account, forgotten after WINDOW_MS of record time."""

    def __init__(self) -> None:
        self._erased: OrderedDict[UUID, tuple[int, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._erased)

    def erased(self, recorded: Recorded) -> None:
        """The account of this record is erased. The first such record counts."""
        self._erased.setdefault(recorded.fact.recipient, (recorded.place.offset, recorded.at_ms))
        while len(self._erased) > MAX_REMEMBERED or recorded.at_ms - next(iter(self._erased.values()))[1] > WINDOW_MS:
            self._erased.popitem(last=False)

    def before(self, recorded: Recorded) -> bool:
        """Whether the account of this record was erased before it."""
        known = self._erased.get(recorded.fact.recipient)
        return known is not None and known[0] < recorded.place.offset
