"""A record that could not be understood, set aside with all it had, so that what comes after it can flow; and its return."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """One header of the origin."""

    name: str
    value: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """Origin, bytes and reason of one set-aside record. `producer` is the role that could not read it, `at_ms` the origin's
    append time in milliseconds."""

    event_id: UUID
    producer: str
    topic: str
    partition: int
    offset: int
    at_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """The record that had been set aside at `topic`, `partition`, `offset` was appended again, once it was understood, and
    now stands at `now_partition`, `now_offset` of the same topic. `producer` is the operator's command."""

    event_id: UUID
    producer: str
    topic: str
    partition: int
    offset: int
    now_partition: int
    now_offset: int
