"""Bodies under lock, keys of accounts, digests and ids under those keys."""

import os
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.keys import AccountKeys, KeyUnusable, MasterKey
from api.sealing import BINARY, TEXT, NotOpened, content_of, digest_of, keyed_id, parts_of, seal, unseal
from tests.builders import ALICE, BOB, an_id

KEYS = AccountKeys(b"k" * 32)
MESSAGE = an_id("msg", 1)
CONTENT = content_of(TEXT, "text/plain", b"hello")
SEALED = seal(KEYS, MESSAGE, ALICE, BOB, CONTENT)


@given(
    st.sampled_from([TEXT, BINARY]), st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=255), st.binary()
)
def test_content_comes_apart_as_it_was_put_together(kind: int, content_type: str, body: bytes) -> None:
    assert parts_of(content_of(kind, content_type, body)) == (kind, content_type, body)


def test_what_was_sealed_opens_for_its_message() -> None:
    assert unseal(KEYS, MESSAGE, ALICE, BOB, SEALED) == CONTENT


@pytest.mark.parametrize(
    ("message", "sender", "recipient"), [(an_id("msg", 2), ALICE, BOB), (MESSAGE, BOB, BOB), (MESSAGE, ALICE, ALICE)]
)
def test_a_sealed_body_opens_nowhere_else(message: UUID, sender: UUID, recipient: UUID) -> None:
    with pytest.raises(NotOpened):
        unseal(KEYS, message, sender, recipient, SEALED)


@pytest.mark.parametrize("at", range(len(SEALED)))
def test_no_bit_can_be_changed(at: int) -> None:
    changed = SEALED[:at] + bytes([SEALED[at] ^ 1]) + SEALED[at + 1 :]
    with pytest.raises(NotOpened):
        unseal(KEYS, MESSAGE, ALICE, BOB, changed)


def test_a_short_record_does_not_open() -> None:
    for length in range(20):
        with pytest.raises(NotOpened):
            unseal(KEYS, MESSAGE, ALICE, BOB, SEALED[:length])


def test_the_same_content_never_looks_the_same() -> None:
    assert len({seal(KEYS, MESSAGE, ALICE, BOB, CONTENT) for _ in range(50)}) == 50


def test_the_body_is_not_in_the_sealed_bytes() -> None:
    body = os.urandom(64)
    assert body not in seal(KEYS, MESSAGE, ALICE, BOB, content_of(BINARY, "a/b", body))


def test_a_digest_tells_kind_type_and_body_apart() -> None:
    contents = [
        content_of(TEXT, "text/plain", b"hello"),
        content_of(BINARY, "text/plain", b"hello"),
        content_of(TEXT, "text/plai", b"nhello"),
        content_of(TEXT, "text/plain", b"hellp"),
    ]
    assert len({digest_of(KEYS, content) for content in contents}) == len(contents)
    assert digest_of(KEYS, CONTENT) != digest_of(AccountKeys(b"j" * 32), CONTENT)


def test_a_key_gives_one_id_for_sender_recipient_and_key() -> None:
    made = keyed_id(KEYS, ALICE, BOB, "order-1")
    assert made == keyed_id(AccountKeys(b"k" * 32), ALICE, BOB, "order-1")
    assert made.version == 8
    others = {
        keyed_id(KEYS, ALICE, BOB, "order-2"),
        keyed_id(KEYS, BOB, ALICE, "order-1"),
        keyed_id(AccountKeys(b"j" * 32), ALICE, BOB, "order-1"),
    }
    assert made not in others
    assert len(others) == 3


def test_an_account_key_survives_its_wrapping() -> None:
    master = MasterKey(b"m" * 32)
    wrapped = master.make(BOB)
    again = MasterKey(b"m" * 32).unwrap(BOB, wrapped)
    assert unseal(again, MESSAGE, ALICE, BOB, seal(master.unwrap(BOB, wrapped), MESSAGE, ALICE, BOB, CONTENT)) == CONTENT


def test_a_wrapped_key_opens_for_its_account_and_master_key_only() -> None:
    wrapped = MasterKey(b"m" * 32).make(BOB)
    for master, user, given_key in (
        (b"m" * 32, ALICE, wrapped),
        (b"x" * 32, BOB, wrapped),
        (b"m" * 32, BOB, wrapped[:-1]),
        (b"m" * 32, BOB, b"\x02" + wrapped[1:]),
        (b"m" * 32, BOB, b""),
    ):
        with pytest.raises(KeyUnusable):
            MasterKey(master).unwrap(user, given_key)


def test_every_account_gets_another_key() -> None:
    master = MasterKey(b"m" * 32)
    one, other = (master.unwrap(BOB, master.make(BOB)) for _ in range(2))
    assert digest_of(one, CONTENT) != digest_of(other, CONTENT)


def test_what_was_written_long_ago_is_read_for_ever() -> None:
    """Golden values: the log keeps sealed bodies, digests and ids for ever, the database keeps wrapped keys."""
    wrapped = bytes.fromhex(
        "01727272727272727272727272c8b980bb945a99b248208a9d86eb52d2bd5ac889a91ea6cb941fd768041d7721"
        "73c5c015f007797dc0904fdc06a1b243"
    )
    opened = MasterKey(b"m" * 32).unwrap(BOB, wrapped)
    assert digest_of(opened, CONTENT) == digest_of(AccountKeys(b"r" * 32), CONTENT)
    sealed = bytes.fromhex("016e6e6e6e6e6e6e6e6e6e6e6ea59c0076ca131791b91d959aca935ee377fd6d56b72df99c60a2b11bc5945c9305")
    assert unseal(KEYS, MESSAGE, ALICE, BOB, sealed) == CONTENT
    assert digest_of(KEYS, CONTENT).hex() == "2f9b8df847d715f22cf2e7ab5787919185bb1b056a87942efb579c15b7d7d8bd"
    assert str(keyed_id(KEYS, ALICE, BOB, "order-1")) == "fbd5ef2e-1307-8574-b00c-afd14d68526b"
