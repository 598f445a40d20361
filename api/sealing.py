"""Bodies under lock: sealed before they enter the log, opened only for the recipient.

Content is one run of bytes: a flag (0 text, 1 binary), the length of the content type (one byte), content type, body.
Sealed is: version byte, nonce, AES-256-GCM of the content; message id, sender and recipient are bound in, so a sealed body
moved to another message does not open. Nonces are random: a key is good for 2^32 messages (NIST SP 800-38D, 8.3).
"""

from os import urandom
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag

from api.keys import NONCE_BYTES, AccountKeys
from schemas.ids import version_8

TEXT: Final = 0
BINARY: Final = 1
_VERSION: Final = b"\x01"
_BODY_FROM: Final = 1 + NONCE_BYTES
SEALED_MORE: Final = _BODY_FROM + 16
"""Bytes that sealing adds: version, nonce, and the tag of AES-GCM."""


class NotOpened(Exception):
    """A sealed body does not open: the record was changed, or was sealed for another message."""


def content_of(kind: int, content_type: str, body: bytes) -> bytes:
    """Content as one run of bytes. `content_type` has at most 255 ASCII characters."""
    named = content_type.encode()
    return bytes((kind, len(named))) + named + body


def parts_of(content: bytes) -> tuple[int, str, bytes]:
    """Kind, content type and body of a content."""
    starts = 2 + content[1]
    return content[0], content[2:starts].decode(), content[starts:]


def seal(keys: AccountKeys, message_id: UUID, sender: UUID, recipient: UUID, content: bytes) -> bytes:
    """The content, locked for this message from this sender to this recipient."""
    nonce = urandom(NONCE_BYTES)
    return _VERSION + nonce + keys.cipher.encrypt(nonce, content, _bound(message_id, sender, recipient))


def unseal(keys: AccountKeys, message_id: UUID, sender: UUID, recipient: UUID, sealed: bytes) -> bytes:
    """The content. Raises `NotOpened`."""
    if sealed[:1] != _VERSION:
        raise NotOpened(f"message {message_id} is sealed in a way that this version does not know")
    try:
        return keys.cipher.decrypt(sealed[1:_BODY_FROM], sealed[_BODY_FROM:], _bound(message_id, sender, recipient))
    except (InvalidTag, ValueError) as error:
        raise NotOpened(f"message {message_id} does not open") from error


def digest_of(keys: AccountKeys, content: bytes) -> bytes:
    """HMAC-SHA256 of the content: tells whether two contents are one, to nobody without the recipient's key."""
    mac = keys.mac.copy()
    mac.update(content)
    return mac.digest()


def keyed_id(keys: AccountKeys, sender: UUID, recipient: UUID, idempotency_key: str) -> UUID:
    """The id of the message that a sender stores under a key for a recipient: the same in every process, for ever."""
    mac = keys.ids.copy()
    mac.update(sender.bytes + recipient.bytes + idempotency_key.encode())
    return version_8(mac.digest()[:16])


def _bound(message_id: UUID, sender: UUID, recipient: UUID) -> bytes:
    return _VERSION + message_id.bytes + sender.bytes + recipient.bytes
