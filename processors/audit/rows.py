"""What an audit remembers of messages, sessions, devices and accounts. Ids are numbers here, times append times in
milliseconds, places offsets of the partition: rows go to disk as plain tuples."""

from dataclasses import astuple, dataclass
from typing import Any

MARKERS_KEPT = 64


@dataclass(slots=True)
class Life:
    """A message. `flights` are the sessions that its attempt named; `repeats` later MessageStored records of its id, as
    event id, offset and time."""

    recipient: int
    sender: int
    position: int
    event: int
    stored_ms: int
    keyed: bool
    decisions: int = 0
    attempted_ms: int | None = None
    pending_ms: int | None = None
    delivered_ms: int | None = None
    read_ms: int | None = None
    flights: tuple[int, ...] = ()
    repeats: tuple[tuple[int, int, int], ...] = ()

    def pack(self) -> tuple[Any, ...]:
        """All of it, in the order of the constructor."""
        return (
            self.recipient,
            self.sender,
            self.position,
            self.event,
            self.stored_ms,
            self.keyed,
            self.decisions,
            self.attempted_ms,
            self.pending_ms,
            self.delivered_ms,
            self.read_ms,
            self.flights,
            self.repeats,
        )


@dataclass(slots=True)
class Sitting:
    """A session. `epochs` are the offsets of its latest markers; `ended` is its latest end."""

    account: int
    device: int
    gateway: str
    opened: int | None
    epochs: tuple[int, ...] = ()
    ended: int | None = None
    ended_ms: int = 0

    def pack(self) -> tuple[Any, ...]:
        """All of it, in the order of the constructor."""
        return astuple(self)


@dataclass(slots=True)
class Owned:
    """A device. `markers` are the event ids of the latest markers of its sessions, `live` the sessions without an end."""

    account: int
    registered: int
    removed_ms: int | None = None
    markers: tuple[int, ...] = ()
    live: tuple[int, ...] = ()

    def pack(self) -> tuple[Any, ...]:
        """All of it, in the order of the constructor."""
        return astuple(self)


@dataclass(slots=True)
class Gone:
    """An account that was erased."""

    offset: int
    at_ms: int

    def pack(self) -> tuple[Any, ...]:
        """All of it, in the order of the constructor."""
        return astuple(self)


@dataclass(slots=True)
class Once:
    """An event that may be in the log again."""

    offset: int

    def pack(self) -> tuple[Any, ...]:
        """All of it, in the order of the constructor."""
        return (self.offset,)
