"""Bodies, passwords and tokens stay where they belong: not in the logs, not in Kafka's or PostgreSQL's files."""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from deploy.logs import FIELDS
from tests.acceptance.people import Device, person, phone_of
from tests.acceptance.service import Service
from tests.acceptance.wire import exchange, head

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Planted:
    """Words that are said to the service and must not be found where they do not belong."""

    bodies: tuple[bytes, ...]
    passwords: tuple[bytes, ...]
    tokens: tuple[bytes, ...]
    keys: tuple[bytes, ...]
    name: bytes


@pytest.fixture(scope="module")
def secrets(service: Service) -> Planted:
    """Planted in good calls and in bad ones."""
    fred = person(service, "fred")
    phone = fred.device()
    body, broken, wrong, base = (f"marker-{uuid.uuid4().hex}" for _ in range(4))
    phone.send(fred.name, body)
    phone.send(fred.name, body_base64=base64.b64encode(base.encode()).decode())
    phone.call("POST", "/messages", content=f'{{"to": "x", "body": "{broken}', headers=JSON)
    phone.call("POST", "/messages", json={"to": "x", "body": "x", broken: broken})
    phone.call("POST", "/messages", json={"to": [broken], "body": broken})
    phone.post("nobody-of-that-name", broken)
    phone.call("GET", f"/messages/sync?cursor={broken}")
    phone.batch([{"to": fred.name, "body": broken * 3000}])
    service.request("POST", "/tokens", json={"name": fred.name, "password": wrong, "device": "phone"})
    service.request("POST", "/accounts", json={"name": fred.name, "password": wrong})
    service.request("GET", "/messages/sync", token=wrong)
    exchange(service, head(phone, "Content-Length: 5000") + broken.encode(), hang_up=True)
    phone.call("GET", f"/messages/stream?token={broken}")
    phone.call("POST", "/messages", json={"to": fred.name, "body": broken}, headers={"Idempotency-Key": broken})
    service.request("GET", f"/{broken}/{broken}", headers={"X-Forwarded-For": broken, "Origin": f"https://{broken}"})
    exchange(service, b"GET /" + broken.encode() * 300 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    exchange(service, b"GET / HTTP/1.1\r\nHost: localhost\r\n" + broken.encode() + b"\r\n\r\n")
    laptop = fred.device("laptop")
    assert [message["body"] for message in phone.drain() if "body" in message] == [body, broken]
    erased = _erased(service, phone)
    tokens = tuple(text.encode() for device in (phone, laptop) for text in (device.token, device.refresh_token))
    words = (*erased, body.encode(), broken.encode(), base.encode(), base64.b64encode(base.encode()))
    return Planted(words, (wrong.encode(), fred.password.encode()), tokens, _keys(service), fred.name.encode())


def _keys(service: Service) -> tuple[bytes, ...]:
    """What is in the files of the service's secrets, but for the database's address, which is no key: each long line."""
    found = [path for path in files(service.data / "secrets") if path.name != "database-url"]
    assert {"token-key", "cursor-keys", "master-key", "postgres-password"} <= {path.name for path in found}
    lines = [line for path in found for line in path.read_bytes().splitlines()]
    return tuple(line for line in lines if len(line) >= 30 and not line.startswith(b"-----"))


def _erased(service: Service, sender: Device) -> tuple[bytes, ...]:
    """What somebody got who is gone by now: read, acknowledged, and neither."""
    gina = phone_of(service, "gina")
    words = tuple(f"marker-{uuid.uuid4().hex}" for _ in range(3))
    read, acked, _ = (sender.send(gina, word) for word in words)
    gina.read([read])
    gina.ack([acked])
    assert [message["body"] for message in gina.mailbox()] == [words[2]]
    assert gina.call("DELETE", "/accounts/me").status_code == 204
    with psycopg.connect(service.facts["database_url"]) as connection:
        keys = connection.execute(
            "SELECT password_hash, wrapped_key FROM accounts.accounts WHERE user_id = %s", (gina.person.user_id,)
        ).fetchall()
    assert keys == [(None, None)]
    return tuple(word.encode() for word in words)


def holding(paths: list[Path], *words: bytes) -> set[str]:
    """The files that hold one of these words."""
    return {path.name for path in paths if any(word in _content(path) for word in words)}


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # servers come and go with their files
        return b""


def files(directory: Path) -> list[Path]:
    return [path for path in directory.resolve().rglob("*") if path.is_file() and not path.is_symlink()]


class TestWhereSecretsAreNot:
    def test_in_the_logs(self, service: Service, secrets: Planted) -> None:
        logs = service.logs()
        assert {"api.log", "processor.log", "projector.log", "notary.log", "kafka.log", "postgres.log", "up.out"} <= {
            path.name for path in logs
        }
        assert holding(logs, b"Restante is up") == {"up.out"}, "the search finds what is there"
        assert holding(logs, *secrets.bodies) == set()
        assert holding(logs, *secrets.passwords) == set()
        assert holding(logs, *secrets.tokens) == set()
        assert holding(logs, *secrets.keys) == set()
        assert holding(files(service.data / "secrets"), *secrets.keys), "the search finds what is there"

    def test_what_our_processes_log_are_json_lines_of_known_fields(self, service: Service, secrets: Planted) -> None:
        for name in ("api", "processor", "projector", "notary"):
            for line in (service.data / "logs" / f"{name}.log").read_text(encoding="utf-8").splitlines():
                said = json.loads(line)
                assert said.keys() <= FIELDS.keys(), line
                assert said["role"] == name

    def test_in_kafkas_files(self, service: Service, eve: Device, secrets: Planted) -> None:
        segments = files(service.data / "kafka")
        assert holding(segments, b"restante.message_stored.v1"), "the search finds what is there"
        assert holding(segments, eve.person.user_id.encode())
        assert holding(segments, secrets.name) == set(), "only ids enter the log"
        assert holding(segments, *secrets.bodies, *secrets.passwords, *secrets.tokens, *secrets.keys) == set()

    def test_in_postgresqls_files(self, service: Service, secrets: Planted) -> None:
        with psycopg.connect(service.facts["database_url"], autocommit=True) as connection:
            connection.execute("CHECKPOINT")
        tables = files(service.data / "postgres")
        assert holding(tables, secrets.name), "the search finds what is there"
        assert holding(tables, *secrets.bodies, *secrets.passwords, *secrets.tokens, *secrets.keys) == set()

    def test_there_is_no_stack_trace_and_no_fault(self, service: Service, secrets: Planted) -> None:
        ours = [
            path
            for path in service.logs()
            if path.name in ("api.log", "processor.log", "projector.log", "notary.log", "up.out")
        ]
        assert holding(ours, b"Traceback", b"internal_error", b"Exception") == set()
