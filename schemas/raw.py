"""A record before anybody has understood it."""

from typing import NamedTuple


class RawRecord(NamedTuple):
    """One record as the broker keeps it: its place, the append time (milliseconds since 1970, UTC), and its bytes."""

    partition: int
    offset: int
    at_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
