"""Whatever a call says that it must not say: a problem from the closed table."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.acceptance.answers import complete, good, problem
from tests.acceptance.people import Device, bodies

JSON = {"Content-Type": "application/json"}
ID = str(uuid.UUID(int=7))
BAD = ("invalid_request",)
BROKEN = ("malformed",)
NO_NAMES = ["", "A", "-a", ".a", "a b", "a\n", "é", "a/b", "a" * 64, "a\0", " a", "a@b", "*"]
ODD_JSON = {
    "nothing": b"",
    "a brace": b"{",
    "cut": b'{"to": "x", "body": "y"',
    "single quotes": b"{'to': 'x', 'body': 'y'}",
    "more after it": b'{"to": "x", "body": "y"}{}',
    "a comma too many": b'{"to": "x", "body": "y",}',
    "NaN": b'{"to": "x", "body": NaN}',
    "bad UTF-8": b'{"to": "x", "body": "\xff\xfe"}',
    "overlong UTF-8": b'{"to": "x", "body": "\xc0\x80"}',
    "a surrogate in UTF-8": b'{"to": "x", "body": "\xed\xa0\x80"}',
    "UTF-16": '{"to": "x", "body": "y"}'.encode("utf-16"),
    "a raw control character": b'{"to": "x", "body": "\x01"}',
    "deep": b"[" * 60_000,
    "deep and whole": b"[" * 20_000 + b"]" * 20_000,
    "form": b"to=x&body=y",
    "gzip": b"\x1f\x8b\x08\x00",
    "NUL": b"\0",
}
NOT_MESSAGES: dict[str, Any] = {
    "null": None,
    "a list": [],
    "a word": "x",
    "a number": 7,
    "empty": {},
    "no recipient": {"body": "x"},
    "no body": {"to": "x"},
    "two bodies": {"to": "x", "body": "y", "body_base64": "eQ=="},
    "null body": {"to": "x", "body": None},
    "body of another type": {"to": "x", "body": 7},
    "body as list": {"to": "x", "body": ["y"]},
    "recipient of another type": {"to": ["x"], "body": "y"},
    "recipient as id": {"to": {"user_id": ID}, "body": "y"},
    "unknown field": {"to": "x", "body": "y", "status": "Read"},
    "key as field": {"to": "x", "body": "y", "idempotency_key": "k"},
    "content type of another type": {"to": "x", "body": "y", "content_type": 7},
    "content type with a line break": {"to": "x", "body": "y", "content_type": "text/plain\r\nx: y"},
    "content type with U+0000": {"to": "x", "body": "y", "content_type": "text/plain\0"},
    "content type that is none": {"to": "x", "body": "y", "content_type": "text"},
    "base64 that is none": {"to": "x", "body_base64": "***"},
    **{f"recipient {name!r}": {"to": name, "body": "y"} for name in NO_NAMES},
}
NOT_IDS: dict[str, Any] = {
    "none": {},
    "empty": {"ids": []},
    "a word": {"ids": "x"},
    "a single id": {"ids": ID},
    "no ids": {"ids": ["x"]},
    "numbers": {"ids": [1]},
    "nulls": {"ids": [None]},
    "501": {"ids": [ID] * 501},
    "unknown field": {"ids": [ID], "all": True},
    "NUL": {"ids": [ID[:-1] + "\0"]},
}
PAGES = {
    "limit": ["0", "-1", "501", "1e3", "abc", "", "1.5", "9" * 100, "0x10", " 7", "٣", "null"],
    "wait": ["-1", "30.1", "31", "abc", "", "1e9", "nan", "inf", "9" * 400],
    "stale": ["yes", "", "OK", "true"],
}


@dataclass(frozen=True, slots=True)
class Call:
    """A row of the table: a call, and the codes that may answer it."""

    method: str
    path: str
    content: Any = None
    codes: tuple[str, ...] = BAD
    raw: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


def _rows() -> Iterator[tuple[str, Call]]:
    for name, raw in ODD_JSON.items():
        codes = (*BROKEN, *BAD) if name == "deep and whole" else BROKEN
        for path in ("/messages", "/messages/ack"):
            yield f"{path}: {name}", Call("POST", path, raw=raw, codes=codes)
    for name, content in NOT_MESSAGES.items():
        yield f"message: {name}", Call("POST", "/messages", content)
    for path in ("/messages/ack", "/messages/read", "/messages/status"):
        for name, content in NOT_IDS.items():
            yield f"{path}: {name}", Call("POST", path, content)
    yield "ack: both", Call("POST", "/messages/ack", {"ids": [ID], "up_to": "x"}, codes=(*BAD, "bad_cursor"))
    for content in ([], {}, {"messages": {}}, {"messages": None}, {"messages": [{"to": "x", "body": "y"}], "atomic": True}):
        yield f"batch: {content}", Call("POST", "/messages/batch", content)
    for parameter, values in PAGES.items():
        for value in values:
            yield f"sync: {parameter}={value[:20]!r}", Call("GET", f"/messages/sync?{parameter}={value}")
    for query in ("all=1", "limit=1&x=", "Limit=1", "cursor=x&token=y", "limit=1&limit=2", "limit[]=1"):
        yield f"sync: {query}", Call("GET", f"/messages/sync?{query}")
    for query in ("cursor=%FF%FE", "limit=%"):
        yield f"sync: {query}", Call("GET", f"/messages/sync?{query}", codes=(*BROKEN, *BAD, "bad_cursor"))
    for path in (f"/messages/{ID}", f"/messages/{ID}/trail"):
        yield f"{path}: unknown parameter", Call("GET", f"{path}?x=1", codes=BAD)
    yield "message with a parameter", Call("POST", "/messages?x=1", {"to": "x", "body": "y"})


def _accounts() -> Iterator[tuple[str, Call]]:
    good_name, good_password = "a-fine-name", "long enough"
    for name in NO_NAMES:
        yield f"account {name!r}", Call("POST", "/accounts", {"name": name, "password": good_password})
    for password in ("", "seven77", "é" * 513, "x" * 1025, "x" * 8 + "\0", 12345678, None, ["long enough"]):
        shown = repr(password)[:20]
        yield f"password {shown}", Call("POST", "/accounts", {"name": good_name, "password": password})
    for label in ("", "x" * 65, "a\0", "a\n", "\x7f", "a\u200b", 7, None):
        login = {"name": good_name, "password": good_password, "device": label}
        yield f"device {label!r:.20}", Call("POST", "/tokens", login)
    yield "account with more", Call("POST", "/accounts", {"name": good_name, "password": good_password, "admin": True})
    yield "login without a device", Call("POST", "/tokens", {"name": good_name, "password": good_password})
    for path in ("/accounts", "/tokens"):
        yield f"{path}: broken", Call("POST", path, raw=b"{", codes=BROKEN)
        yield f"{path}: a list", Call("POST", path, [])


def _media() -> Iterator[tuple[str, Call]]:
    message = b'{"to": "x", "body": "y"}'
    for kind in (
        "text/plain",
        "application/xml",
        "application/json; charset=utf-16",
        "multipart/form-data; boundary=x",
        "x",
    ):
        call = Call("POST", "/messages", raw=message, codes=("unsupported_media_type",), headers={"Content-Type": kind})
        yield f"as {kind}", call


def _methods() -> Iterator[tuple[str, Call]]:
    for method, path in [
        ("GET", "/accounts"),
        ("PUT", "/tokens"),
        ("PUT", "/messages"),
        ("DELETE", "/messages"),
        ("POST", "/messages/sync"),
        ("GET", "/messages/ack"),
        ("PATCH", "/messages/read"),
        ("POST", f"/messages/{ID}"),
        ("DELETE", f"/messages/{ID}/trail"),
        ("POST", "/health"),
        ("DELETE", "/openapi.json"),
        ("QUERY", "/messages/sync"),
    ]:
        yield f"{method} {path}", Call(method, path, codes=("method_not_allowed",))


def _paths() -> Iterator[tuple[str, Call]]:
    for path in (
        "/nothing",
        "/messages/",
        "//messages/sync",
        "/messages//sync",
        "/Messages/sync",
        "/messages/sync/",
        "/messages/%2e%2e/accounts",
        "/messages/..%2f..%2fetc%2fpasswd",
        "/messages%00",
        "/messages/%00",
        "/messages/%FF%FE",
        "/messages/" + "x" * 8000,
        f"/messages/{ID}/trail/more",
        "/%",
        "/;jsessionid=1",
        "/.env",
    ):
        yield path[:60], Call("GET", path, codes=("not_found", "message_unknown", *BAD, *BROKEN))


TABLE = dict([*_rows(), *_accounts(), *_media(), *_methods(), *_paths()])


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE.keys())
def test_it_is_refused_with_a_problem(eve: Device, row: Call) -> None:
    raw = row.raw if row.raw is not None else b"" if row.content is None and row.method == "GET" else json.dumps(row.content)
    answer = eve.call(row.method, row.path, content=raw, headers={**JSON, **row.headers})
    said = problem(answer, *row.codes)
    assert said["status"] < 500


def test_the_fault_is_named(eve: Device) -> None:
    said = problem(eve.call("POST", "/messages", json={"to": "x", "body": "y", "colour": "red"}), "invalid_request")
    assert [fault["field"] for fault in said["errors"]] == ["colour"]
    said = problem(eve.call("GET", "/messages/sync?limit=501"), "invalid_request")
    assert [fault["field"] for fault in said["errors"]] == ["limit"]
    said = problem(eve.call("POST", "/messages/ack", json={"ids": [ID, "x"]}), "invalid_request")
    assert [fault["field"] for fault in said["errors"]] == ["ids[1]"]


def test_in_a_batch_each_is_judged_on_its_own(eve: Device) -> None:
    wrong: list[Any] = [7, None, {}, [], {"to": eve.name, "body": 7}, {"to": eve.name, "body": "x", "colour": "red"}]
    answer = good(eve.batch([*wrong, {"to": eve.name, "body": "fine"}]), 202)
    assert (answer["accepted"], answer["rejected"]) == (1, len(wrong))
    for result in answer["results"][:-1]:
        complete(result["problem"])
        assert result["problem"]["code"] == "invalid_request"
    assert bodies(eve.drain()) == ["fine"]
    none = good(eve.batch(wrong), 202)
    assert (none["accepted"], none["rejected"]) == (0, len(wrong))


class TestLoneSurrogates:
    """JSON can write half a character, UTF-8 cannot: it must not come to a fault, wherever it stands."""

    @pytest.mark.parametrize("field", ["to", "body", "body_base64", "content_type"])
    def test_in_a_message(self, eve: Device, field: str) -> None:
        message = {"to": eve.name, "body": "x", field: "\ud800"}
        answer = eve.call("POST", "/messages", content=json.dumps(message), headers=JSON)
        problem(answer, "malformed", "invalid_request")

    @pytest.mark.parametrize("field", ["name", "password", "device"])
    def test_in_a_login(self, eve: Device, field: str) -> None:
        login = {"name": eve.name, "password": "long enough", "device": "phone", field: "\udfff" * 8}
        answer = eve.call("POST", "/tokens", content=json.dumps(login), headers=JSON)
        problem(answer, "malformed", "invalid_request")
