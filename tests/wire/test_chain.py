"""The chain of a partition: its bytes are fixed for ever, because signatures stand on them."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID

import pytest

from schemas.chain import ORIGIN, Chain, Link

TOPIC = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
HEADERS = [("ce_id", b"one"), ("\u00e9", b""), ("null", None)]
RECORDS: list[dict[str, Any]] = [
    {"timestamp_ms": 1_700_000_000_000, "key": b"key", "value": b"value", "headers": HEADERS},
    {"timestamp_ms": 1_700_000_000_000, "key": None, "value": None, "headers": []},
    {"timestamp_ms": 0, "key": b"", "value": b"", "headers": [("a", b"b")]},
]
GOLDEN = [
    "3ae70e6aa81fdc00b7015af9e6d9d4e513b336d34dd35669da9019b3eb55702c",
    "2e571c17a87907880ce0235a21d013b2f1833053d802c373f9e5a777de2e2fdd",
    "9a0c4d33a9772dd9a5c1f5714939d8f0883ce175f9ab975bc4fc9638eac89dcc",
]


def chained(records: list[dict[str, Any]], *, topic: UUID = TOPIC, partition: int = 3, first: int = 0) -> list[str]:
    chain = Chain(topic, partition, Link(first, ORIGIN))
    return [chain.add(**record).hex() for record in records]


def test_the_vectors_that_were_signed_once() -> None:
    assert chained(RECORDS) == GOLDEN


def test_the_first_vector_by_hand() -> None:
    def number(value: int) -> bytes:
        return value.to_bytes(8, "big", signed=True)

    hashed = (
        bytes(32) + TOPIC.bytes + number(3) + number(0) + number(1_700_000_000_000) + number(3) + b"key" + number(3)
        + number(5) + b"ce_id" + number(3) + b"one" + number(2) + "\u00e9".encode() + number(0) + number(4) + b"null"
        + number(-1) + number(5) + b"value"
    )  # fmt: skip
    assert hashlib.sha256(hashed).hexdigest() == GOLDEN[0]


def test_it_goes_on_from_a_link() -> None:
    chain = Chain(TOPIC, 3)
    chain.add(**RECORDS[0])
    resumed = Chain(TOPIC, 3, chain.link)
    assert [resumed.add(**record).hex() for record in RECORDS[1:]] == GOLDEN[1:]
    assert resumed.link == Link(3, bytes.fromhex(GOLDEN[2]))


@pytest.mark.parametrize(
    "change",
    [
        {"timestamp_ms": 1},
        {"key": b"kex"},
        {"key": None},
        {"key": b""},
        {"value": b"valuf"},
        {"value": None},
        {"headers": []},
        {"headers": HEADERS[::-1]},
        {"headers": [("ce_id", b"one"), ("\u00e9", b""), ("null", b"")]},
        {"headers": [("ce_i", b"done"), *HEADERS[1:]]},
    ],
    ids=lambda change: "-".join(f"{name}={value!r}" for name, value in change.items()),
)
def test_nothing_of_a_record_can_change_without_changing_h(change: dict[str, Any]) -> None:
    assert chained([RECORDS[0] | change]) != GOLDEN[:1]


def test_nor_its_place() -> None:
    places = [
        chained(RECORDS[:1]),
        chained(RECORDS[:1], partition=4),
        chained(RECORDS[:1], first=1),
        chained(RECORDS[:1], topic=UUID(int=1)),
    ]
    assert len({one[0] for one in places}) == 4


def test_bytes_cannot_wander_from_one_part_into_the_next() -> None:
    assert chained([RECORDS[0] | {"key": b"keyv", "value": b"alue", "headers": []}]) != chained(
        [RECORDS[0] | {"headers": []}]
    )
