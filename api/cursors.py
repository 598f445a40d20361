"""Cursors: a position in a mailbox or among receipts, opaque to clients, signed, bound to its owner, good for ever.

27 bytes in base64url, which leaves no spare bits: version, kind, the first byte of the signing key's hash, position (8),
HMAC-SHA256 over all this with the owner (a mailbox: user and device; receipts: the user), cut to 16.
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

_MAILBOX: Final = b"\x01m"
_RECEIPTS: Final = b"\x01r"
_MAC_BYTES: Final = 16
_TEXT_LENGTH: Final = 36


class _Signed:
    """Cursors of one kind. Written with the first key, read with every key."""

    def __init__(self, kind: bytes, keys: Sequence[bytes], advice: str) -> None:
        self._kind = kind
        self._advice = advice
        self.use(keys)

    def use(self, keys: Sequence[bytes]) -> None:
        self._hinted = [(hashlib.sha256(key).digest()[:1], key) for key in keys]

    def write(self, owner: bytes, position: int) -> str:
        hint, key = self._hinted[0]
        said = self._kind + hint + position.to_bytes(8, signed=True)
        return base64.urlsafe_b64encode(said + _mac(key, said, owner)).decode()

    def read(self, owner: bytes, cursor: str) -> int:
        raw = _bytes_of(cursor)
        said, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        for hint, key in self._hinted:
            if said[:3] == self._kind + hint and hmac.compare_digest(mac, _mac(key, said, owner)):
                return int.from_bytes(said[3:], signed=True)
        raise Problem("bad_cursor", self._advice)


class Cursors:
    """Cursors of mailboxes: one device's view."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        advice = "Use a cursor as this device got it from a sync, or none to start at the oldest message."
        self._signed = _Signed(_MAILBOX, keys, advice)

    def use(self, keys: Sequence[bytes]) -> None:
        """Go by these keys from now on."""
        self._signed.use(keys)

    def write(self, user: UUID, device: UUID, position: int) -> str:
        """The cursor that has passed `position` (START: nothing yet)."""
        return self._signed.write(user.bytes + device.bytes, position)

    def read(self, user: UUID, device: UUID, cursor: str) -> int:
        """The position of a cursor. Raises `Problem` bad_cursor if it is not ours, was changed, or is another device's."""
        return self._signed.read(user.bytes + device.bytes, cursor)


class ReceiptCursors:
    """Cursors of receipts: the same for all devices of an account."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        advice = "Use a cursor as this account got it with its receipts, `now`, or none to start at the first receipt."
        self._signed = _Signed(_RECEIPTS, keys, advice)

    def use(self, keys: Sequence[bytes]) -> None:
        """Go by these keys from now on."""
        self._signed.use(keys)

    def write(self, user: UUID, position: int) -> str:
        """The cursor that has passed `position` (START: nothing yet)."""
        return self._signed.write(user.bytes, position)

    def read(self, user: UUID, cursor: str) -> int:
        """The position of a cursor. Raises `Problem` bad_cursor if it is not ours, was changed, or is another account's."""
        return self._signed.read(user.bytes, cursor)


def _bytes_of(cursor: str) -> bytes:
    """The bytes of a cursor; none where it is no base64 of the right length, which no key has signed."""
    if len(cursor) != _TEXT_LENGTH:
        return b""
    try:
        return base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return b""


def _mac(key: bytes, said: bytes, owner: bytes) -> bytes:
    return hmac.digest(key, said + owner, "sha256")[:_MAC_BYTES]
