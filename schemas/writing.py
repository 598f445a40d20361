"""Avro's binary encoding of our dataclasses, straight from the value, worked out once per schema.

fastavro reads what we read. Writing through it means making a dict and having each union guessed, which was half of what a
record costs in a batch (13 us; 5 us here). The types are the few that our schemas use; whatever is written here is read back
and written again by fastavro in the tests, byte for byte.
"""

from collections.abc import Callable
from functools import lru_cache
from operator import attrgetter
from typing import Any
from uuid import UUID

Write = Callable[[Any], bytes]

_NULL = b"\x00"
_SOME = b"\x02"


def writer_for(schema: Any) -> Write:
    """What turns a value (dataclass, UUID, text, bytes, number, tuple) into the Avro body that this schema describes.

    Raises ValueError for a type of Avro that no schema of ours has used before.
    """
    return _writer(schema, {})


def _writer(schema: Any, named: dict[str, Write]) -> Write:
    match schema:
        case str() if schema in named:
            return named[schema]
        case str() if schema in _PRIMITIVES:
            return _PRIMITIVES[schema]
        case ["null", other]:
            return _optional(_writer(other, named))
        case {"type": "fixed", "logicalType": "uuid", "name": name}:
            return named.setdefault(name, _uuid)
        case {"type": "array", "items": items}:
            return _array(_writer(items, named))
        case {"type": "record", "name": name, "fields": fields}:
            return named.setdefault(name, _record(fields, named))
    raise ValueError(f"nothing of ours writes {schema!r} yet: add it to schemas/writing.py")


def _record(fields: list[dict[str, Any]], named: dict[str, Write]) -> Write:
    get = attrgetter(*(field["name"] for field in fields))
    writers = [_writer(field["type"], named) for field in fields]

    def write(value: Any) -> bytes:
        return b"".join([each(part) for each, part in zip(writers, get(value), strict=True)])

    return write


def _array(write: Write) -> Write:
    def write_all(values: Any) -> bytes:
        return b"".join([_long(len(values)), *[write(value) for value in values], _NULL]) if values else _NULL

    return write_all


def _optional(write: Write) -> Write:
    return lambda value: _NULL if value is None else _SOME + write(value)


def _uuid(value: UUID) -> bytes:
    return value.int.to_bytes(16)


def _long(value: int) -> bytes:
    rest = (value << 1) ^ (value >> 63)
    if rest < 128:
        return _ONE_BYTE[rest]
    made = bytearray()
    while rest > 127:
        made.append(rest & 127 | 128)
        rest >>= 7
    made.append(rest)
    return bytes(made)


def _bytes(value: bytes) -> bytes:
    return _long(len(value)) + value


@lru_cache(maxsize=4096)
def _string(value: str) -> bytes:
    """Producers, reasons and policies come again and again."""
    return _bytes(value.encode())


def _boolean(value: bool) -> bytes:
    return b"\x01" if value else b"\x00"


_ONE_BYTE = [bytes([number]) for number in range(128)]
_PRIMITIVES: dict[str, Write] = {"long": _long, "int": _long, "bytes": _bytes, "string": _string, "boolean": _boolean}
