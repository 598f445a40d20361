"""What would have been decided otherwise: the recorded facts put before another policy. Pure.

The sessions are those of the log itself, as a processor that never stopped would know them; the recorded processor may have
known less. So the policy that made the log may differ from itself a little, and by how much is worth a look first.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from processors.decisions import POLICY, Outgoing, decide
from processors.presence import NOBODY, Here, after
from schemas.events import DeliveryAttempted, MessageStored, PendingSync, Recorded
from schemas.push import Push, PushKind

Policy = Callable[[Here, Recorded, str], Sequence[Outgoing]]

MOST_WAITING: Final = 100_000
MOST_EXAMPLES: Final = 20
_PRODUCER: Final = "what-if"


def never_push(here: Here, recorded: Recorded, producer: str) -> Sequence[Outgoing]:
    """Every message waits for the next sync."""
    return decide(NOBODY, recorded, producer)


def newest_session(here: Here, recorded: Recorded, producer: str) -> Sequence[Outgoing]:
    """Only the device that connected last is pushed to."""
    newest = max(here.values(), key=lambda seat: seat.row.epoch, default=None)
    return decide(NOBODY if newest is None else {newest.row.device_id: newest}, recorded, producer)


POLICIES: Final[dict[str, Policy]] = {POLICY: decide, "never-push": never_push, "newest-session": newest_session}
"""By name: the one that decides, and others to hold against it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy does with a message: pushes it to so many sessions, or (with none) lets it wait or try in vain."""

    kind: str
    pushes: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A message that the other policy decides otherwise."""

    message_id: UUID
    partition: int
    position: int
    was: Outcome
    would_be: Outcome


@dataclass(slots=True)
class Comparison:
    """The other policy against the log, in one partition, for messages from offset `since` on. Hand in every fact from the
    partition's beginning: sessions are older than their messages."""

    policy: Policy
    since: int
    messages: int = 0
    undecided: int = 0
    recorded: Counter[str] = field(default_factory=Counter)
    other: Counter[str] = field(default_factory=Counter)
    recorded_pushes: int = 0
    other_pushes: int = 0
    differing: int = 0
    examples: list[Difference] = field(default_factory=list)
    _here: dict[UUID, Here] = field(default_factory=dict)
    _waiting: OrderedDict[UUID, tuple[int, Outcome]] = field(default_factory=OrderedDict)

    def take(self, recorded: Recorded) -> None:
        """One more fact."""
        fact = recorded.fact
        if isinstance(fact, DeliveryAttempted | PendingSync):
            self._decided(fact, recorded)
            return
        before = self._here.get(fact.recipient, NOBODY)
        if isinstance(fact, MessageStored):
            if recorded.place.offset < self.since:
                return
            self._asked(fact, recorded, before)
        now = after(before, recorded)
        if now:
            self._here[fact.recipient] = now
        else:
            self._here.pop(fact.recipient, None)

    def close(self) -> None:
        """All was handed in."""
        self.undecided += len(self._waiting)

    def _asked(self, fact: MessageStored, recorded: Recorded, here: Here) -> None:
        if fact.message_id in self._waiting:
            return  # a repeat
        outcome = _outcome(self.policy(here, recorded, _PRODUCER))
        self._waiting[fact.message_id] = (recorded.place.offset, outcome)
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popitem(last=False)
            self.undecided += 1

    def _decided(self, fact: DeliveryAttempted | PendingSync, recorded: Recorded) -> None:
        position, would_be = self._waiting.pop(fact.message_id, (0, None))
        if would_be is None:
            return  # from before, or decided once more
        pushes = sum(seen.live and seen.epoch <= fact.position for seen in fact.sessions)
        was = Outcome(type(fact).__name__, pushes)
        self.messages += 1
        self.recorded[was.kind] += 1
        self.other[would_be.kind] += 1
        self.recorded_pushes += was.pushes
        self.other_pushes += would_be.pushes
        if was != would_be:
            self.differing += 1
            if len(self.examples) < MOST_EXAMPLES:
                self.examples.append(Difference(fact.message_id, recorded.place.partition, position, was, would_be))


def _outcome(outgoing: Sequence[Outgoing]) -> Outcome:
    records = [one.record for one in outgoing]
    kinds = [type(one).__name__ for one in records if isinstance(one, DeliveryAttempted | PendingSync)]
    pushes = sum(isinstance(one, Push) and one.kind is PushKind.MESSAGE for one in records)
    return Outcome(kinds[0] if kinds else "nothing", pushes)
