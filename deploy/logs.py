"""The log lines of the roles: JSON on standard error, readable text on a terminal, with a closed list of fields.

A field that is not in the list is left out and named in `dropped`, so that no body, token or name gets into a log by a new
call; a test holds the calls to the list. Lines of the libraries come through the same door.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

import structlog
from structlog.typing import Processor

FIELDS: Final[Mapping[str, str]] = {
    "event": "what happened, always the same words for the same thing",
    "level": "debug, info, warning or error",
    "timestamp": "when, RFC 3339 in UTC",
    "role": "the process: api, processor, projector, notary or up",
    "logger": "the module that says it",
    "error": "an error's kind and text",
    "exception": "where an unforeseen error came from",
    "trace": "the same, as lines",
    "at": "the places in our code that an error passed",
    "causes": "the kinds of the errors behind an error",
    "url": "where callers find it",
    "admin_url": "where its metrics and health are",
    "request_id": "the request, as its answer names it",
    "route": "the route's pattern, without what was put into it",
    "method": "the HTTP method",
    "status": "the HTTP status",
    "code": "the problem code of an answer",
    "seconds": "how long it took or was waited for",
    "topic": "a topic",
    "partition": "a partition of it",
    "partitions": "several of them",
    "offset": "a place in a partition",
    "first": "the first offset of a run of records",
    "count": "how many",
    "number": "the number of a notary's statement",
    "lag": "records that wait, by partition",
    "were": "what a thing was before",
    "are": "what it is now",
    "reason": "why, in our own words",
    "message_id": "a message; ids say nothing about who or what",
    "session": "a session",
    "sessions": "how many of them",
    "gateway": "a gateway process",
    "gateways": "several of them",
    "migration": "a migration's name",
}
REPEAT_SECONDS: Final = 10.0
_REMEMBERED: Final = 500
_NOISY: Final = ("aiokafka", "faust", "mode", "kafka", "asyncio", "uvicorn", "psycopg")


def configure(level: str, role: str) -> None:
    """Set up the logs of this process; `level` is a word of RESTANTE_LOG_LEVEL. Safe to call again."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                *shared,
                structlog.stdlib.PositionalArgumentsFormatter(),
                structlog.processors.format_exc_info,
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _Named(role),
                known_fields_only,
                _renderer(),
            ],
        )
    )
    handler.addFilter(Sparing())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(threshold)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))
    logging.captureWarnings(True)


class Sparing(logging.Filter):
    """Lets a library say the same thing once in `REPEAT_SECONDS`: while a server is away aiokafka writes a hundred lines a
    second. Our own lines all pass. The same thing is the same words before anything was put into them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line is written."""
        if record.name.partition(".")[0] not in _NOISY:
            return True
        now, words = self._clock(), (record.name, str(record.msg)[:200])
        if now < self._said.get(words, now):
            return False
        if len(self._said) >= _REMEMBERED:
            self._said.clear()
        self._said[words] = now + REPEAT_SECONDS
        return True


class _Named:
    """Puts the role on every line."""

    def __init__(self, role: str) -> None:
        self._role = role

    def __call__(self, logger: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        line["role"] = self._role
        return line


def known_fields_only(logger: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Leave out what is not in FIELDS, and say that it was."""
    unknown = sorted(name for name in line if name not in FIELDS)
    for name in unknown:
        del line[name]
    if unknown:
        line["dropped"] = unknown
    return line


def _renderer() -> Processor:
    if sys.stderr.isatty():
        return structlog.dev.ConsoleRenderer(timestamp_key="timestamp")
    return structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
