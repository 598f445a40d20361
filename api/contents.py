"""What a client sent as a message's content, checked, as the bytes that are sealed; and the way back."""

import binascii
import re
from typing import Final

from msgspec import UNSET, UnsetType

from api.models import MAX_BODY_BYTES, BatchMessage, NewMessage
from api.problems import Problem, invalid
from api.sealing import BINARY, TEXT, content_of

TEXT_TYPE: Final = "text/plain"
BINARY_TYPE: Final = "application/octet-stream"
_KEY = re.compile(r"[ -~]{1,255}")
_PLAIN_TEXT: Final = content_of(TEXT, TEXT_TYPE, b"")
_MAX_BASE64 = (MAX_BODY_BYTES + 2) // 3 * 4


def content_of_message(message: NewMessage | BatchMessage) -> bytes:
    """A message's content as bytes to seal. Raises `Problem` where there is not exactly one body, or it is too large."""
    text, binary, named = message.body, message.body_base64, message.content_type
    if isinstance(binary, UnsetType):
        if isinstance(text, UnsetType):
            raise invalid("body", "exactly one of body and body_base64 is needed")
        body = text.encode()
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
        return _PLAIN_TEXT + body if named is UNSET or named == TEXT_TYPE else content_of(TEXT, str(named), body)
    if not isinstance(text, UnsetType):
        raise invalid("body", "exactly one of body and body_base64 is allowed")
    return content_of(BINARY, BINARY_TYPE if isinstance(named, UnsetType) else named, _decoded(binary))


def idempotency_key(header: bytes | None) -> str | None:
    """The key in an Idempotency-Key header: 1 to 255 printable characters, enclosing quotes are not part of it."""
    if header is None:
        return None
    try:
        key = header.decode()
    except UnicodeDecodeError as error:
        raise invalid("Idempotency-Key", "must be UTF-8") from error
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    return checked_key("Idempotency-Key", key)


def checked_key(field: str, key: str) -> str:
    """The key, if it is one. Raises `Problem`."""
    if _KEY.fullmatch(key) or (1 <= len(key) <= 255 and key.isprintable()):
        return key
    raise invalid(field, "must have 1 to 255 printable characters")


def _decoded(text: str) -> bytes:
    if len(text) > _MAX_BASE64:
        raise _too_large()
    try:
        body = binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise _not_base64() from error
    if binascii.b2a_base64(body, newline=False).decode() != text:
        raise _not_base64()
    if len(body) > MAX_BODY_BYTES:
        raise _too_large()
    return body


def _not_base64() -> Problem:
    return invalid("body_base64", "must be base64 (RFC 4648 section 4) with padding and without spare bits")


def _too_large() -> Problem:
    return Problem("body_too_large", f"A message has a body of at most {MAX_BODY_BYTES:,} bytes.")
