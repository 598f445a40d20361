"""What every answer has to look like, whatever it answers."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx2

from api.problems import PROBLEMS

_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|\+00:00)")
_FIELDS = {"type", "title", "status", "detail", "code", "request_id"}
_EXTRA = {"errors", "outcome", "id", "results"}


def moment(text: Any) -> datetime:
    """A time as the contract writes it: RFC 3339 in UTC."""
    assert isinstance(text, str), text
    assert _UTC.fullmatch(text), text
    found = datetime.fromisoformat(text)
    assert found.tzinfo is not None
    return found


def at_ms(text: Any) -> int:
    """The same as the log counts: milliseconds since 1970."""
    return round((moment(text) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)


def identifier(text: Any) -> UUID:
    """An id as the contract writes it: a lower-case UUID."""
    found = UUID(text)
    assert str(found) == text, text
    return found


def good(answer: httpx2.Response, status: int = 200) -> dict[str, Any]:
    """The content of an answer that must be a success with JSON in it."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/json", answer.headers
    content: dict[str, Any] = answer.json()
    return content


def personal(answer: httpx2.Response, status: int = 200) -> dict[str, Any]:
    """The same where the content is somebody's own, and no cache may keep it."""
    assert answer.headers.get("cache-control") == "no-store", answer.headers
    return good(answer, status)


def problem(answer: httpx2.Response, *codes: str) -> dict[str, Any]:
    """The problem details of an answer that must be a refusal with one of these codes, from the one closed table."""
    assert answer.headers.get("content-type") == "application/problem+json", (answer.status_code, answer.text)
    said: dict[str, Any] = answer.json()
    complete(said)
    assert said["code"] in codes, said
    assert answer.status_code == said["status"], (answer.status_code, said)
    if said["status"] == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
    if said["status"] == 405:
        assert answer.headers["allow"]
    if said["status"] in (429, 503):
        assert int(answer.headers["retry-after"]) >= 0
    return said


def complete(said: dict[str, Any]) -> None:
    """Problem details, also those inside a batch's results: RFC 9457, all fields, code and status from the table."""
    assert said.keys() >= _FIELDS, said
    assert said.keys() <= _FIELDS | _EXTRA, said
    assert said["type"] == f"urn:restante:problem:{said['code']}"
    assert PROBLEMS[said["code"]].status == said["status"]
    assert all(isinstance(said[name], str) and said[name] for name in ("title", "detail", "request_id")), said
    if said["code"] == "invalid_request":
        assert said["errors"], said
        assert all(fault.keys() == {"field", "detail"} for fault in said["errors"]), said
    assert "Traceback" not in str(said)
