"""Tokens that are none, at every door: in the header of a call and of a socket, in the first frame, and as a renewal."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.exceptions import InvalidStatus

from api.app import create_app
from api.tokens import key_id
from tests.edge import SECRETS, Edge, Person
from tests.socket_rig import Site, close_of, listening

pytestmark = pytest.mark.anyio
OWN, STRANGER = SECRETS.token_keys[0], Ed25519PrivateKey.generate()
STRANGERS_JWK = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(STRANGER.public_key()))


def signed(token: str, key: Any = OWN, *, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
    """This token with another header and other claims, signed by this key."""
    said = jwt.decode(token, options={"verify_signature": False}) | claims
    headers = jwt.get_unverified_header(token) | (header or {})
    return jwt.encode(said, key, "EdDSA", headers=headers)


def by_hand(token: str, algorithm: str, secret: bytes | None) -> str:
    """This token as of another algorithm: without a signature, or with an HMAC under this secret."""
    head = {**jwt.get_unverified_header(token), "alg": algorithm}
    said = f"{text64(json.dumps(head).encode())}.{token.split('.')[1]}"
    return f"{said}." + (text64(hmac.digest(secret, said.encode(), "sha256")) if secret is not None else "")


def text64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def attacks(person: Person) -> dict[str, tuple[str, str]]:
    """What an attacker who has a token, and knows the public key, may try: the token and the code that answers it."""
    token, public = person.tokens["access_token"], OWN.public_key()
    foreign = {"kid": key_id(STRANGER.public_key())}
    now = int(person.edge.clock.now)
    secrets = (public.public_bytes_raw(), public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    forged = {
        "alg none": by_hand(token, "none", None),
        "HS256 with the public key": by_hand(token, "HS256", secrets[0]),
        "HS256 with the public key as PEM": by_hand(token, "HS256", secrets[1]),
        "wrong audience": signed(token, aud="another"),
        "wrong issuer": signed(token, iss="another"),
        "no refresh token": person.tokens["refresh_token"],
        "another type": signed(token, header={"typ": "JWT"}),
        "foreign key": signed(token, STRANGER),
        "foreign key id": signed(token, STRANGER, header=foreign),
        "a key id that is a path": signed(token, STRANGER, header={"kid": "../../../../dev/null"}),
        "a key id that is an address": signed(token, STRANGER, header={"kid": "http://127.0.0.1:1/key"}),
        "a key that comes along": signed(token, STRANGER, header={"jwk": STRANGERS_JWK}),
        "a key set elsewhere": signed(token, STRANGER, header=foreign | {"jku": "http://127.0.0.1:1/keys"}),
        "a certificate elsewhere": signed(token, STRANGER, header=foreign | {"x5u": "http://127.0.0.1:1/cert"}),
        "somebody else's account": signed(token, STRANGER, sub=str(uuid4())),
        "huge": token + "A" * 6_000,
    }
    expired = signed(token, iat=now - 1800, exp=now - 900)
    return {name: (each, "token_invalid") for name, each in forged.items()} | {"expired": (expired, "token_expired")}


@asynccontextmanager
async def site_of(edge: Edge) -> AsyncIterator[Site]:
    async with listening(create_app(edge.service)) as site:
        yield site


async def test_the_attacker_could_sign_a_good_one_with_the_right_key(edge: Edge, alice: Person) -> None:
    mine = Person(edge, "alice", {"access_token": signed(alice.tokens["access_token"])})
    assert (await mine.get("/messages/sync")).status_code == 200


async def test_no_call_takes_one(edge: Edge, alice: Person) -> None:
    for name, (token, code) in attacks(alice).items():
        answer = await Person(edge, "alice", {"access_token": token}).get("/messages/sync")
        assert (answer.status_code, answer.json()["code"]) == (401, code), name


async def test_no_socket_opens_with_one(edge: Edge, alice: Person) -> None:
    async with site_of(edge) as site:
        for name, (token, code) in attacks(alice).items():
            with pytest.raises(InvalidStatus) as refused:
                await site.client(token=token)
            answer = refused.value.response
            assert (answer.status_code, json.loads(answer.body or b"")["code"]) == (401, code), name
            async with site.client() as client:
                await client.send(json.dumps({"type": "authenticate", "token": token}))
                assert await close_of(client) == (4401, code), name


async def test_no_socket_lives_longer_by_one(edge: Edge, alice: Person, bob: Person) -> None:
    async with site_of(edge) as site, site.client(token=alice.tokens["access_token"]) as client:
        assert [json.loads(await client.recv())["type"] for _ in range(2)] == ["ready", "caught_up"]
        others = {"another account's": (bob.tokens["access_token"], "token_invalid")}
        for name, (token, code) in (attacks(alice) | others).items():
            await client.send(json.dumps({"type": "authenticate", "token": token}))
            frame = json.loads(await client.recv())
            assert (frame["type"], frame["problem"]["code"]) == ("error", code), name
        edge.clock.now += 900
        assert await close_of(client) == (4401, "token_expired")
