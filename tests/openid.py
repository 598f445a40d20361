"""A real OpenID provider as a process of its own: `oidc-provider-mock`, which stands on Authlib. It can be stopped."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2

from deploy.local import ports
from tests.eventually import soon

BACK = "http://127.0.0.1/back"


class OpenId:
    """Where it is, and logins of people there by the code flow, without pages."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.issuer = f"http://127.0.0.1:{port}"
        self._process = process

    def stop(self) -> None:
        """It is away from now on."""
        self._process.kill()
        self._process.wait(20)

    async def token(self, subject: str, *, audience: str = "restante", **claims: Any) -> str:
        """Log somebody in: a token for this audience, with these claims."""
        async with httpx2.AsyncClient(timeout=20, trust_env=False, base_url=self.issuer) as client:
            await client.put(f"/users/{subject}", json=claims)
            asked = {"client_id": audience, "redirect_uri": BACK, "response_type": "code", "scope": "openid profile"}
            sent_back = await client.post("/oauth2/authorize", params=asked, data={"sub": subject})
            (code,) = parse_qs(urlsplit(sent_back.headers["Location"]).query)["code"]
            wanted = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK, "client_id": audience}
            given = await client.post("/oauth2/token", data={**wanted, "client_secret": "any"})
            return str(given.json()["id_token"])


@contextmanager
def provider() -> Iterator[OpenId]:
    """A provider, until the end of the block."""
    port = ports.any_free()
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        soon(lambda: _listens(port), 60, "the provider listens")
        yield OpenId(process, port)
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
