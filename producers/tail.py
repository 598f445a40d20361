"""The port: reading a topic as it grows, wholly and without a group. Nothing is committed; a restart begins anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from schemas.codec import Record


@dataclass(frozen=True, slots=True)
class Tailed:
    """One record as a tail read it: its place, and the broker's append time in milliseconds since the epoch."""

    record: Record
    partition: int
    offset: int
    at_ms: int


class Tail(Protocol):
    """A reader of one topic, or of one of its partitions, from its end or its beginning on.

    `async with` opens it and returns once it knows where it begins: whatever is appended after that is read. Records that
    cannot be decoded are left out. It goes on by itself after the broker was away; where records it had not read were
    deleted meanwhile, it goes on with the first one there is. So it suits topics that hold hints, not truth.
    """

    async def take(self) -> Sequence[Tailed]:
        """What came since the last call, in the order of each partition; waits until there is something."""

    def reached(self) -> Mapping[int, int]:
        """For each partition the offset after the last record that `take` has given (or left out)."""

    async def ends(self) -> Mapping[int, int]:
        """For each partition the offset after its last record, asked after this call began. Raises `LogUnavailable` within
        DEADLINE_SECONDS."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *failure: object) -> None: ...
