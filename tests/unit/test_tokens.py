"""Access tokens and the secrets they are made with."""

import base64
import contextlib
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from api.problems import Problem
from api.secrets import Secrets, SecretsError, make_key, make_token_key
from api.tokens import AccessTokens, Principal, key_id
from tests.builders import BOB, PHONE

NOW = 1_790_000_000
KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()

CLAIMS = {
    **{"iss": "restante", "aud": "restante", "sub": str(BOB), "device": str(PHONE), "gen": 7},
    **{"iat": NOW, "exp": NOW + 900},
}
HEADERS = {"typ": "at+jwt", "kid": key_id(KEY.public_key())}


class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


def tokens(
    *keys: Ed25519PrivateKey, clock: Clock | None = None, revoked: Callable[[Principal], bool] = lambda who: False
) -> AccessTokens:
    return AccessTokens(keys or (KEY,), 900, clock or Clock(), revoked)


def forged(key: Any = KEY, algorithm: str = "EdDSA", header: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token as `tokens()` would make it, but for what is given; None leaves a claim out."""
    said = {name: value for name, value in (CLAIMS | claims).items() if value is not None}
    headers = HEADERS | (header or {})
    return jwt.encode(said, key, algorithm, headers={name: value for name, value in headers.items() if value is not None})


def key_as_json(key: Ed25519PrivateKey) -> Any:
    return json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key()))


def test_a_token_stands_for_its_account_and_device_until_it_expires() -> None:
    who = tokens().verify(tokens().issue(BOB, PHONE, 7))
    assert who == Principal(BOB, PHONE, NOW + 900, 7)


def test_the_forgeries_below_differ_from_a_good_token_only_where_they_say() -> None:
    assert tokens().verify(forged()).user == BOB


def test_an_expired_token_is_expired_also_when_it_was_verified_before() -> None:
    clock = Clock()
    mine = tokens(clock=clock)
    token = mine.issue(BOB, PHONE, 7)
    mine.verify(token)
    clock.now = NOW + 900
    for _ in range(2):
        with pytest.raises(Problem, match="token_expired"):
            mine.verify(token)


def test_a_token_that_was_ended_is_revoked_also_when_it_was_verified_before() -> None:
    ended = []
    mine = tokens(revoked=lambda who: (who.device, who.generation) in ended)
    token = mine.issue(BOB, PHONE, 7)
    mine.verify(token)
    ended.append((PHONE, 7))
    for _ in range(2):
        with pytest.raises(Problem, match="token_revoked"):
            mine.verify(token)
    assert mine.verify(mine.issue(BOB, PHONE, 8)).generation == 8


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="empty"),
        pytest.param("a.b.c", id="no token"),
        pytest.param("a" * 5000, id="huge"),
        pytest.param(forged(OTHER), id="another key"),
        pytest.param(forged(OTHER, header={"kid": key_id(OTHER.public_key())}), id="foreign key id"),
        pytest.param(forged(header={"kid": None}), id="no key id"),
        pytest.param(forged(header={"typ": "JWT"}), id="another type"),
        pytest.param(forged(OTHER, header={"kid": "../../dev/null"}), id="key id is a path"),
        pytest.param(forged(OTHER, header={"jku": "https://evil.example/keys"}), id="keys elsewhere"),
        pytest.param(forged(OTHER, header={"jwk": key_as_json(OTHER)}), id="a key that comes along"),
        pytest.param(forged(None, "none"), id="no signature"),
        pytest.param(
            forged(KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw), "HS256"), id="HS256 with the public key"
        ),
        pytest.param(forged(iss="somebody"), id="another issuer"),
        pytest.param(forged(aud="another service"), id="another audience"),
        pytest.param(forged(exp=None), id="no expiry"),
        pytest.param(forged(sub=None), id="no subject"),
        pytest.param(forged(device=None), id="no device"),
        pytest.param(forged(gen=None), id="no generation"),
        pytest.param(forged(gen="7"), id="generation is no number"),
        pytest.param(forged(gen=True), id="generation is a truth"),
        pytest.param(forged(sub="bob"), id="subject is no id"),
        pytest.param(forged(device=7), id="device is no text"),
        pytest.param(forged(exp="soon"), id="expiry is no time"),
        pytest.param(forged(exp=[]), id="expiry is a list"),
        pytest.param(forged(exp=1e300), id="expiry is no whole number"),
        pytest.param(forged()[:-4] + "AAAA", id="changed signature"),
        pytest.param(forged() + "=", id="something after it"),
        pytest.param("\xff.\xfe.\xfd", id="not ASCII"),
    ],
)
def test_every_other_token_is_invalid(token: str) -> None:
    with pytest.raises(Problem, match="token_invalid"):
        tokens().verify(token)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["iss", "aud", "sub", "device", "gen", "iat", "exp", "nbf", "kid", "typ", "alg", "crit", "b64"])


@given(st.dictionaries(NAMES, JSON, min_size=1))
def test_whatever_is_signed_it_is_a_token_or_it_is_refused(claims: dict[str, Any]) -> None:
    signed = jwt.PyJWS().encode(json.dumps({**CLAIMS, **claims}).encode(), KEY, "EdDSA", headers=HEADERS)
    with contextlib.suppress(Problem):
        assert tokens().verify(signed).expires_at > NOW


@given(JSON, st.dictionaries(NAMES, JSON), st.binary(max_size=70))
def test_whatever_is_sent_as_a_token_is_refused(claims: Any, header: dict[str, Any], signature: bytes) -> None:
    parts = (json.dumps({**HEADERS, "alg": "EdDSA", **header}).encode(), json.dumps(claims).encode(), signature)
    with pytest.raises(Problem, match="token_invalid"):
        tokens().verify(".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts))


@given(st.integers(0, 400), st.integers(0, 4), st.text(max_size=4))
def test_a_token_that_was_changed_is_refused(at: int, left_out: int, put_in: str) -> None:
    token = tokens().issue(BOB, PHONE, 7)
    changed = token[:at] + put_in + token[at + left_out :]
    if changed != token:
        with pytest.raises(Problem, match="token_invalid"):
            tokens().verify(changed)


def test_key_rotation_breaks_no_token() -> None:
    old = tokens(KEY).issue(BOB, PHONE, 7)
    rotated = tokens(OTHER, KEY)
    assert rotated.verify(old).user == BOB
    assert tokens(OTHER).verify(rotated.issue(BOB, PHONE, 7)).user == BOB
    assert [key["kid"] for key in rotated.published()["keys"]] == [key_id(OTHER.public_key()), key_id(KEY.public_key())]


def test_outsiders_can_verify_with_the_published_keys() -> None:
    token = tokens().issue(BOB, PHONE, 7)
    published = {key["kid"]: key for key in tokens().published()["keys"]}
    key = jwt.PyJWK(published[jwt.get_unverified_header(token)["kid"]])
    claims = jwt.decode(
        token, key, ["EdDSA"], {"verify_exp": False, "verify_iat": False}, audience="restante", issuer="restante"
    )
    assert claims["sub"] == str(BOB)


def test_the_published_keys_hold_nothing_private() -> None:
    private = KEY.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    said = json.dumps(tokens().published())
    assert base64.urlsafe_b64encode(private).decode().rstrip("=") not in said
    assert {"d", "k"}.isdisjoint(tokens().published()["keys"][0])


def test_remembered_tokens_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.tokens.REMEMBERED", 2)
    clock = Clock()
    mine = tokens(clock=clock)
    for _ in range(5):
        clock.now += 1
        mine.verify(mine.issue(BOB, PHONE, 7))
    assert len(mine._verified) == 2


def test_secrets_are_read_from_their_texts() -> None:
    one, two = make_token_key(), make_token_key()
    read = Secrets.read(
        token_key=one + two, cursor_keys=f"{make_key()}, {make_key()}", master_key=f"{make_key()},{make_key()}"
    )
    assert len(read.token_keys) == 2
    assert [len(key) for key in (*read.cursor_keys, *read.master_keys)] == [32, 32, 32, 32]


EC = generate_ec(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    "wrong",
    [
        {"token_key": "nothing"},
        {"token_key": make_token_key().replace("M", "!")},
        {"token_key": EC},
        {"cursor_keys": ""},
        {"cursor_keys": base64.b64encode(b"x" * 31).decode()},
        {"cursor_keys": make_key() + ","},
        {"master_key": "not base64!"},
        {"master_key": base64.b64encode(b"x" * 33).decode()},
    ],
)
def test_a_key_that_is_none_is_refused_without_quoting_it(wrong: dict[str, str]) -> None:
    good = {"token_key": make_token_key(), "cursor_keys": make_key(), "master_key": make_key()}
    with pytest.raises(SecretsError) as refused:
        Secrets.read(**(good | wrong))
    assert all(not text or text not in str(refused.value) for text in wrong.values())


def test_secrets_do_not_print() -> None:
    key = make_key()
    read = Secrets.read(token_key=make_token_key(), cursor_keys=key, master_key=key)
    assert repr(base64.b64decode(key)) not in repr(read)
