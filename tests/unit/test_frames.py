"""Frames of clients: whatever comes is a frame or a `BadFrame`, whose answer is itself a frame that can be sent."""

from __future__ import annotations

import json
from typing import Any, get_args
from uuid import UUID

from hypothesis import example, given
from hypothesis import strategies as st

from api.frames import Ack, Authenticate, BadFrame, ClientFrame, CloseCode, Ping, ReadFrame, decode, error_frame

ONE_OF_EACH = (
    {"type": "authenticate", "token": "a.b.c"},
    {"type": "ack", "n": 1, "ids": ["01a209d8-0000-7000-8000-000000000000"]},
    {"type": "read", "n": 2, "ids": ["01a209d8-0000-7000-8000-000000000000"] * 2},
    {"type": "ping", "n": 2**53 - 1},
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def taken(text: bytes) -> ClientFrame | None:
    """The frame, or None where it is refused as it should be."""
    try:
        return decode(text)
    except BadFrame as bad:
        assert bad.close_code in (None, CloseCode.NOT_A_FRAME)
        assert bad.n is None or 0 <= bad.n < 2**53
        json.loads(error_frame(bad.problem, "session", bad.n))
        return None


def test_there_is_an_example_of_each_kind() -> None:
    found = [type(taken(json.dumps(one).encode())) for one in ONE_OF_EACH]
    assert found == [Authenticate, Ack, ReadFrame, Ping]
    assert set(found) == set(get_args(ClientFrame))


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@example(b"[" * 60_000)
@example(b'{"type":' * 9_000)
@example(b'{"type":"ping","n":1' + b"0" * 60_000 + b"}")
@example(b'{"type":"ping","n":NaN}')
@example('{"type":"ping","n":1,"\ud800":1}'.encode("utf-8", "surrogatepass"))
@example(b'{"type":"\\ud800","n":1}')
def test_any_bytes(text: bytes) -> None:
    taken(text)


@given(st.sampled_from(ONE_OF_EACH), st.dictionaries(st.sampled_from(["type", "n", "ids", "token", "device", "x"]), JSON))
def test_any_object(frame: dict[str, Any], changes: dict[str, Any]) -> None:
    match taken(json.dumps({**frame, **changes}).encode()):
        case Ack(n=n, ids=ids) | ReadFrame(n=n, ids=ids):
            assert 0 <= n < 2**53
            assert 1 <= len(ids) <= 500
            assert all(isinstance(one, UUID) for one in ids)
        case Ping(n=n):
            assert 0 <= n < 2**53
        case Authenticate(token=token, device=device):
            assert 1 <= len(token) <= 8000
            assert device is None or 1 <= len(device) <= 64


@given(st.sampled_from(ONE_OF_EACH), st.integers(0, 100), st.integers(0, 5), st.binary(max_size=5))
def test_any_change_of_a_frame(frame: dict[str, Any], at: int, left_out: int, put_in: bytes) -> None:
    text = json.dumps(frame).encode()
    taken(text[:at] + put_in + text[at + left_out :])
