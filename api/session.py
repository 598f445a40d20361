"""One session: what its socket has, what it lacks, and what may be sent next. Pure: no I/O, no clock."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """Times in seconds. `window` messages or `window_bytes` of sealed bodies may be unacknowledged on a session; an account
    may have `sockets` in this process."""

    ack_timeout: float = 15.0
    heartbeat: float = 25.0
    lease: float = 15.0
    window: int = 256
    window_bytes: int = 1_048_576
    sockets: int = 32
