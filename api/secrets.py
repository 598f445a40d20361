"""The keys that the edge works with, read from their texts. Of several keys the first makes, every one is accepted."""

import base64
import binascii
import os
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

KEY_BYTES = 32
_PEM_END = "-----END PRIVATE KEY-----"


class SecretsError(ValueError):
    """A key cannot be used. The text names the key and says what it must look like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """`token_keys` sign access tokens, `cursor_keys` (32 bytes each) sign cursors, `master_keys` (32 bytes each) wrap the
    keys of the accounts."""

    token_keys: tuple[Ed25519PrivateKey, ...] = field(repr=False)
    cursor_keys: tuple[bytes, ...] = field(repr=False)
    master_keys: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def read(cls, *, token_key: str | None, cursor_keys: str, master_key: str) -> "Secrets":
        """From their texts: PEM (PKCS #8, several after each other), base64 with commas. Without a token key we
        issue no tokens. Raises `SecretsError`."""
        return cls(
            token_keys=() if token_key is None else read_token_keys(token_key),
            cursor_keys=read_keys(cursor_keys, "cursor key"),
            master_keys=read_keys(master_key, "master key"),
        )


def make_token_key() -> str:
    """A new key for access tokens, as PEM."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def make_key() -> str:
    """A new cursor key or master key: 32 random bytes in base64."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def read_token_keys(text: str) -> tuple[Ed25519PrivateKey, ...]:
    """The keys of a text: PEM (PKCS #8), several after each other. Raises `SecretsError`."""
    blocks = [block.strip() + "\n" + _PEM_END + "\n" for block in text.split(_PEM_END)[:-1]]
    keys = tuple(_token_key(block) for block in blocks)
    if not keys:
        raise SecretsError("the token key must be an Ed25519 private key in PEM (PKCS #8)")
    return keys


def _token_key(block: str) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(block.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SecretsError("the token key must be an unencrypted Ed25519 private key in PEM (PKCS #8)") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SecretsError("the token key must be of the kind Ed25519")
    return key


def read_keys(text: str, name: str) -> tuple[bytes, ...]:
    """Keys of KEY_BYTES from their base64, with commas. Raises `SecretsError`, which calls them `name`."""
    return tuple(_key(one, name) for one in text.split(","))


def _key(text: str, name: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error as error:
        raise SecretsError(f"a {name} must be base64 of {KEY_BYTES} bytes") from error
    if len(key) != KEY_BYTES:
        raise SecretsError(f"a {name} has {KEY_BYTES} bytes, this one {len(key)}")
    return key
