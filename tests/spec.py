"""Given these facts, when this one is read, then that follows: specifications of the policy that read aloud."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from processors.decisions import Decision, decide
from processors.presence import NOBODY, Here, Seat, after
from schemas.events import Fact, Place, Recorded
from schemas.topics import LIFECYCLE
from tests.builders import T0_MS, recorded

PRODUCER = "processor/1"


@dataclass(frozen=True)
class Given:
    """What one recipient's processor has read, and what it knows because of it."""

    here: Here = field(default_factory=lambda: NOBODY)
    offset: int = 0
    said: Sequence[Decision] = field(default_factory=list)

    def and_then(self, *facts: Fact) -> Given:
        """The processor reads more."""
        state = self
        for fact in facts:
            state = state.read(recorded(fact, state.offset))
        return state

    def read(self, each: Recorded) -> Given:
        """The processor reads one record, wherever it stands."""
        said = [*self.said, *(outgoing.record for outgoing in decide(self.here, each, PRODUCER))]
        return Given(after(self.here, each), max(self.offset, each.place.offset) + 1, said)

    def restarted(self) -> Given:
        """Another process takes over: the rows of the table are all it knows."""
        rows = {device: Seat(row=seat.row, live=False, last=seat.row.epoch) for device, seat in self.here.items()}
        return replace(self, here=rows)

    def when(self, *facts: Fact) -> list[Decision]:
        """What is said because of these, one after the other."""
        return list(self.and_then(*facts).said[len(self.said) :])

    def when_at(self, fact: Fact, *, ms: int) -> Given:
        """The processor reads a fact that was appended so many milliseconds after the beginning."""
        return self.read(Recorded(fact, Place(LIFECYCLE, 0, self.offset), T0_MS + ms))


def given(*facts: Fact) -> Given:
    """A processor that has read these facts itself."""
    return Given().and_then(*facts)


def kinds(decisions: Iterable[Decision]) -> list[str]:
    """The kinds of records, pushes with what they order."""
    return [
        f"{type(record).__name__}:{kind}" if (kind := getattr(record, "kind", None)) else type(record).__name__
        for record in decisions
    ]
