"""Times as the outside sees them: RFC 3339 in UTC with milliseconds."""

from datetime import UTC, datetime
from functools import lru_cache


def rfc3339(ms: int) -> str:
    """Milliseconds since the epoch, such as `2026-11-23T12:00:00.123Z`."""
    seconds, rest = divmod(ms, 1000)
    return f"{_second(seconds)}.{rest:03}Z"


def maybe_rfc3339(ms: int | None) -> str | None:
    """The same for a time that may not have come yet."""
    return None if ms is None else rfc3339(ms)


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
