"""Sessions that their own gateway has ended, in the last minutes: what that gateway wrote before, and got no answer for, may
land after the end, and must bring no session back."""

from collections import OrderedDict
from typing import Final
from uuid import UUID

from processors.decisions import decision_id
from schemas.events import Recorded, SessionClosed, SessionMarked, SessionOpened

WINDOW_MS: Final = 600_000
MAX_REMEMBERED: Final = 50_000

_KIND: Final = "late_marker"


class Over:
    """By session, forgotten after WINDOW_MS of record time."""

    def __init__(self) -> None:
        self._ends: OrderedDict[UUID, tuple[int, int, SessionClosed]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ends)

    def ended(self, fact: SessionClosed, recorded: Recorded) -> None:
        """A session has ended."""
        self._ends[fact.session_id] = (recorded.place.offset, recorded.at_ms, fact)
        self._ends.move_to_end(fact.session_id)
        while len(self._ends) > MAX_REMEMBERED or recorded.at_ms - next(iter(self._ends.values()))[1] > WINDOW_MS:
            self._ends.popitem(last=False)

    def end_again(self, marker: SessionOpened | SessionMarked, recorded: Recorded, producer: str) -> SessionClosed | None:
        """The end to write once more, where the writer of this marker had ended the session before. One that others ended,
        while its gateway was silent or had not heard of it, may come back."""
        position, _, end = self._ends.get(marker.session_id, (recorded.place.offset, 0, None))
        if end is None or position >= recorded.place.offset or end.producer != marker.producer:
            return None
        return SessionClosed(
            event_id=decision_id(None, marker.session_id, _KIND),
            producer=producer,
            recipient=marker.recipient,
            causation_id=marker.event_id,
            session_id=marker.session_id,
            device_id=marker.device_id,
            reason=end.reason,
        )
