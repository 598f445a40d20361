"""Access tokens: JWTs (RFC 7519, RFC 9068's type), Ed25519 and nothing else, for one account and one device."""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from api.problems import Problem

ISSUER: Final = "restante"
AUDIENCE: Final = "restante"
TYPE: Final = "at+jwt"
ALGORITHM: Final = "EdDSA"
MAX_TOKEN_BYTES: Final = 4096
REMEMBERED: Final = 50_000
"""Verified tokens kept, so that a token costs its signature once."""

_OPTIONS: Final[Any] = {
    "require": ["exp", "iat", "sub", "device", "gen", "iss", "aud"],
    "verify_exp": False,
    "verify_iat": False,
}


DeviceLabel = Callable[[], str | None]
"""Gives the label of the device that a caller names, where tokens do not say which one they are for."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: an account on a device, until `expires_at` (seconds since the epoch) or until the device's `generation` is
    a higher one."""

    user: UUID
    device: UUID
    expires_at: int
    generation: int


class AccessTokens:
    """Issues tokens with the first key, verifies those of every key. `clock` gives seconds since the epoch, `revoked` says
    whether a principal's token was ended before its time."""

    def __init__(
        self,
        keys: Sequence[Ed25519PrivateKey],
        ttl: float,
        clock: Callable[[], float],
        revoked: Callable[[Principal], bool],
    ) -> None:
        self.ttl = int(ttl)
        self._clock = clock
        self._revoked = revoked
        self.use(keys)

    def use(self, keys: Sequence[Ed25519PrivateKey]) -> None:
        """Go by these keys from now on. What was verified is verified anew: its key may be gone."""
        self._public = {key_id(key.public_key()): key.public_key() for key in keys}
        self._signing = keys[0]
        self._signing_id = key_id(keys[0].public_key())
        self._verified: dict[str, Principal] = {}

    def issue(self, user: UUID, device: UUID, generation: int) -> str:
        """A token that is good from now on for `ttl` seconds, unless the device's generation rises above this one."""
        now = int(self._clock())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(user),
            "device": str(device),
            "gen": generation,
            "iat": now,
            "exp": now + self.ttl,
        }
        return jwt.encode(claims, self._signing, ALGORITHM, headers={"typ": TYPE, "kid": self._signing_id})

    async def recognise(self, token: str, device: DeviceLabel) -> Principal:
        """Who this token stands for; it names its device itself. Raises `Problem` as `verify` does."""
        return self.verify(token)

    async def renewed(self, token: str, who: Principal) -> Principal:
        """The same account and device with another token. Raises `Problem`."""
        fresh = self.verify(token)
        if (fresh.user, fresh.device) != (who.user, who.device):
            raise Problem("token_invalid", "A socket stays with its account and device. Connect anew for another.")
        return fresh

    def verify(self, token: str) -> Principal:
        """Who this token stands for. Raises `Problem` token_invalid, token_expired or token_revoked."""
        principal = self._verified.get(token)
        if principal is None:
            principal = self._checked(token)
            if len(self._verified) >= REMEMBERED:
                del self._verified[next(iter(self._verified))]
            self._verified[token] = principal
        if principal.expires_at <= self._clock():
            self._verified.pop(token, None)
            raise Problem("token_expired", "The access token has expired. Get a new one at POST /tokens/refresh.")
        self.check(principal)
        return principal

    def check(self, who: Principal) -> None:
        """Raises `Problem` token_revoked where the token was ended before its time: for calls that wait."""
        if self._revoked(who):
            raise Problem("token_revoked", "This device was logged out or removed. Log in again at POST /tokens.")

    def published(self) -> dict[str, Any]:
        """The public keys as a JSON Web Key Set (RFC 7517, RFC 8037)."""
        return {"keys": [_jwk(kid, public) for kid, public in self._public.items()]}

    def _checked(self, token: str) -> Principal:
        if len(token) > MAX_TOKEN_BYTES:
            raise _invalid()
        try:
            header = jwt.get_unverified_header(token)
            public = self._public[header.get("kid", "")]
            if header.get("typ") != TYPE:
                raise _invalid()
            claims = jwt.decode(token, public, [ALGORITHM], _OPTIONS, audience=AUDIENCE, issuer=ISSUER)
            if type(claims["exp"]) is not int or type(claims["gen"]) is not int:
                raise _invalid()
            return Principal(UUID(claims["sub"]), UUID(claims["device"]), claims["exp"], claims["gen"])
        except (jwt.PyJWTError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise _invalid() from error


def key_id(key: Ed25519PublicKey) -> str:
    """The key's RFC 7638 thumbprint."""
    required = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": _x(key)}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(required.encode()).digest()).decode().rstrip("=")


def _jwk(kid: str, key: Ed25519PublicKey) -> dict[str, str]:
    return {"kty": "OKP", "crv": "Ed25519", "x": _x(key), "kid": kid, "use": "sig", "alg": ALGORITHM}


def _x(key: Ed25519PublicKey) -> str:
    return base64.urlsafe_b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode().rstrip("=")


def _invalid() -> Problem:
    return Problem("token_invalid", "This access token was not issued here. Log in at POST /tokens.")
