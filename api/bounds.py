"""How long a connection may take and how large what it says may be: the numbers, one table for the documentation, and what
is answered where they are exceeded. They hold whatever RESTANTE_RATE_LIMITS says."""

from typing import Final

CONNECTIONS: Final = 20_000
"""Open connections of a process, sockets included; fewer where the system gives it fewer files."""

HEAD_BYTES: Final = 32_768
URL_BYTES: Final = 8_192
HEADERS: Final = 100
PIPELINED: Final = 16
"""Requests of a connection that wait for the answer to an earlier one."""

HANDSHAKE_SECONDS: Final = 10.0
HEAD_SECONDS: Final = 10.0
BODY_SECONDS: Final = 20.0
BODY_RATE: Final = 16_384
"""A body has another second for each so many bytes that came."""

LINGER_SECONDS: Final = 5.0
"""For so long the rest of a request is taken that was answered already, so that its sender gets to read why."""

STALLED_SECONDS: Final = 30.0
TAKE_SECONDS: Final = 120.0

STRANGERS: Final = 500
STRANGERS_EACH: Final = 100

TABLE: Final[tuple[tuple[str, str, str], ...]] = (
    ("open connections", f"{CONNECTIONS:,} a process, half of them of one address", "503 `overloaded`, closed"),
    ("TLS handshake", f"{HANDSHAKE_SECONDS:g} s", "closed"),
    ("head of a request, from its first byte or the connection's", f"{HEAD_SECONDS:g} s", "408 `request_timeout`, closed"),
    ("the same", f"{HEAD_BYTES:,} bytes, {HEADERS} headers", "431 `headers_too_large`, closed"),
    ("URL", f"{URL_BYTES:,} bytes", "414 `url_too_long`, closed"),
    ("body", f"{BODY_SECONDS:g} s, and 1 s more for each {BODY_RATE:,} bytes", "408 `request_timeout`, closed"),
    ("requests sent ahead of an answer", f"{PIPELINED}", "closed"),
    ("an answer that waits to be read", f"{STALLED_SECONDS:g} s without a byte taken, {TAKE_SECONDS:g} s in all", "closed"),
    ("sockets without a token yet", f"{STRANGERS:,} a process, {STRANGERS_EACH} of one address", "429 `rate_limited`"),
)
"""What, at most, and else; the rows of docs/limits.md."""
