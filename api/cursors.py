"""Cursors: a position in a mailbox, opaque to clients, signed, bound to one account and device, good for ever.

27 bytes in base64url, which leaves no spare bits: version, kind, the first byte of the signing key's hash, position (8),
HMAC-SHA256 over all this with user and device, cut to 16.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from api.problems import Problem

START: Final = -1
"""Before the first position."""

_HEAD: Final = b"\x01m"
_MAC_BYTES: Final = 16
_TEXT_LENGTH: Final = 36


class Cursors:
    """Writes cursors with the first key and reads those of every key."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._hinted = [(hashlib.sha256(key).digest()[:1], key) for key in keys]

    def write(self, user: UUID, device: UUID, position: int) -> str:
        """The cursor that has passed `position` (START: nothing yet)."""
        hint, key = self._hinted[0]
        said = _HEAD + hint + position.to_bytes(8, signed=True)
        return base64.urlsafe_b64encode(said + _mac(key, said, user, device)).decode()

    def read(self, user: UUID, device: UUID, cursor: str) -> int:
        """The position of a cursor. Raises `Problem` bad_cursor if it is not ours, was changed, or is another device's."""
        raw = _bytes_of(cursor)
        said, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        for hint, key in self._hinted:
            if said[:3] == _HEAD + hint and hmac.compare_digest(mac, _mac(key, said, user, device)):
                return int.from_bytes(said[3:], signed=True)
        raise _bad()


def _bytes_of(cursor: str) -> bytes:
    if len(cursor) != _TEXT_LENGTH:
        raise _bad()
    try:
        return base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise _bad() from error


def _mac(key: bytes, said: bytes, user: UUID, device: UUID) -> bytes:
    return hmac.digest(key, said + user.bytes + device.bytes, "sha256")[:_MAC_BYTES]


def _bad() -> Problem:
    return Problem("bad_cursor", "Use a cursor as this device got it from a sync, or none to start at the oldest message.")
