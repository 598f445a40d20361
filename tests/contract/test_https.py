"""HTTPS with a certificate of our own: served, checked by the client commands, renewed while it is in use."""

from __future__ import annotations

import asyncio
import io
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme
from cryptography import x509
from structlog.testing import capture_logs

from api import bounds
from api.app import create_app
from deploy import cli
from deploy import client as clients
from deploy.errors import Misconfigured
from deploy.listening import Listener
from deploy.local import ports
from deploy.serving import served
from deploy.tls import Certificate
from tests.edge import PASSWORD, Edge, running
from tests.eventually import eventually
from tests.socket_rig import Raw

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@dataclass
class Authority:
    """Makes certificates, and puts them where the service looks."""

    made: trustme.CA
    directory: Path

    @property
    def ca(self) -> Path:
        return self.directory / "ca.pem"

    def issue(self, *names: str) -> Certificate:
        one = self.made.issue_cert(*names)
        self.made.cert_pem.write_to_path(str(self.ca))
        one.private_key_pem.write_to_path(str(self.directory / "key.pem"))
        (self.directory / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in one.cert_chain_pems))
        return Certificate(self.directory / "cert.pem", self.directory / "key.pem")


@dataclass
class Secure:
    """What a test has in its hands."""

    edge: Edge
    url: str
    port: int
    authority: Authority

    async def serial(self) -> int:
        """The certificate that a new connection gets."""
        _, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=ssl.create_default_context(cafile=self.authority.ca), server_hostname="localhost"
        )
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        await writer.wait_closed()
        return x509.load_der_x509_certificate(der).serial_number


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(trustme.CA(), tmp_path)


@pytest.fixture
async def secure(database_url: str, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Secure]:
    monkeypatch.setattr("deploy.tls.LOOK_SECONDS", 0.05)
    monkeypatch.setattr(bounds, "HANDSHAKE_SECONDS", 0.3)
    certificate, port = authority.issue("localhost"), ports.any_free()
    async with (
        running(database_url) as edge,
        served(create_app(edge.service), "127.0.0.1", port, "RESTANTE_PORT", certificate=certificate),
    ):
        try:
            yield Secure(edge, f"https://localhost:{port}", port, authority)
        finally:
            await edge.service.end_sessions()


async def command(*arguments: str) -> int:
    return await asyncio.to_thread(cli.run, list(arguments))


async def test_the_client_commands_speak_to_it(
    secure: Secure, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async def log_in() -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD + "\n"))
        return await command("login", "alice", "--create", "--password-stdin")

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("RESTANTE_URL", secure.url)
    assert await log_in() == 3
    said = capsys.readouterr().err
    assert "RESTANTE_URL_CA" in said
    assert "Traceback" not in said
    monkeypatch.setenv("RESTANTE_URL_CA", str(secure.authority.directory / "nothing.pem"))
    assert await log_in() == 2
    monkeypatch.setenv("RESTANTE_URL_CA", str(secure.authority.ca))
    assert await log_in() == 0
    assert await command("send", "alice", "over TLS") == 0
    capsys.readouterr()
    assert await command("sync", "--json") == 0
    assert "over TLS" in capsys.readouterr().out
    monkeypatch.setenv("RESTANTE_URL", secure.url.replace("localhost", "127.0.0.1"))
    assert await log_in() == 3


async def test_sockets_are_served_over_it(secure: Secure, tmp_path: Path) -> None:
    alice = await secure.edge.person("alice")
    await alice.send(alice, "drained over TLS")
    service, heard = clients.Service(secure.url, secure.authority.ca), list[str]()
    login = await asyncio.to_thread(clients.log_in, service, tmp_path, "alice", PASSWORD, "shell")
    listening = asyncio.create_task(Listener(login, lambda frame: heard.append(frame["body"]), lambda line: None).run())
    try:
        await eventually(lambda: heard == ["drained over TLS"])
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_its_answers_say_to_stay_and_plain_http_is_none(secure: Secure) -> None:
    trusting = ssl.create_default_context(cafile=secure.authority.ca)
    async with httpx2.AsyncClient(base_url=secure.url, verify=trusting) as client:
        answer = await client.get("/nothing")
        assert (answer.status_code, answer.headers["Strict-Transport-Security"]) == (404, "max-age=31536000")
        assert json.loads(answer.text)["code"] == "not_found"
    async with Raw(secure.port) as raw, asyncio.timeout(10):
        raw.writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert not (await raw.reader.read(8)).startswith(b"HTTP")


async def test_a_handshake_must_come_in_time(secure: Secure) -> None:
    async with Raw(secure.port) as raw, asyncio.timeout(10):
        raw.writer.write(b"\x16\x03\x01")
        assert await raw.ended()


async def test_a_renewed_certificate_is_taken_and_a_bad_one_is_not(secure: Secure) -> None:
    first = await secure.serial()
    with capture_logs() as lines:
        (secure.authority.directory / "cert.pem").write_text("nonsense", encoding="utf-8")
        await eventually(lambda: any(line["event"] == "certificate_not_renewed" for line in lines))
        assert await secure.serial() == first
        secure.authority.issue("localhost")
        await eventually(lambda: any(line["event"] == "certificate_renewed" for line in lines))
    assert await secure.serial() != first


def test_what_is_no_certificate_is_refused_at_the_start(authority: Authority) -> None:
    authority.issue("localhost")
    chain, key = authority.directory / "cert.pem", authority.directory / "key.pem"
    other = authority.directory / "other.pem"
    authority.made.issue_cert("other.test").private_key_pem.write_to_path(str(other))
    for one, two in ((chain, other), (key, chain), (chain, authority.directory / "nothing")):
        with pytest.raises(Misconfigured, match="RESTANTE_TLS_CERT"):
            Certificate(one, two)
