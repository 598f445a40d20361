"""Keys of the accounts: made with the account, wrapped by the master key, used only as keys derived from them."""

import hmac
import os
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_VERSION: Final = b"\x01"


class KeyUnusable(Exception):
    """The wrapped key of an account does not open: the master key is another one, or the row was changed. Restore the master
    key that belongs to this database."""


class AccountKeys:
    """What one account's key is good for. Three derived keys, so that no use can weaken another: `cipher` seals bodies,
    `mac` makes content digests, `ids` turns idempotency keys into message ids (both to be copied: setting one up costs more
    than using it)."""

    __slots__ = ("cipher", "ids", "mac")

    def __init__(self, key: bytes) -> None:
        self.cipher = AESGCM(_derived(key, b"restante body v1"))
        self.mac = hmac.new(_derived(key, b"restante digest v1"), digestmod="sha256")
        self.ids = hmac.new(_derived(key, b"restante message id v1"), digestmod="sha256")


class MasterKey:
    """Wraps and unwraps the accounts' keys: version byte, nonce, AES-256-GCM; user id and version are bound in. Of several
    keys the first wraps, every one unwraps."""

    def __init__(self, *keys: bytes) -> None:
        self.use(keys)

    def use(self, keys: Sequence[bytes]) -> None:
        """Go by these from now on."""
        self._ciphers = [AESGCM(key) for key in keys]

    def make(self, user_id: UUID) -> bytes:
        """A new random key for an account, wrapped."""
        return self._wrap(user_id, os.urandom(KEY_BYTES))

    def unwrap(self, user_id: UUID, wrapped: bytes) -> AccountKeys:
        """The account's keys. Raises `KeyUnusable`."""
        for cipher in self._ciphers:
            key = _opened(cipher, user_id, wrapped)
            if key is not None:
                return AccountKeys(key)
        raise KeyUnusable(f"the key of account {user_id} does not open with this master key")

    def rewrapped(self, user_id: UUID, wrapped: bytes) -> bytes | None:
        """The account's key under the first master key; None where it is that already. Raises `KeyUnusable`."""
        for place, cipher in enumerate(self._ciphers):
            key = _opened(cipher, user_id, wrapped)
            if key is not None:
                return self._wrap(user_id, key) if place else None
        raise KeyUnusable(f"the key of account {user_id} opens with none of these master keys")

    def _wrap(self, user_id: UUID, key: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return _VERSION + nonce + self._ciphers[0].encrypt(nonce, key, user_id.bytes + _VERSION)


def _opened(cipher: AESGCM, user_id: UUID, wrapped: bytes) -> bytes | None:
    if wrapped[:1] != _VERSION:
        raise KeyUnusable(f"the key of account {user_id} is wrapped in a way that this version does not know")
    nonce, sealed = wrapped[1 : 1 + NONCE_BYTES], wrapped[1 + NONCE_BYTES :]
    try:
        return cipher.decrypt(nonce, sealed, user_id.bytes + _VERSION)
    except (InvalidTag, ValueError):
        return None


def _derived(key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(key)
