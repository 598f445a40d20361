"""Tokens that are none: expired, forged, changed, another service's."""

from __future__ import annotations

import base64
import hmac
import json
import uuid
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.acceptance.answers import good, problem
from tests.acceptance.people import Device
from tests.acceptance.service import Service

ID = str(uuid.UUID(int=7))


def _forged(service: Service, caller: Device, /, *, key: Any = None, header: Any = None, **changes: Any) -> str:
    """This caller's token with other claims, signed by the service's own key unless another is given."""
    claims = jwt.decode(caller.token, options={"verify_signature": False}) | changes
    own = load_pem_private_key((service.data / "secrets" / "token-key").read_bytes(), None)
    headers = {**jwt.get_unverified_header(caller.token), **(header or {})}
    return jwt.encode(
        {name: value for name, value in claims.items() if value is not None}, key or own, "EdDSA", headers=headers
    )


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


class TestTokens:
    def ask(self, service: Service, token: str, scheme: str = "Bearer ") -> Any:
        return service.request("GET", "/messages/sync", headers={"Authorization": (scheme + token).encode("latin-1")})

    def test_none(self, service: Service) -> None:
        for method, path in [
            ("GET", "/messages/sync"),
            ("POST", "/messages"),
            ("POST", "/messages/ack"),
            ("GET", f"/messages/{ID}"),
        ]:
            problem(service.request(method, path), "token_missing")

    def test_the_forger_knows_how_to_make_a_good_one(self, service: Service, eve: Device) -> None:
        good(self.ask(service, _forged(service, eve)))

    def test_one_that_has_expired(self, service: Service, eve: Device) -> None:
        past = 1_600_000_000
        problem(self.ask(service, _forged(service, eve, iat=past - 900, exp=past)), "token_expired")

    def test_one_of_another_service(self, service: Service, eve: Device) -> None:
        stranger = Ed25519PrivateKey.generate()
        problem(self.ask(service, _forged(service, eve, key=stranger)), "token_invalid")
        problem(self.ask(service, _forged(service, eve, key=stranger, header={"kid": "other"})), "token_invalid")
        problem(self.ask(service, _forged(service, eve, iss="another")), "token_invalid")
        problem(self.ask(service, _forged(service, eve, aud="another")), "token_invalid")
        problem(self.ask(service, _forged(service, eve, header={"typ": "JWT"})), "token_invalid")

    @pytest.mark.parametrize(
        "changes",
        [
            {"exp": None},
            {"sub": None},
            {"sub": "x"},
            {"device": 7},
            {"exp": "soon"},
            {"sub": ["x"]},
            {"aud": None},
            {"exp": 1e300},
        ],
        ids=str,
    )
    def test_one_with_odd_claims(self, service: Service, eve: Device, changes: dict[str, Any]) -> None:
        problem(self.ask(service, _forged(service, eve, **changes)), "token_invalid", "token_expired")

    def test_other_algorithms(self, service: Service, eve: Device) -> None:
        _, claims, signature = eve.token.split(".")
        (public,) = good(service.request("GET", "/.well-known/jwks.json"))["keys"]
        secrets = (public["x"].encode(), base64.urlsafe_b64decode(public["x"] + "="), b"")
        kept = jwt.get_unverified_header(eve.token)
        for algorithm in ("HS256", "none", "None", "", "RS256", "EdDSA", None):
            said = f"{_base64(json.dumps({**kept, 'alg': algorithm}).encode())}.{claims}"
            signed = [_base64(hmac.digest(secret, said.encode(), "sha256")) for secret in secrets]
            for wrong in (*signed, "", *([signature] if algorithm != "EdDSA" else [])):
                problem(self.ask(service, f"{said}.{wrong}"), "token_invalid")

    def test_one_that_was_changed(self, service: Service, eve: Device) -> None:
        head, claims, signature = eve.token.split(".")
        for wrong in (
            f"{head}.{claims}.",
            f"{head}.{claims}",
            f"{head}.{claims}.{signature[:-8]}{'A' * 8}",
            f"{head}.{claims[::-1]}.{signature}",
            f"{claims}.{head}.{signature}",
            f".{claims}.{signature}",
            eve.token + "\xff",
            eve.token * 2,
            "x" * 20_000,
            "null",
            "{}",
        ):
            problem(self.ask(service, wrong), "token_invalid")

    def test_another_scheme(self, service: Service, eve: Device) -> None:
        problem(self.ask(service, "eDp4", "Basic "), "token_invalid", "token_missing")
        problem(self.ask(service, eve.token, ""), "token_invalid", "token_missing")
        problem(self.ask(service, "", "Bearer"), "token_invalid", "token_missing")
        problem(service.request("GET", f"/messages/sync?access_token={eve.token}"), "token_missing", "invalid_request")

    def test_a_refresh_token_is_none(self, service: Service, eve: Device) -> None:
        problem(self.ask(service, eve.refresh_token), "token_invalid")
