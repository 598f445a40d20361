"""Cursors: opaque, signed, bound to one device, good for ever."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cursors import START, Cursors, ReceiptCursors
from api.problems import Problem
from tests.builders import ALICE, BOB, LAPTOP, PHONE

OLD, NEW = b"o" * 32, b"n" * 32
CURSORS = Cursors([NEW])
RECEIPT_CURSORS = ReceiptCursors([NEW])


@given(st.integers(min_value=START, max_value=2**53))
def test_a_cursor_comes_back_as_its_position(position: int) -> None:
    assert CURSORS.read(BOB, PHONE, CURSORS.write(BOB, PHONE, position)) == position


def test_another_device_or_account_cannot_use_it() -> None:
    cursor = CURSORS.write(BOB, PHONE, 7)
    for user, device in ((BOB, LAPTOP), (ALICE, PHONE)):
        with pytest.raises(Problem, match="bad_cursor"):
            CURSORS.read(user, device, cursor)


def test_no_character_can_be_changed() -> None:
    cursor = CURSORS.write(BOB, PHONE, 7)
    for at in range(len(cursor)):
        for sign in "Aa0_-B":
            changed = cursor[:at] + sign + cursor[at + 1 :]
            if changed != cursor:
                with pytest.raises(Problem, match="bad_cursor"):
                    CURSORS.read(BOB, PHONE, changed)


@given(
    st.one_of(
        st.text(max_size=60), st.binary(min_size=27, max_size=27).map(lambda raw: base64.urlsafe_b64encode(raw).decode())
    )
)
def test_anything_else_is_a_bad_cursor_and_nothing_worse(text: str) -> None:
    with pytest.raises(Problem, match="bad_cursor"):
        CURSORS.read(BOB, PHONE, text)


@given(st.integers(0, 36), st.integers(0, 4), st.text(max_size=4))
def test_a_cursor_that_was_changed_is_a_bad_one(at: int, left_out: int, put_in: str) -> None:
    for whose, cursor in (
        (lambda text: CURSORS.read(BOB, PHONE, text), CURSORS.write(BOB, PHONE, 7)),
        (lambda text: RECEIPT_CURSORS.read(BOB, text), RECEIPT_CURSORS.write(BOB, 7)),
    ):
        changed = cursor[:at] + put_in + cursor[at + left_out :]
        if changed == cursor:
            assert whose(changed) == 7
        else:
            with pytest.raises(Problem, match="bad_cursor"):
                whose(changed)


def test_a_new_key_signs_and_the_old_cursors_stay_good() -> None:
    old = Cursors([OLD]).write(BOB, PHONE, 7)
    both = Cursors([NEW, OLD])
    assert both.read(BOB, PHONE, old) == 7
    assert Cursors([NEW]).read(BOB, PHONE, both.write(BOB, PHONE, 8)) == 8
    with pytest.raises(Problem, match="bad_cursor"):
        Cursors([NEW]).read(BOB, PHONE, old)


def test_a_cursor_shows_no_id() -> None:
    raw = base64.urlsafe_b64decode(CURSORS.write(BOB, PHONE, 7))
    assert BOB.bytes not in raw
    assert PHONE.bytes not in raw


@given(st.integers(min_value=START, max_value=2**53))
def test_a_receipt_cursor_comes_back_as_its_position(position: int) -> None:
    assert RECEIPT_CURSORS.read(BOB, RECEIPT_CURSORS.write(BOB, position)) == position


def test_another_account_cannot_use_a_receipt_cursor() -> None:
    with pytest.raises(Problem, match="bad_cursor"):
        RECEIPT_CURSORS.read(ALICE, RECEIPT_CURSORS.write(BOB, 7))


def test_the_kinds_are_not_taken_for_each_other() -> None:
    with pytest.raises(Problem, match="bad_cursor"):
        RECEIPT_CURSORS.read(BOB, CURSORS.write(BOB, PHONE, 7))
    with pytest.raises(Problem, match="bad_cursor"):
        CURSORS.read(BOB, PHONE, RECEIPT_CURSORS.write(BOB, 7))
