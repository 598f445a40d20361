"""Acknowledgements that came over a socket: what was asked, what that means for the log, what to answer. Pure.

Messages of the session's own window need no question to the projection. What waits is taken together: one fact for as many
requests as fit, one answer each, in their order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from api.frames import Acked
from api.window import Window
from projections.reads import Found
from schemas.events import MAX_ENTRIES, Entry, MessagesDelivered, MessagesRead

MAX_REQUESTS: Final = 512
MAX_IDS: Final = 4_000
"""What may wait on a session; beyond that nobody reads its frames. A client that acknowledges each message of a full window
by itself stays below."""

Kind = type[MessagesDelivered] | type[MessagesRead]


@dataclass(frozen=True, slots=True)
class Request:
    """An `ack` or `read` frame."""

    n: int
    kind: Kind
    ids: Sequence[UUID]


class Requests:
    """What waits to be appended, in the order in which it came."""

    __slots__ = ("_ids", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[Request] = []
        self._ids = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def full(self) -> bool:
        """Whether no more should be taken from the socket."""
        return len(self._waiting) >= MAX_REQUESTS or self._ids >= MAX_IDS

    def add(self, request: Request) -> None:
        """One more."""
        self._waiting.append(request)
        self._ids += len(request.ids)

    def take(self) -> list[Request]:
        """The first ones of one kind, as many as one fact can hold."""
        count, ids = 0, 0
        kind = self._waiting[0].kind
        for request in self._waiting:
            ids += len(request.ids)
            if request.kind is not kind or (count and ids > MAX_ENTRIES):
                break
            count += 1
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        self._ids -= sum(len(request.ids) for request in taken)
        return taken


@dataclass(slots=True)
class Plan:
    """What a group of requests comes to. `entries` go into one fact. `foreign` ids are not in the window: before the plan is
    complete, tell it what the projection knows of them."""

    kind: Kind
    requests: Sequence[Request]
    entries: dict[UUID, Entry]
    foreign: list[UUID]
    already: set[UUID]

    @classmethod
    def of(cls, requests: Sequence[Request], window: Window) -> "Plan":
        """As far as the window knows."""
        entries: dict[UUID, Entry] = {}
        foreign: dict[UUID, None] = {}
        for request in requests:
            for message_id in request.ids:
                entry = window.entry(message_id)
                if entry is None:
                    foreign[message_id] = None
                else:
                    entries[message_id] = entry
        return cls(requests[0].kind, requests, entries, list(foreign), set())

    def learn(self, found: Iterable[Found]) -> None:
        """What the projection knows of the foreign ids; those it does not know are unknown."""
        for row in found:
            if row.delivered_to_device and (row.read or self.kind is MessagesDelivered):
                self.already.add(row.message_id)
            else:
                entry = Entry(message_id=row.message_id, position=row.position, sender=row.sender)
                self.entries[row.message_id] = entry

    def drop_foreign(self) -> list[Request]:
        """Nobody knows about the foreign ids now: the requests that name some. What else they name is acknowledged."""
        foreign = set(self.foreign)
        dropped = [request for request in self.requests if not foreign.isdisjoint(request.ids)]
        self.requests = [request for request in self.requests if request not in dropped]
        return dropped

    def in_order(self) -> tuple[Entry, ...]:
        """The entries of the fact, by position."""
        return tuple(sorted(self.entries.values(), key=lambda entry: entry.position))

    def answers(self) -> Iterable[Acked]:
        """One answer a request, once the log has the fact. An id that two requests name belongs to the first."""
        new = set(self.entries)
        for request in self.requests:
            ids = dict.fromkeys(request.ids)
            yield Acked(
                n=request.n,
                acknowledged=[one for one in ids if one in new],
                already=[one for one in ids if one not in new and (one in self.entries or one in self.already)],
                unknown=[one for one in ids if one not in self.entries and one not in self.already],
            )
            new.difference_update(ids)
