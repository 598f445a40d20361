"""The chain of a partition: what makes it noticeable that a record was changed, dropped, inserted or moved.

    h(o) = SHA-256( h(o-1) | topic id | partition | offset | timestamp | key | headers | value )

h(-1) is `ORIGIN`. The topic id has 16 bytes; partition, offset and timestamp (milliseconds since the epoch) are signed
numbers of 8 bytes, big-endian; key, value and each header's name (UTF-8) and value follow their length, such a number, too,
which is -1 for what is null; the headers follow their count. Several writers append at once, so the chain is computed by who
reads. It proves nothing by itself: the notary's signatures under it do (`schemas.statements`).
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from uuid import UUID

ORIGIN: Final = bytes(32)
"""h before the first record of any partition."""

_FIXED: Final = struct.Struct(">qqq")
_NUMBER: Final = struct.Struct(">q")
_NULL: Final = _NUMBER.pack(-1)


@dataclass(frozen=True, slots=True)
class Link:
    """How far a chain has come: the next offset, and h of the record before it."""

    next_offset: int = 0
    h: bytes = ORIGIN


class Chain:
    """The running chain of one partition, from `link` on. Records come in order and without a gap; who gives them sees to
    that, for a gap says more than a wrong h."""

    def __init__(self, topic_id: UUID, partition: int, link: Link | None = None) -> None:
        link = link or Link()
        self._topic = topic_id.bytes
        self._partition = partition
        self.next_offset = link.next_offset
        self.h = link.h

    @property
    def link(self) -> Link:
        """How far it has come."""
        return Link(self.next_offset, self.h)

    def add(
        self, timestamp_ms: int, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]
    ) -> bytes:
        """The record at the next offset; gives its h."""
        parts = [self.h, self._topic, _FIXED.pack(self._partition, self.next_offset, timestamp_ms)]
        parts += (_NULL,) if key is None else (_NUMBER.pack(len(key)), key)
        parts.append(_NUMBER.pack(len(headers)))
        for name, content in headers:
            text = name.encode()
            parts += (_NUMBER.pack(len(text)), text)
            parts += (_NULL,) if content is None else (_NUMBER.pack(len(content)), content)
        parts += (_NULL,) if value is None else (_NUMBER.pack(len(value)), value)
        self.h = sha256(b"".join(parts)).digest()
        self.next_offset += 1
        return self.h
