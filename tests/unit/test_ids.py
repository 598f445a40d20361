"""Derived ids: the same parts, the same id; version and variant as RFC 9562 says."""

import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import derived_id, uuid_of, version_8


@given(st.uuids())
def test_sixteen_bytes_are_the_same_uuid(value: uuid.UUID) -> None:
    made = uuid_of(value.bytes)
    assert made == value
    assert hash(made) == hash(value)
    assert str(made) == str(value)
    assert made.is_safe is value.is_safe


@pytest.mark.parametrize("make", [uuid_of, version_8])
@pytest.mark.parametrize("raw", [b"short", bytes(17)])
def test_other_lengths_are_refused(make: Callable[[bytes], uuid.UUID], raw: bytes) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        make(raw)


@given(st.lists(st.binary(max_size=8), max_size=4), st.lists(st.binary(max_size=8), max_size=4))
def test_equal_parts_and_only_they_give_equal_ids(one: list[bytes], other: list[bytes]) -> None:
    assert (derived_id(*one) == derived_id(*other)) == (one == other)


@given(st.lists(st.binary(max_size=8), max_size=4))
def test_a_derived_id_is_of_version_8(parts: list[bytes]) -> None:
    made = derived_id(*parts)
    assert made.version == 8
    assert made.variant == uuid.RFC_4122
