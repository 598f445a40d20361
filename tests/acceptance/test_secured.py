"""A service whose Kafka and PostgreSQL let nobody in without a certificate or a password, each role under its own name with
its own rights: it starts, a message is delivered, and who is not let in is told why."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psycopg
import pytest

from api.secrets import make_key, make_token_key
from deploy import foundation, granting
from deploy.examination import examine
from deploy.local import ports
from deploy.settings import read_settings
from schemas.principals import Principal
from tests.acceptance.service import RESTANTE, START_SECONDS
from tests.eventually import soon
from tests.secured import PASSWORD, SecuredKafka, differences_become, private_directory, secured_kafka, tls_turned_on

ROLES = (Principal.API, Principal.PROCESSOR, Principal.PROJECTOR, Principal.NOTARY)
BY_CERTIFICATE = (Principal.PROJECTOR, Principal.NOTARY)


class Secured:
    """The servers, and what each role is told of them."""

    def __init__(self, home: Path, kafka: SecuredKafka, database_url: str) -> None:
        self.home = home
        self.kafka = kafka
        self.database_url = database_url
        self.port = ports.any_free()
        self.admin_ports = {role: ports.any_free() for role in ROLES}
        keys = {"TOKEN_KEY": make_token_key(), "CURSOR_KEYS": make_key(), "MASTER_KEY": make_key(), "PORT": str(self.port)}
        self.own = {
            Principal.API: {f"RESTANTE_{name}": value for name, value in keys.items()},
            Principal.NOTARY: {"RESTANTE_NOTARY_KEY": make_token_key()},
        }

    def environment(self, principal: Principal) -> dict[str, str]:
        """Everything that a role is told. The processor knows of no database."""
        by = self.kafka.by_certificate if principal in BY_CERTIFICATE else self.kafka.by_password
        given = {**self.kafka.environment(by(principal)), **self.own.get(principal, {}), "RESTANTE_PARTITIONS": "2"}
        if principal is not Principal.PROCESSOR:
            given["RESTANTE_DATABASE_URL"] = self.database_as(principal)
        if principal in self.admin_ports:
            given["RESTANTE_ADMIN_PORT"] = str(self.admin_ports[principal])
        return {**given, "RESTANTE_DATA_DIR": str(self.home / principal)}

    def root(self) -> dict[str, str]:
        """Who makes the others."""
        known = {"RESTANTE_KAFKA": self.kafka.plain, "RESTANTE_DATABASE_URL": self.database_url}
        return {**known, "RESTANTE_DATA_DIR": str(self.home)}

    def database_as(self, principal: Principal, password: str = PASSWORD) -> str:
        parts = urlsplit(self.database_url)
        return parts._replace(netloc=f"{principal}:{password}@{parts.netloc.rpartition('@')[2]}").geturl()

    def says(self, command: str, environment: dict[str, str]) -> tuple[int, str]:
        """What a command answers: its exit code and all that it prints."""
        done = subprocess.run(
            [RESTANTE, *command.split()], env=_with(environment), capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def log_of(self, role: Principal) -> str:
        """The end of what a role has said."""
        return (self.home / f"{role}.log").read_text(errors="replace")[-3000:]

    def ready(self, role: Principal) -> bool:
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.get(f"http://127.0.0.1:{self.admin_ports[role]}/health/ready", trust_env=False).status_code == 200
        return False


async def _made(secured: Secured) -> None:
    root, admin = read_settings(secured.root()), read_settings(secured.environment(Principal.ADMIN))
    await differences_become(root, [])
    await foundation.make_topics(admin)
    await foundation.make_tables(admin)
    assert await granting.kafka_differences(root) == await granting.database_differences(root) == []


@contextlib.contextmanager
def _database(server: str) -> Iterator[str]:
    name = f"secured_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield urlsplit(server)._replace(path=f"/{name}").geturl()
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="module")
def secured(postgres: str) -> Iterator[Secured]:
    """Everything made by those who may: rights by a super user, topics and tables by the admin."""
    with (
        private_directory() as home,
        secured_kafka(home) as kafka,
        _database(postgres) as plain,
        tls_turned_on(plain, kafka.certificates) as url,
    ):
        one = Secured(home, kafka, url)
        passwords = home / "passwords.toml"
        lines = [f'{role.removeprefix("restante_")} = "{PASSWORD}"' for role in Principal]
        in_database = [line for line in lines if line.split()[0] not in ("processor", "operator")]
        passwords.write_text("\n".join(["[kafka]", *lines, "[database]", *in_database]))
        code, said = one.says(f"grants --passwords {passwords}", one.root())
        assert code == 0, said
        assert PASSWORD not in said
        asyncio.run(_made(one))
        yield one


@contextlib.contextmanager
def _database(server: str) -> Iterator[str]:
    name = f"secured_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield urlsplit(server)._replace(path=f"/{name}").geturl()
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _with(environment: dict[str, str]) -> dict[str, str]:
    return {**{name: value for name, value in os.environ.items() if not name.startswith("RESTANTE_")}, **environment}


@contextlib.contextmanager
def running(secured: Secured) -> Iterator[None]:
    """All four roles, until the end of the block."""
    with contextlib.ExitStack() as stack:
        for role in ROLES:
            log = stack.enter_context((secured.home / f"{role}.log").open("wb"))
            command = [RESTANTE, role.removeprefix("restante_")]
            process = stack.enter_context(
                subprocess.Popen(command, env=_with(secured.environment(role)), stdout=log, stderr=log)
            )
            stack.callback(process.kill)
        for role in ROLES:
            soon(lambda role=role: secured.ready(role), START_SECONDS, f"{role} is ready")
        yield


def test_the_whole_service_works_under_these_rights(secured: Secured) -> None:
    with running(secured), httpx2.Client(base_url=f"http://127.0.0.1:{secured.port}", trust_env=False) as http:

        def called(method: str, path: str, token: str = "", **options: Any) -> Any:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            answer = http.request(method, path, headers=headers, timeout=40, **options)
            assert answer.status_code < 300, (path, answer.text, secured.log_of(Principal.API))
            return answer.json()

        tokens = {}
        for name in ("alice", "bob"):
            called("POST", "/accounts", json={"name": name, "password": PASSWORD})
            login = {"name": name, "password": PASSWORD, "device": "phone"}
            tokens[name] = called("POST", "/tokens", json=login)["access_token"]
        message = called("POST", "/messages", tokens["alice"], json={"to": "bob", "body": "hello"})["id"]
        (got,) = called("GET", "/messages/sync", tokens["bob"], params={"wait": 10})["messages"]
        assert (got["id"], got["body"]) == (message, "hello")
        assert called("POST", "/messages/ack", tokens["bob"], json={"ids": [message]})["acknowledged"] == [message]
        (receipt,) = called("GET", "/receipts", tokens["alice"], params={"wait": 20})["receipts"]
        assert (receipt["message_id"], receipt["status"]) == (message, "Delivered")
        states = [event["state"] for event in called("GET", f"/messages/{message}/trail", tokens["bob"])["events"]]
        assert states == ["Created", "Stored", "DeliveryAttempted", "PendingSync", "Delivered"]
        assert called("GET", "/devices", tokens["bob"])["devices"][0]["pending"] == 0
        soon(lambda: http.get("/health").status_code == 200, 30, "the whole service is well")
        for role in (Principal.API, Principal.AUDITOR):
            checks = asyncio.run(examine(read_settings(secured.environment(role))))
            found = {check.what: check.verdict for check in checks}
            found.pop("durability")  # the tests' database does without fsync
            assert set(found.values()) == {"ok"}, checks
    for role in ROLES:
        assert PASSWORD not in secured.log_of(role)
        assert "uthorization" not in secured.log_of(role), secured.log_of(role)


def test_a_role_that_is_not_let_in_says_why(secured: Secured) -> None:
    url = secured.database_as(Principal.PROJECTOR, "guessed-wrong")
    code, said = secured.says("projector", {**secured.environment(Principal.PROJECTOR), "RESTANTE_DATABASE_URL": url})
    assert code == 3, said
    assert "RESTANTE_DATABASE_URL" in said
    assert "guessed-wrong" not in said


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda url: url.replace(f":{PASSWORD}@", ":guessed-wrong@"), "password"),
        (lambda url: url.replace("ca.pem", "foreign.pem"), "sslrootcert"),
        (lambda url: url.replace("ca.pem", "missing.pem"), "sslrootcert"),
        (lambda url: url.replace("@localhost:", "@127.0.0.1:"), "name"),
    ],
    ids=["password", "authority", "file", "name"],
)
def test_doctor_says_why_a_database_lets_nobody_in(secured: Secured, wrong: Callable[[str], str], told: str) -> None:
    url = wrong(secured.database_as(Principal.API))
    checks = asyncio.run(examine(read_settings({"RESTANTE_DATABASE_URL": url, "RESTANTE_DATA_DIR": str(secured.home)})))
    (database,) = [check for check in checks if check.what == "database"]
    assert database.verdict == "unknown"
    assert told in database.found
    assert "RESTANTE_DATABASE_URL" in database.found
    assert "guessed-wrong" not in str(checks)
