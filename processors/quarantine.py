"""Records that cannot be understood are set aside with all they had, up to a limit."""

from collections import deque
from collections.abc import Iterable
from typing import Final, Protocol

from processors.errors import TooManyQuarantined
from schemas.ids import derived_id
from schemas.quarantined import Header, Quarantined

LIMIT: Final = 100
WINDOW: Final = 1000
MAX_VALUE_BYTES: Final = 900_000
"""A value longer than this is cut, so that the record about it fits into the log; the origin keeps it whole."""


class Fetched(Protocol):
    """A record as it comes from Kafka."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Iterable[tuple[str, bytes | None]]: ...


def quarantined(record: Fetched, reason: str, producer: str) -> Quarantined:
    """What is kept of an undecodable record. The same record gives the same event id."""
    value = record.value
    if value is not None and len(value) > MAX_VALUE_BYTES:
        reason = f"{reason} (value cut from {len(value)} to {MAX_VALUE_BYTES} bytes)"
        value = value[:MAX_VALUE_BYTES]
    place = f"{record.topic}/{record.partition}/{record.offset}".encode()
    return Quarantined(
        event_id=derived_id(place, producer.partition("/")[0].encode(), b"quarantined"),
        producer=producer,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        at_ms=record.timestamp,
        key=record.key,
        value=value,
        headers=tuple(Header(name=name, value=held) for name, held in record.headers),
        reason=reason,
    )


class Allowance:
    """How many undecodable records are borne: `limit` among any `window` records that were decoded or set aside."""

    def __init__(self, *, limit: int = LIMIT, window: int = WINDOW) -> None:
        self._limit = limit
        self._window = window
        self._read = 0
        self._bad: deque[int] = deque()

    def good(self) -> None:
        """A record was understood."""
        self._read += 1

    def bad(self, reason: str) -> None:
        """A record was not. Raises `TooManyQuarantined` above the limit."""
        self._read += 1
        self._bad.append(self._read)
        while self._bad[0] <= self._read - self._window:
            self._bad.popleft()
        if len(self._bad) > self._limit:
            raise TooManyQuarantined(
                f"{len(self._bad)} of the last {self._window} records could not be understood; the last: {reason}"
            )
