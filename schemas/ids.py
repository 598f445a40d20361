"""Identifiers: UUIDs, made by their owner, compared by value, written as lower-case text outside and 16 bytes inside."""

import hashlib
from uuid import UUID

_MARKS = (0x8 << 76) | (0x2 << 62)
_KEEP = ~((0xF << 76) | (0x3 << 62))


def uuid_of(raw: bytes) -> UUID:
    """The UUID with these 16 bytes. Several times as fast as `UUID(bytes=...)`, which looks for six other forms first; a
    record has up to seven of them."""
    return _uuid_of_number(_number(raw))


def _number(raw: bytes) -> int:
    if len(raw) != 16:
        raise ValueError("a UUID has 16 bytes")
    return _from_bytes(raw, "big")


def _uuid_of_number(number: int) -> UUID:
    made = _new(UUID)
    _set_int(made, number)
    _set_is_safe(made, _UNKNOWN)
    return made


def derived_id(*parts: bytes) -> UUID:
    """The same parts give the same id, in any process and at any time: UUID version 8 (RFC 9562) of a SHA-256.

    Each part is prefixed with its length, so ("ab", "c") and ("a", "bc") differ.
    """
    told = b"".join([b"%b%b" % (len(part).to_bytes(4, "big"), part) for part in parts])
    return version_8(hashlib.sha256(told).digest()[:16])


def version_8(raw: bytes) -> UUID:
    """16 bytes of a digest as a UUID of version 8; six of the bits give way to version and variant."""
    return _uuid_of_number((_number(raw) & _KEEP) | _MARKS)


_UNKNOWN = UUID(int=0).is_safe
_new = object.__new__
_from_bytes = int.from_bytes
_set_int = UUID.int.__set__  # type: ignore[attr-defined, misc]
_set_is_safe = UUID.is_safe.__set__  # type: ignore[attr-defined, misc]
