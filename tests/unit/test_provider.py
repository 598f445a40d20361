"""The keys of an outside provider, and which tokens they make good."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.warnings import InsecureKeyLengthWarning

from api import provider as providers
from api.problems import Problem
from api.provider import Outside, Provider

pytestmark = pytest.mark.anyio
NOW = 1_790_000_000
OUTSIDE = Outside(issuer="https://id.example/", audience="restante")
RSA, WEAK, EC, ED, OTHER = (
    generate_rsa(65537, 2048), generate_rsa(65537, 1024), generate_ec(SECP256R1()), Ed25519PrivateKey.generate(),
    Ed25519PrivateKey.generate(),
)  # fmt: skip
RSA_PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def jwk(key: Any, **more: Any) -> dict[str, Any]:
    kinds: list[tuple[Any, Any]] = [(RSAPrivateKey, RSAAlgorithm), (EllipticCurvePrivateKey, ECAlgorithm)]
    kind = next((algorithm for kind, algorithm in kinds if isinstance(key, kind)), OKPAlgorithm)
    return {**json.loads(kind.to_jwk(key.public_key())), **more}


KEYS = [
    jwk(RSA, kid="rsa", use="sig"),
    jwk(WEAK, kid="weak"),
    jwk(EC, kid="ec", alg="ES256"),
    jwk(ED, kid="ed"),
    jwk(OTHER, kid="for encryption", use="enc"),
    {"kty": "oct", "kid": "shared", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U"},
    {"kty": "new", "kid": "unheard of"},
    {**jwk(RSA, kid="bound"), "alg": "PS256"},
]


class Site:
    """Serves a discovery document and keys, counts, and may be away."""

    def __init__(self, keys: list[dict[str, Any]]) -> None:
        self.keys = keys
        self.issuer = OUTSIDE.issuer
        self.away = False
        self.asked: list[str] = []

    def __call__(self, url: str) -> Mapping[str, Any]:
        self.asked.append(url)
        if self.away:
            raise ConnectionRefusedError
        if url.endswith("/keys"):
            return {"keys": self.keys}
        return {"issuer": self.issuer, "jwks_uri": "https://id.example/keys"}

    @property
    def fetched(self) -> int:
        return sum(url.endswith("/keys") for url in self.asked)


@asynccontextmanager
async def asking(site: Site, clock: Callable[[], float] = lambda: NOW, **more: Any) -> AsyncIterator[Provider]:
    async with Provider(Outside(**{"issuer": OUTSIDE.issuer, "audience": OUTSIDE.audience} | more), clock, site) as made:
        yield made


def token(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "rsa", header: Any = None, **claims: Any) -> str:
    said = {"iss": OUTSIDE.issuer, "aud": "restante", "sub": "u1", "iat": NOW, "exp": NOW + 3600} | claims
    headers = {**({"kid": kid} if kid else {}), **(header or {})}
    said = {name: value for name, value in said.items() if value is not None}
    with warnings.catch_warnings(action="ignore", category=InsecureKeyLengthWarning):
        return jwt.encode(said, key, algorithm, headers=headers)


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [(RSA, "RS256", "rsa"), (RSA, "PS512", "rsa"), (EC, "ES256", "ec"), (ED, "EdDSA", "ed"), (RSA, "PS256", "bound")],
    ids=["RS256", "PS512", "ES256", "EdDSA", "PS256"],
)
async def test_signatures_with_a_private_key_count(key: Any, algorithm: str, kid: str) -> None:
    async with asking(Site(KEYS)) as provider:
        login = await provider.login_of(token(key, algorithm, kid, preferred_username="Alice"))
        assert (login.subject, login.name, login.issued_at, login.expires_at) == ("u1", "Alice", NOW, NOW + 3600)


async def test_claims_that_are_no_text_name_nobody_and_another_claim_may() -> None:
    async with asking(Site(KEYS), name_claim="email") as provider:
        assert (await provider.login_of(token(email="a@b.example"))).name == "a@b.example"
        assert (await provider.login_of(token(email=["a"], preferred_username="alice"))).name is None


SECRET = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U"
WRONG = {
    "nothing": "",
    "no token": "a.b.c",
    "huge": "a" * 20_000,
    "no signature": token(None, "none"),
    "a shared secret that is published": token(b"secretsecretsecretsecretsecretse", "HS256", "shared"),
    "the public key as a secret": token("x" * 32, "HS256").rpartition(".")[0] + ".AAAA",
    "another key": token(OTHER, "EdDSA", "ed"),
    "an unknown key": token(OTHER, "EdDSA", "other"),
    "a key for encryption": token(OTHER, "EdDSA", "for encryption"),
    "a weak key": token(WEAK, "RS256", "weak"),
    "another key's id": token(RSA, "RS256", "ec"),
    "another algorithm than the key's": token(RSA, "RS256", "bound"),
    "no key id among several keys": token(kid=None),
    "a key that comes along": token(OTHER, "EdDSA", "rsa", header={"jwk": jwk(OTHER)}),
    "a key from elsewhere": token(OTHER, "EdDSA", "rsa", header={"jku": "https://evil.example/keys"}),
    "a key id that is a path": token(OTHER, "EdDSA", "../../../dev/null"),
    "a header that must be understood": token(header={"crit": ["x"], "x": 1}),
    "another type": token(header={"typ": "logout+jwt"}),
    "another issuer": token(iss="https://id.example"),
    "another audience": token(aud="another"),
    "no audience": token(aud=None),
    "no expiry": token(exp=None),
    "no time": token(iat=None),
    "no subject": token(sub=None),
    "an empty subject": token(sub=""),
    "an endless subject": token(sub="x" * 256),
    "a subject that is no text": token(sub="\ud800"),
    "a subject that is a number": token(sub=7),
    "expiry is a truth": token(exp=True),
    "expiry is endless": token(exp=float("inf")),
    "issued in the future": token(iat=NOW + 3600, exp=NOW + 7200),
    "not valid yet": token(nbf=NOW + 3600),
    "changed": token()[:-6] + "AAAAAA",
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_nothing_else_does(wrong: str) -> None:
    async with asking(Site(KEYS)) as provider:
        assert (await provider.login_of(token())).subject == "u1"
        with pytest.raises(Problem, match="token_invalid"):
            await provider.login_of(WRONG[wrong])


async def test_an_expired_token_is_expired() -> None:
    async with asking(Site(KEYS), lambda: NOW + 3600) as provider:
        with pytest.raises(Problem, match="token_expired"):
            await provider.login_of(token())


async def test_invented_key_ids_cost_the_provider_one_question_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now, site = [1000.0], Site(KEYS[:1])
    monkeypatch.setattr(providers, "monotonic", lambda: now[0])
    async with asking(site) as provider:
        await provider.login_of(token())
        for number in range(20):
            now[0] += 1
            with pytest.raises(Problem, match="token_invalid"):
                await provider.login_of(token(ED, "EdDSA", f"invented {number}"))
        assert site.fetched == 1
        site.keys = KEYS
        now[0] += 60
        logins = await asyncio.gather(*(provider.login_of(token(ED, "EdDSA", "ed")) for _ in range(5)))
        assert [login.subject for login in logins] == ["u1"] * 5
        assert site.fetched == 2


async def test_while_it_is_away_the_known_keys_stay_good(monkeypatch: pytest.MonkeyPatch) -> None:
    now, site = [1000.0], Site(KEYS[:1])
    monkeypatch.setattr(providers, "monotonic", lambda: now[0])
    async with asking(site) as provider:
        await provider.login_of(token())
        site.away = True
        now[0] += 3600
        with pytest.raises(Problem, match="token_invalid"):
            await provider.login_of(token(ED, "EdDSA", "ed"))
        assert (await provider.login_of(token())).subject == "u1"
        site.away, site.keys = False, []
        now[0] += 3600
        with pytest.raises(Problem, match="token_invalid"):
            await provider.login_of(token(ED, "EdDSA", "ed"))
        assert (await provider.login_of(token())).subject == "u1", "no keys at all is no answer either"


async def test_before_it_ever_answered_nobody_is_told_that_the_token_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    now, site = [1000.0], Site(KEYS)
    monkeypatch.setattr(providers, "monotonic", lambda: now[0])
    site.away = True
    async with asking(site) as provider:
        for _ in range(3):
            with pytest.raises(Problem, match="directory_unavailable"):
                await provider.login_of(token())
        site.away = False
        now[0] += 5
        assert (await provider.login_of(token())).subject == "u1"


@pytest.mark.parametrize("what", ["issuer", "place"])
async def test_a_discovery_document_of_somebody_else_is_not_believed(what: str) -> None:
    site = Site(KEYS)
    if what == "issuer":
        site.issuer = "https://evil.example/"
    more = {} if what == "issuer" else {"jwks_url": "http://id.example/keys"}
    async with asking(site, **more) as provider:
        with pytest.raises(Problem, match="directory_unavailable"):
            await provider.login_of(token())


async def test_a_token_without_a_key_id_is_of_the_only_key_also_after_that_was_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, site = [1000.0], Site([jwk(RSA)])
    monkeypatch.setattr(providers, "monotonic", lambda: now[0])
    async with asking(site) as provider:
        assert (await provider.login_of(token(kid=None))).subject == "u1"
        site.keys = [jwk(ED)]
        now[0] += 60
        with pytest.raises(Problem, match="token_invalid"):
            await provider.login_of(token(ED, "EdDSA", kid=None)[:-6] + "AAAAAA")
        site.keys = [jwk(OTHER)]
        assert (await provider.login_of(token(ED, "EdDSA", kid=None))).subject == "u1"


async def test_what_is_published_is_public() -> None:
    async with asking(Site(KEYS)) as provider:
        await provider.login_of(token())
        published = provider.published()["keys"]
        assert {key["kid"] for key in published} == {"rsa", "ec", "ed", "bound"}
        assert all("d" not in key for key in published)
