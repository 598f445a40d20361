"""From bytes to a checked request: what is malformed, what is invalid, and which field is named."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.batches import messages_of
from api.calls import Call, ClientGone, decoded
from api.contents import content_of_message, idempotency_key
from api.logins import check_printable
from api.models import BatchMessage, IdList, NewAccount, NewMessage, SyncQuery
from api.passwords import check_password
from api.problems import Problem
from api.sealing import parts_of

pytestmark = pytest.mark.anyio
MESSAGE = msgspec.json.Decoder(NewMessage)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def refusal(raw: bytes, shape: Any = NewMessage) -> Problem:
    with pytest.raises(Problem) as refused:
        decoded(raw, msgspec.json.Decoder(shape))
    return refused.value


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"to":"bob","body":"x"} x',
        b"\xef\xbb\xbf{}",
        b'{"to":"\xff"}',
        b'{"to":"bob","body":"\xed\xa0\x80"}',
        b'{"to":"bob","body":"\\ud800"}',
        b'{"to":"bob","body":"a\x00b"}',
        b'{"to":NaN}',
        b"'to'",
        b'{"to":1',
        b'{"other":1,',
        b'{"to":"bob","other":' + b"[" * 100_000,
        b'{"to":"bob","other":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_json_is_malformed(raw: bytes) -> None:
    assert refusal(raw).code == "malformed"


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"[]", "$"),
        (b"null", "$"),
        (b"{}", "to"),
        (b'{"to":1}', "to"),
        (b'{"to":null}', "to"),
        (b'{"to":"Bob"}', "to"),
        (b'{"to":"bob\\n"}', "to"),
        (b'{"to":"bob\\u0000"}', "to"),
        (b'{"to":""}', "to"),
        (b'{"to":"' + b"b" * 64 + b'"}', "to"),
        (b'{"to":"bob","body":1}', "body"),
        (b'{"to":"bob","body":null}', "body"),
        (b'{"to":"bob","form":"x"}', "form"),
        (b'{"to":"bob","content_type":"text"}', "content_type"),
        (b'{"to":"bob","content_type":"text/plain\\r\\nx: y"}', "content_type"),
        (b'{"to":"bob","content_type":"' + b"a" * 300 + b'/x"}', "content_type"),
    ],
)
def test_what_is_wrong_names_its_field(raw: bytes, field: str) -> None:
    problem = refusal(raw)
    assert (problem.code, [fault.field for fault in problem.errors]) == ("invalid_request", [field])


def test_a_field_inside_a_list_has_its_place() -> None:
    ids = json.dumps({"ids": ["018f3f3e-1111-7111-8111-111111111111", "x"]}).encode()
    assert refusal(ids, IdList).errors[0].field == "ids[1]"


@pytest.mark.parametrize("count", [0, 501])
def test_lists_of_ids_have_1_to_500(count: int) -> None:
    ids = json.dumps({"ids": ["018f3f3e-1111-7111-8111-111111111111"] * count}).encode()
    assert refusal(ids, IdList).errors[0].field == "ids"


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_problem(raw: bytes) -> None:
    try:
        decoded(raw, MESSAGE)
    except Problem as problem:
        assert problem.status in (400, 422)


def refused_content(**message: Any) -> Problem:
    with pytest.raises(Problem) as refused:
        content_of_message(NewMessage(to="bob", **message))
    return refused.value


def test_content_types_have_their_defaults() -> None:
    assert parts_of(content_of_message(NewMessage(to="bob", body="hé"))) == (0, "text/plain", "hé".encode())
    assert parts_of(content_of_message(NewMessage(to="bob", body_base64="AP8="))) == (
        1,
        "application/octet-stream",
        b"\0\xff",
    )
    assert parts_of(content_of_message(NewMessage(to="bob", body="", content_type="a/b"))) == (0, "a/b", b"")


def test_there_is_exactly_one_body() -> None:
    assert refused_content().errors[0].field == "body"
    assert refused_content(body="x", body_base64="eA==").errors[0].field == "body"


@pytest.mark.parametrize("text", ["eA", "eA=", "e A==", "eA==\n", "eB==", "e-A=", "é===", "=", "eA==eA==", "\0"])
def test_base64_is_strict_so_that_it_comes_back_as_it_was_sent(text: str) -> None:
    assert refused_content(body_base64=text).errors[0].field == "body_base64"


def test_a_body_has_65536_bytes_at_most() -> None:
    import base64

    content_of_message(NewMessage(to="bob", body="é" * 32_768))
    content_of_message(NewMessage(to="bob", body_base64=base64.b64encode(b"x" * 65_536).decode()))
    assert refused_content(body="é" * 32_768 + "x").code == "body_too_large"
    assert refused_content(body_base64=base64.b64encode(b"x" * 65_537).decode()).code == "body_too_large"
    assert refused_content(body_base64="A" * 10_000_000).code == "body_too_large"


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (None, None),
        (b"k", "k"),
        (b'"k"', "k"),
        (b'"', '"'),
        (b'"k', '"k'),
        (b"a b", "a b"),
        ("schlüssel".encode(), "schlüssel"),
        (b"k" * 255, "k" * 255),
        (b'"' + b"k" * 255 + b'"', "k" * 255),
    ],
)
def test_enclosing_quotes_are_no_part_of_an_idempotency_key(header: bytes | None, key: str | None) -> None:
    assert idempotency_key(header) == key


@pytest.mark.parametrize("header", [b"", b'""', b"k" * 256, b"a\tb", b"a\x7f", b"\xff", "a\u200bb".encode()])
def test_an_idempotency_key_has_1_to_255_printable_characters(header: bytes) -> None:
    with pytest.raises(Problem) as refused:
        idempotency_key(header)
    assert refused.value.errors[0].field == "Idempotency-Key"


def test_passwords_are_counted_in_bytes() -> None:
    check_password("é" * 4)
    check_password("é" * 512)
    for password in ("1234567", "é" * 3, "é" * 513, "1234567\0"):
        with pytest.raises(Problem, match="invalid_request"):
            check_password(password)
    assert refusal(b'{"name":"bob","password":"x"}', NewAccount).errors[0].field == "password"


def test_labels_are_printable() -> None:
    check_printable("device", "Bob's phone 📱")
    for label in ("a\nb", "a\0b", "\u202eb", "a\u2028b"):
        with pytest.raises(Problem, match="invalid_request"):
            check_printable("device", label)


def call(query: bytes = b"", headers: Any = (), *messages: dict[str, Any]) -> Call:
    waiting = iter(messages)

    async def receive() -> Any:
        return next(waiting)

    return Call({"type": "http", "query_string": query, "headers": list(headers)}, receive, "r")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (b"", (100, 0)),
        (b"limit=5&wait=2.5", (5, 2.5)),
        (b"limit=500&wait=30", (500, 30)),
        (b"limit=1&wait=0", (1, 0)),
    ],
)
def test_query_parameters_are_values(query: bytes, said: tuple[int, float]) -> None:
    read = call(query).query(SyncQuery)
    assert (read.limit, read.wait) == said


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (b"limit=0", "limit"),
        (b"limit=501", "limit"),
        (b"limit=-1", "limit"),
        (b"limit=99999999999999999999999", "limit"),
        (b"limit=1.5", "limit"),
        (b"limit=", "limit"),
        (b"limit=%D9%A1", "limit"),
        (b"wait=31", "wait"),
        (b"wait=nan", "wait"),
        (b"wait=-1", "wait"),
        (b"stale=yes", "stale"),
        (b"other=1", "other"),
        (b"limit=1&limit=2", "limit"),
    ],
)
def test_a_bad_query_parameter_is_named(query: bytes, field: str) -> None:
    with pytest.raises(Problem) as refused:
        call(query).query(SyncQuery)
    assert (refused.value.code, refused.value.errors[0].field) == ("invalid_request", field)


@pytest.mark.parametrize("query", [b"cursor=%ff", b"cursor=\xff", b"&".join(b"a%d=1" % n for n in range(40))])
def test_a_query_that_is_none_is_malformed(query: bytes) -> None:
    with pytest.raises(Problem, match="malformed"):
        call(query).query(SyncQuery)


async def test_a_body_in_pieces_is_whole() -> None:
    asked = call(b"", [], {"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.request", "body": b"c"})
    assert await asked.raw_body(3) == b"abc"


async def test_size_is_checked_while_it_comes_and_before() -> None:
    endless = {"type": "http.request", "body": b"x" * 60, "more_body": True}
    for asked in (
        call(b"", [], endless, endless),
        call(b"", [(b"content-length", b"101")]),
        call(b"", [], {"type": "http.request", "body": b"x" * 101}),
    ):
        with pytest.raises(Problem, match="body_too_large"):
            await asked.raw_body(100)


async def test_a_client_that_hangs_up_gets_no_answer() -> None:
    with pytest.raises(ClientGone):
        await call(b"", [], {"type": "http.disconnect"}).raw_body(100)


@pytest.mark.parametrize(
    "kind", [b"text/plain", b"application/x-www-form-urlencoded", b"application/json; charset=latin-1", b""]
)
async def test_other_media_types_are_415(kind: bytes) -> None:
    with pytest.raises(Problem, match="unsupported_media_type"):
        await call(b"", [(b"content-type", kind)], {"type": "http.request", "body": b"{}"}).raw_body(100)


@pytest.mark.parametrize(
    "kind", [b"application/json", b"Application/JSON ; charset=UTF-8", b'application/json;charset="utf-8"']
)
async def test_json_is_json_however_it_is_written(kind: bytes) -> None:
    assert await call(b"", [(b"content-type", kind)], {"type": "http.request", "body": b"{}"}).raw_body(100) == b"{}"


def test_one_bad_message_of_a_batch_stands_alone() -> None:
    raw = b'{"messages":[{"to":"bob","body":"x"},{"to":1},7,{"to":"bob","body":"y","idempotency_key":"k"}]}'
    good, wrong, none, keyed = messages_of(raw)
    assert isinstance(good, BatchMessage)
    assert isinstance(keyed, BatchMessage)
    assert isinstance(wrong, Problem)
    assert isinstance(none, Problem)
    assert (wrong.errors[0].field, none.errors[0].field) == ("to", "$")


@pytest.mark.parametrize(
    ("raw", "code", "field"),
    [
        (b"{}", "invalid_request", "messages"),
        (b'{"messages":[]}', "invalid_request", "messages"),
        (b'{"messages":{}}', "invalid_request", "messages"),
        (b'{"messages":null}', "invalid_request", "messages"),
        (b'{"messages":[],"x":1}', "invalid_request", "x"),
        (b'{"messages":[' + b",".join([b'{"to":"bob","body":""}'] * 501) + b"]}", "invalid_request", "messages"),
        (b'{"messages":[{"to":"bob","body":"\xff"}]}', "malformed", None),
        (b'{"messages":[{"to":1},{"to":"bob","body":"\xff"}]}', "malformed", None),
        (b'{"messages":[{"to":"bob","body":"x"}', "malformed", None),
    ],
)
def test_a_batch_that_is_none_is_refused_as_a_whole(raw: bytes, code: str, field: str | None) -> None:
    with pytest.raises(Problem) as refused:
        messages_of(raw)
    assert refused.value.code == code
    assert [fault.field for fault in refused.value.errors] == ([field] if field else [])
