"""An outside OpenID provider: its keys, and what its tokens say.

Keys are fetched at the start, every hour, and where a token names one that is not known: then at most once a minute, so that
invented key ids cost the provider nothing. While it is away, the keys that are known stay good. Only signatures that need a
private key count; a shared secret (HS*) and no signature never do, whatever the provider publishes.
"""

import asyncio
import json
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from time import monotonic
from typing import Any, Final, Protocol, Self
from urllib.parse import urlsplit

import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from api.problems import Problem

MAX_TOKEN_BYTES: Final = 8_000
"""What fits into a header line of a WebSocket's handshake."""

REFRESH_SECONDS: Final = 3600.0
UNKNOWN_SECONDS: Final = 60.0
FIRST_SECONDS: Final = 5.0
"""How often it is asked while no key of it is known at all."""

SKEW_SECONDS: Final = 60.0
"""How far the provider's clock may be ahead."""

_FETCH_SECONDS: Final = 5.0
_MOST_BYTES: Final = 262_144
_LEAST_RSA_BITS: Final = 2048
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}
_TYPES: Final = (None, "jwt", "at+jwt", "application/at+jwt")
_OPTIONS: Final[Any] = {
    "require": ["exp", "iat", "sub", "iss", "aud"],
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
}
_log = structlog.get_logger("restante.api")

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
Fetch = Callable[[str], Mapping[str, Any]]
"""Blocks for the JSON object at a URL. Raises `OSError`, `HTTPException` or `ValueError`."""


class ProviderUnreadable(Exception):
    """The provider's keys cannot be had. The text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Whose tokens are taken: those of `issuer` for `audience`. Its keys are at `jwks_url`, or where its discovery document
    says; accounts are named by `name_claim` where that gives a name."""

    issuer: str
    audience: str
    jwks_url: str | None = None
    name_claim: str = "preferred_username"


@dataclass(frozen=True, slots=True)
class Login:
    """What a token says: who, and from when until when (the provider's clock, seconds)."""

    subject: str
    name: str | None
    issued_at: int
    expires_at: int


class Logins(Protocol):
    """Reads tokens (`Provider`)."""

    async def login_of(self, token: str) -> Login:
        """Raises `Problem`."""


@dataclass(frozen=True, slots=True)
class _Key:
    public: PublicKey
    algorithms: tuple[str, ...]
    published: dict[str, str]


class Provider:
    """Fetches from entry to exit. `clock` gives seconds since the epoch."""

    def __init__(self, outside: Outside, clock: Callable[[], float], fetch: Fetch | None = None) -> None:
        self.outside = outside
        self._clock = clock
        self._fetch = fetch or fetch_json
        self._keys: dict[str, _Key] = {}
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._refresh_for_ever(), name="keys of the provider")
        return self

    async def __aexit__(self, *failure: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def published(self) -> dict[str, Any]:
        """The known keys as a JSON Web Key Set."""
        return {"keys": [key.published for key in self._keys.values()]}

    async def login_of(self, token: str) -> Login:
        """What a token says. Raises `Problem` token_invalid, token_expired, or directory_unavailable where no key of the
        provider is known yet."""
        if len(token) > MAX_TOKEN_BYTES:
            raise _invalid()
        try:
            header = jwt.get_unverified_header(token)
            if str(header.get("typ") or "jwt").lower() not in _TYPES or "crit" in header:
                raise _invalid()
            return self._said(await self._verified(token, header.get("kid"), header["alg"]))
        except (jwt.PyJWTError, KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise _invalid() from error

    async def _verified(self, token: str, kid: str | None, algorithm: str) -> dict[str, Any]:
        """The claims. A token without a key id is of the one key that there is; where that does not fit, it may be another
        by now."""
        try:
            return self._claims(token, await self._key(kid), algorithm)
        except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError):
            if kid is not None or not await self._asked_again():
                raise
            return self._claims(token, await self._key(kid), algorithm)

    def _claims(self, token: str, key: "_Key", algorithm: str) -> dict[str, Any]:
        if algorithm not in key.algorithms:
            raise jwt.InvalidAlgorithmError
        wanted = self.outside
        return jwt.decode(token, key.public, [algorithm], _OPTIONS, audience=wanted.audience, issuer=wanted.issuer)

    def _said(self, claims: Mapping[str, Any]) -> Login:
        now, subject = self._clock(), claims["sub"]
        issued, expires = _seconds(claims["iat"]), _seconds(claims["exp"])
        if not isinstance(subject, str) or not 1 <= len(subject.encode()) <= 255:
            raise _invalid()
        if max(issued, _seconds(claims.get("nbf", issued))) > now + SKEW_SECONDS:
            raise _invalid()
        if expires <= now:
            raise Problem("token_expired", "The token has expired. Get a new one from the provider.")
        name = claims.get(self.outside.name_claim)
        return Login(subject, name if isinstance(name, str) else None, issued, expires)

    async def _key(self, kid: str | None) -> "_Key":
        found = self._known(kid)
        if found is None and await self._asked_again():
            found = self._known(kid)
        if not self._keys:
            raise Problem("directory_unavailable", "The provider of the accounts cannot be reached. Try again later.")
        if found is None:
            raise _invalid()
        return found

    def _known(self, kid: str | None) -> "_Key | None":
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    async def _asked_again(self) -> bool:
        """Fetch the keys, unless that was done a moment ago: whoever waited for it meanwhile has them, too."""
        came = monotonic()
        async with self._asking:
            if self._asked_at < came and came - self._asked_at >= self._patience():
                await self._ask()
            return self._asked_at >= came

    def _patience(self) -> float:
        return UNKNOWN_SECONDS if self._keys else FIRST_SECONDS

    async def _refresh_for_ever(self) -> None:
        while True:
            async with self._asking:
                if monotonic() - self._asked_at >= FIRST_SECONDS:
                    await self._ask()
            await asyncio.sleep(REFRESH_SECONDS if self._keys else FIRST_SECONDS)

    async def _ask(self) -> None:
        """Fetch the keys. Where that fails, the known ones stay."""
        self._asked_at = monotonic()
        try:
            self._keys = await self._look()
        except ProviderUnreadable as error:
            _log.warning("provider_keys_not_fetched", error=str(error))

    async def look(self) -> int:
        """How many keys it has that are of use here. Raises `ProviderUnreadable`."""
        return len(await self._look())

    async def _look(self) -> "dict[str, _Key]":
        try:
            return await asyncio.to_thread(self._fetched)
        except (OSError, HTTPException, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ProviderUnreadable(f"{type(error).__name__}: {error}"[:200]) from error

    def _fetched(self) -> dict[str, _Key]:
        wanted, url = self.outside, self.outside.jwks_url
        if url is None:
            found = self._fetch(wanted.issuer.rstrip("/") + "/.well-known/openid-configuration")
            if found.get("issuer") != wanted.issuer:
                raise ValueError("the discovery document is another issuer's")
            url = str(found["jwks_uri"])
        if not is_safe(url):
            raise ValueError("the keys are not at an https address")
        usable = {jwk.get("kid", ""): key for jwk in self._fetch(url)["keys"] if (key := _usable(jwk)) is not None}
        if not usable:
            raise ValueError("there is no usable key")
        return usable


def is_safe(url: str) -> bool:
    """Whether nobody on the way can change what comes from there: https, or this machine."""
    parts = urlsplit(url)
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost"))
    )


def _usable(jwk: Mapping[str, Any]) -> _Key | None:
    """A public key for signatures, with the algorithms that fit its kind; None for any other."""
    if not isinstance(jwk.get("kid", ""), str) or jwk.get("use", "sig") != "sig" or "d" in jwk:
        return None
    try:
        public, algorithms = _public(jwk)
    except (jwt.PyJWTError, ValueError, KeyError, TypeError):
        return None
    said = jwk.get("alg")
    fitting = tuple(one for one in algorithms if said in (None, one))
    published = {name: value for name, value in jwk.items() if isinstance(value, str)}
    return _Key(public, fitting, published) if fitting else None


def _public(jwk: Mapping[str, Any]) -> tuple[PublicKey, tuple[str, ...]]:
    kinds: dict[str, Any] = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}
    match kinds[jwk["kty"]].from_jwk(dict(jwk)):
        case RSAPublicKey() as key if key.key_size >= _LEAST_RSA_BITS:
            return key, _RSA
        case EllipticCurvePublicKey() as key:
            return key, _CURVES[key.curve.name]
        case Ed25519PublicKey() as key:
            return key, ("EdDSA",)
        case _:
            raise ValueError("a key that is not used here")


def fetch_json(url: str) -> Mapping[str, Any]:
    """The JSON object at a URL, by the machine's proxies, without redirects. Raises `OSError` or `ValueError`."""
    deadline = monotonic() + _FETCH_SECONDS
    asked = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 (is_safe)
    with urllib.request.build_opener(_NoRedirects).open(asked, timeout=_FETCH_SECONDS) as answer:
        text = bytearray()
        while chunk := answer.read1(65_536):
            text += chunk
            if len(text) > _MOST_BYTES or monotonic() > deadline:
                raise ValueError("the answer is too large or too slow")
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("the answer is no JSON object")
    return found


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **more: Any) -> None:
        return None


def _seconds(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _invalid()
    return int(value)


def _invalid() -> Problem:
    return Problem("token_invalid", "This token is not one of the provider for this service. Get one from the provider.")
