"""The keyed messages of the last minutes: a repeat of one is pushed to nobody."""

from collections import OrderedDict
from uuid import UUID

WINDOW_MS = 600_000
MAX_REMEMBERED = 200_000
"""About 40 MB. With more keyed messages than that the oldest go sooner; a repeat of those is pushed again."""


class RecentIds:
    """Message ids by position, forgotten after `window_ms` of record time."""

    def __init__(self, *, window_ms: int = WINDOW_MS, limit: int = MAX_REMEMBERED) -> None:
        self._window_ms = window_ms
        self._limit = limit
        self._seen: OrderedDict[UUID, tuple[int, int]] = OrderedDict()

    def is_repeat(self, message_id: UUID, position: int, at_ms: int) -> bool:
        """True where this id stands at a lower position within the window. The same position again is a replay."""
        known = self._seen.get(message_id)
        if known is not None and known[0] < position and at_ms - known[1] <= self._window_ms:
            return True
        self._seen[message_id] = (position, at_ms)
        self._seen.move_to_end(message_id)
        self._forget(at_ms)
        return False

    def __len__(self) -> int:
        return len(self._seen)

    def _forget(self, now_ms: int) -> None:
        while self._seen:
            _, noted_ms = next(iter(self._seen.values()))
            if len(self._seen) <= self._limit and now_ms - noted_ms <= self._window_ms:
                return
            self._seen.popitem(last=False)
