"""Columns of a batch as PostgreSQL's binary arrays, one parameter a column for `unnest`.

psycopg can write lists by itself, value by value. A column is of one type, so its array is one join of equal-sized pieces:
five times as fast (measured), and the parameter types never change, so each statement is prepared once. Format: array_send
in PostgreSQL's arrayfuncs.c (dimensions, null flag, element type, length, lower bound, then length and bytes of each value).
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection, postgres
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEADER = struct.Struct(">iiIii")
_LENGTH = struct.Struct(">i")
_NULL = _LENGTH.pack(-1)


class Column:
    """One packed array. Made by the functions below."""

    __slots__ = ("data",)
    kind: str

    def __init__(self, count: int, body: bytes, nulls: bool = False) -> None:
        oid = postgres.types[self.kind].oid
        self.data = _HEADER.pack(1, nulls, oid, count, 1) + body if count else _HEADER.pack(0, 0, oid, 0, 0)[:12]


class Uuids(Column):
    """uuid[]"""

    kind = "uuid"


class Bigints(Column):
    """int8[]"""

    kind = "int8"


class Smallints(Column):
    """int2[]"""

    kind = "int2"


class Booleans(Column):
    """bool[]"""

    kind = "bool"


class Texts(Column):
    """text[]"""

    kind = "text"


class Byteas(Column):
    """bytea[]"""

    kind = "bytea"


def uuids(values: Sequence[UUID | None]) -> Uuids:
    """uuid[]; None becomes NULL."""
    prefix = _LENGTH.pack(16)
    try:
        return Uuids(len(values), prefix + prefix.join([value.int.to_bytes(16) for value in values]))  # type: ignore[union-attr]
    except AttributeError:  # asking each value for None would cost as much as packing it
        return Uuids(len(values), _sized(None if value is None else value.bytes for value in values), nulls=True)


def bigints(values: Sequence[int]) -> Bigints:
    """int8[], no NULL."""
    prefix = _LENGTH.pack(8)
    return Bigints(len(values), prefix + prefix.join([value.to_bytes(8, signed=True) for value in values]))


def smallints(values: Sequence[int]) -> Smallints:
    """int2[], no NULL."""
    prefix = _LENGTH.pack(2)
    return Smallints(len(values), prefix + prefix.join([value.to_bytes(2, signed=True) for value in values]))


def booleans(values: Sequence[bool]) -> Booleans:
    """bool[], no NULL."""
    prefix = _LENGTH.pack(1)
    return Booleans(len(values), prefix + prefix.join([b"\1" if value else b"\0" for value in values]))


def byteas(values: Sequence[bytes | None]) -> Byteas:
    """bytea[]; None becomes NULL."""
    return Byteas(len(values), _sized(values), nulls=None in values)


def texts(values: Sequence[str | None]) -> Texts:
    """text[]; None becomes NULL."""
    return Texts(len(values), _sized(None if value is None else value.encode() for value in values), nulls=None in values)


def _sized(values: Iterable[bytes | None]) -> bytes:
    pieces: list[bytes] = []
    for value in values:
        if value is None:
            pieces.append(_NULL)
        else:
            pieces += (_LENGTH.pack(len(value)), value)
    return b"".join(pieces)


def _dumper(column: type[Column]) -> type[Dumper]:
    class ColumnDumper(Dumper):
        format = Format.BINARY
        oid = postgres.types[column.kind].array_oid

        def dump(self, obj: Any) -> Buffer | None:
            data: bytes = obj.data
            return data

    return ColumnDumper


_DUMPERS = {column: _dumper(column) for column in (Uuids, Bigints, Smallints, Booleans, Texts, Byteas)}


def register(connection: AsyncConnection[Any]) -> None:
    """Teach a connection to send columns."""
    for column, dumper in _DUMPERS.items():
        connection.adapters.register_dumper(column, dumper)
