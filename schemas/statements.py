"""What the notary signs: how far the chain of each partition had come, and that all before it is as it was.

A statement is one line of text: the JSON object {"signature", "statement"}, members sorted, no spaces, ASCII. Signed
(Ed25519) are the bytes of the inner object as they stand in the line. Each statement holds the SHA-256 of the line before
(without its newline), so none can be taken out of the middle. It is not ours alone to read: `jq` and `openssl` verify it.

`marks` are the first two bytes of every h that is new in a statement. The signature under the last h proves all records up
to it; the marks tell *which* is the first that is not as it was. They prove nothing alone: one wrong record in 65,536
has the mark of the right one, and is then found at the next.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

from schemas.chain import Link

MARK_BYTES: Final = 2
FIRST: Final = bytes(32)
"""What the first statement of a series holds in place of the hash of the one before."""

_VERSION: Final = 1


class NoStatement(ValueError):
    """This line is no statement of a notary; the text says why not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A partition's part of a statement: its records `first` to `last` are new in it, and `h` belongs to `last`. Where
    nothing is new `first` is the offset after `last`."""

    topic: str
    topic_id: UUID
    partition: int
    first: int
    last: int
    h: bytes
    marks: bytes

    @property
    def place(self) -> tuple[str, int]:
        """Topic and partition."""
        return self.topic, self.partition

    @property
    def link(self) -> Link:
        """Where the chain goes on."""
        return Link(self.last + 1, self.h)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """Numbered from 1. `previous` is the hash of the line before; `torn` that of the bytes that a crash
    left unfinished between the two, or None. `points` are in order of topic and partition."""

    number: int
    at_ms: int
    previous: bytes
    torn: bytes | None
    points: tuple[Point, ...]

    def signed_bytes(self) -> bytes:
        """What the signature is of."""
        return _canonical(_document(self))

    def line(self, signature: bytes) -> bytes:
        """The whole line, without a newline."""
        return _canonical({"signature": base64.b64encode(signature).decode(), "statement": _document(self)})


def line_hash(line: bytes) -> bytes:
    """The hash by which the next statement names this line (without its newline)."""
    return sha256(line).digest()


def read_line(line: bytes) -> tuple[Statement, bytes]:
    """The statement in a line (without its newline) and its signature, which is not verified here. Raises `NoStatement`."""
    try:
        document = json.loads(line)
        signature = base64.b64decode(document["signature"], validate=True)
        statement = _statement(document["statement"])
    except NoStatement:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, binascii.Error) as error:
        raise NoStatement(f"this line is no statement: {type(error).__name__}") from error
    if statement.line(signature) != line:
        raise NoStatement("this line says the same as a statement, but not in its bytes")
    return statement, signature


def point_in(line: bytes, place: tuple[str, int]) -> Point:
    """One partition's part of a line that was verified before."""
    found = json.loads(line)["statement"]["points"]
    return next(_point(point) for point in found if (point["topic"], point["partition"]) == place)


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _document(statement: Statement) -> dict[str, Any]:
    return {
        "at": datetime.fromtimestamp(statement.at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "number": statement.number,
        "points": [
            {
                "first": point.first,
                "h": point.h.hex(),
                "last": point.last,
                "marks": base64.b64encode(point.marks).decode(),
                "partition": point.partition,
                "topic": point.topic,
                "topic_id": str(point.topic_id),
            }
            for point in statement.points
        ],
        "previous": statement.previous.hex(),
        "torn": statement.torn.hex() if statement.torn is not None else None,
        "version": _VERSION,
    }


def _statement(found: Mapping[str, Any]) -> Statement:
    if found["version"] != _VERSION:
        raise NoStatement(f"a statement of version {found['version']}: a newer Restante reads it")
    statement = Statement(
        number=found["number"],
        at_ms=round(datetime.fromisoformat(found["at"]).timestamp() * 1000),
        previous=bytes.fromhex(found["previous"]),
        torn=None if found["torn"] is None else bytes.fromhex(found["torn"]),
        points=tuple(_point(point) for point in found["points"]),
    )
    if type(statement.number) is not int or statement.number < 1 or not _in_order(statement.points):
        raise ValueError("out of range")
    return statement


def _point(found: Mapping[str, Any]) -> Point:
    point = Point(
        topic=found["topic"],
        topic_id=UUID(found["topic_id"]),
        partition=found["partition"],
        first=found["first"],
        last=found["last"],
        h=bytes.fromhex(found["h"]),
        marks=base64.b64decode(found["marks"], validate=True),
    )
    numbers = (point.partition, point.first, point.last + 1)
    if not all(type(number) is int and number >= 0 for number in numbers) or len(point.h) != len(FIRST):
        raise ValueError("out of range")
    if len(point.marks) != MARK_BYTES * (point.last + 1 - point.first):
        raise ValueError("not a mark a record")
    return point


def _in_order(points: tuple[Point, ...]) -> bool:
    return all(one.place < other.place for one, other in pairwise(points))
