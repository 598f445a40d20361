from __future__ import annotations

import ast
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from deploy.logs import FIELDS, REPEAT_SECONDS, Sparing, known_fields_only

ROOT = Path(__file__).parents[3]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def calls() -> Iterator[tuple[str, str]]:
    """Where something is logged, and each field that it names."""
    for package in ("schemas", "producers", "processors", "projections", "api", "deploy"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                match node:
                    case ast.Call(func=ast.Attribute(value=ast.Name(id="log" | "_log" | "logger" | "_logger"), attr=level)):
                        if level in LEVELS:
                            yield from ((f"{file.name}:{node.lineno}", word.arg or "**") for word in node.keywords)


def test_every_field_that_is_logged_has_a_meaning() -> None:
    found = list(calls())
    assert found, "the search finds nothing: has the way of logging changed?"
    assert [call for call in found if call[1] not in FIELDS and call[1] not in ("exc_info", "extra")] == []


def test_unknown_fields_are_left_out_and_named() -> None:
    line = known_fields_only(None, "info", {"event": "x", "body": "secret", "token": "secret", "offset": 3})
    assert line == {"event": "x", "offset": 3, "dropped": ["body", "token"]}


def test_lines_are_json_where_nobody_looks_at_a_terminal() -> None:
    code = """
import logging, structlog
from deploy.logs import configure
configure("info", role="api")
structlog.get_logger("here").warning("it happened", offset=3, body="secret")
structlog.get_logger("here").debug("too quiet")
logging.getLogger("uvicorn.error").warning("a library says %s", "so")
try:
    raise ValueError("wrong")
except ValueError:
    structlog.get_logger("here").exception("unforeseen")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    first, second, third = (json.loads(line) for line in done.stderr.splitlines())
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "event": "it happened",
        "offset": 3,
        "level": "warning",
        "logger": "here",
        "role": "api",
        "dropped": ["body"],
    }
    assert (second["event"], second["role"]) == ("a library says so", "api")
    assert "ValueError: wrong" in third["exception"]


def test_a_library_repeats_itself_only_after_a_while_and_we_as_often_as_we_like() -> None:
    now = [0.0]
    sparing = Sparing(clock=lambda: now[0])

    def written(name: str, words: str, *put_in: object) -> bool:
        return sparing.filter(logging.LogRecord(name, logging.ERROR, "x.py", 1, words, put_in, None))

    assert [written("aiokafka.conn", "Unable to connect to %s", port) for port in range(3)] == [True, False, False]
    assert written("aiokafka.conn", "Something else")
    assert written("aiokafka.client", "Unable to connect to %s", 1)
    assert [written("producers.kafka", "producer_not_reopened") for _ in range(3)] == [True, True, True]
    now[0] = REPEAT_SECONDS
    assert [written("aiokafka.conn", "Unable to connect to %s", port) for port in range(2)] == [True, False]
    assert sum(written("aiokafka.conn", f"made of parts {number}") for number in range(2000)) == 2000
