"""A broker and a database that ask who we are: TLS with certificates of a test's own, passwords, rights."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import psycopg
import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from psycopg import sql

from deploy import granting
from deploy.local import kafka_jars, ports
from deploy.local.kafka import IMAGE, LocalKafka
from deploy.local.server import launch
from deploy.settings import KafkaSecurity, Settings, machine_environment
from producers.connection import KafkaConnection
from schemas.principals import Principal
from tests import containers
from tests.eventually import eventually
from tests.tls_door import tls_door

PASSWORD = "only-for-tests"


class Certificates:
    """An authority, one that nobody trusts, and the files of both."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._authority = trustme.CA()
        self.ca = self._file("ca.pem", self._authority.cert_pem.bytes())
        self.foreign_ca = self._file("foreign.pem", trustme.CA().cert_pem.bytes())

    def server(self, host: str) -> tuple[str, str]:
        """Certificate chain and key (PKCS 8) of a server."""
        made = self._authority.issue_cert(host)
        return "".join(pem.bytes().decode() for pem in made.cert_chain_pems), _pkcs8(made)

    def client(self, name: str) -> tuple[Path, Path]:
        """Files with the certificate and key of a client that goes by this name."""
        made = self._authority.issue_cert("client.example", common_name=name)
        chain = b"".join(pem.bytes() for pem in made.cert_chain_pems)
        return self._file(f"{name}.pem", chain), self._file(f"{name}.key", made.private_key_pem.bytes())

    def _file(self, name: str, content: bytes) -> Path:
        file = self.directory / name
        file.write_bytes(content)
        return file


def _pkcs8(made: trustme.LeafCert) -> str:
    key = load_pem_private_key(made.private_key_pem.bytes(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


class _Listeners:
    """One for passwords over TLS, one for certificates; the plain one is the super user's, as nobody should have it."""

    def __init__(self, certificates: Certificates, controller: int) -> None:
        self._certificates = certificates
        self.controller = controller
        self.scram, self.mutual = self.ports = (ports.any_free(), ports.any_free())

    def settings(self, *, plain: str, listen: str, host: str) -> Mapping[str, str]:
        chain, key = self._certificates.server(host)
        ours = {"SCRAM": self.scram, "MUTUAL": self.mutual}
        jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        listening = [f"PLAINTEXT://{listen}:{plain.rpartition(':')[2]}", f"CONTROLLER://127.0.0.1:{self.controller}"]
        return {
            "listeners": ",".join([*listening, *(f"{name}://{listen}:{port}" for name, port in ours.items())]),
            "advertised.listeners": ",".join(
                [f"PLAINTEXT://{plain}", *(f"{name}://{host}:{port}" for name, port in ours.items())]
            ),
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SCRAM:SASL_SSL,MUTUAL:SSL",
            "sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512",
            "listener.name.scram.scram-sha-256.sasl.jaas.config": jaas,
            "listener.name.scram.scram-sha-512.sasl.jaas.config": jaas,
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.mutual.ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.certificate.chain": _one_line(chain),
            "ssl.keystore.key": _one_line(key),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.certificates": _one_line(self._certificates.ca.read_text()),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }


def _one_line(pem: str) -> str:
    return pem.strip().replace("\n", "\\n")


@dataclass(frozen=True)
class SecuredKafka:
    """A broker with three addresses, and what it takes to be let in."""

    plain: str
    scram: str
    mutual: str
    certificates: Certificates

    def by_password(self, principal: str, *, mechanism: str = "SCRAM-SHA-512", **other: Any) -> KafkaSecurity:
        """Settings of who logs in with a password."""
        return KafkaSecurity(
            **{
                "protocol": "SASL_SSL",
                "mechanism": mechanism,
                "user": principal,
                "password": PASSWORD,
                "ca": self.certificates.ca,
                **other,
            }
        )

    def by_certificate(self, principal: str, **other: Any) -> KafkaSecurity:
        """Settings of who shows a certificate."""
        certificate, key = self.certificates.client(principal)
        return KafkaSecurity(
            **{"protocol": "SSL", "ca": self.certificates.ca, "certificate": certificate, "key": key, **other}
        )

    def connection(self, principal: Principal) -> KafkaConnection:
        """A connection of a principal, by password."""
        return KafkaConnection(bootstrap=self.scram, security=self.by_password(principal).client_options())

    def environment(self, security: KafkaSecurity) -> dict[str, str]:
        """The same as settings of a process."""
        given = {
            "RESTANTE_KAFKA": self.scram if security.protocol == "SASL_SSL" else self.mutual,
            "RESTANTE_KAFKA_SECURITY_PROTOCOL": security.protocol,
            "RESTANTE_KAFKA_SSL_CA": security.ca,
        }
        if security.protocol == "SASL_SSL":
            given |= {
                "RESTANTE_KAFKA_SASL_MECHANISM": security.mechanism,
                "RESTANTE_KAFKA_SASL_USER": security.user,
                "RESTANTE_KAFKA_SASL_PASSWORD": security.password,
            }
        if security.certificate:
            given |= {"RESTANTE_KAFKA_SSL_CERT": security.certificate, "RESTANTE_KAFKA_SSL_KEY": security.key}
        return {name: str(value) for name, value in given.items()}


@contextmanager
def secured_kafka(directory: Path) -> Iterator[SecuredKafka]:
    """In a container where an engine answers, else a process of this machine."""
    certificates = Certificates(directory)
    try:
        containers.require_images(IMAGE)
    except containers.NoContainers:
        listeners = _Listeners(certificates, ports.any_free())
        with _process(directory, listeners) as plain:
            yield _secured(plain, listeners, certificates)
        return
    listeners = _Listeners(certificates, 9093)
    with containers.kafka_container(listeners) as container:
        yield _secured(container.address, listeners, certificates)


def _secured(plain: str, listeners: _Listeners, certificates: Certificates) -> SecuredKafka:
    host = plain.rpartition(":")[0]
    return SecuredKafka(plain, f"{host}:{listeners.scram}", f"{host}:{listeners.mutual}", certificates)


@contextmanager
def _process(directory: Path, listeners: _Listeners) -> Iterator[str]:
    environment, port = machine_environment(), ports.any_free()
    plain = f"localhost:{port}"
    settings = listeners.settings(plain=plain, listen="127.0.0.1", host="localhost")
    server = LocalKafka(
        directory / "kafka",
        directory / "kafka.log",
        kafka_jars.cache_directory(environment, directory / "cache"),
        port,
        listeners.controller,
        environment,
        settings,
    )
    with asyncio.Runner() as loop:
        child = loop.run(launch(server, within=60))
        try:
            yield plain
        finally:
            child.kill()
            loop.run(child.wait())


@contextmanager
def tls_turned_on(url: str, certificates: Certificates) -> Iterator[str]:
    """The same database over TLS, its certificate and name checked (verify-full): by the server itself, or by a door in
    front of one that was built without TLS."""
    with _tls_server(url, certificates) as server:
        parts = urlsplit(url)
        netloc = f"{parts.netloc.rpartition('@')[0]}@{server}"
        query = urlencode({"sslmode": "verify-full", "sslrootcert": str(certificates.ca)})
        yield parts._replace(netloc=netloc, query=query).geturl()


@contextmanager
def _tls_server(url: str, certificates: Certificates) -> Iterator[str]:
    """host:port where the database answers over TLS."""
    parts = urlsplit(url)
    assert parts.hostname and parts.port
    name = "localhost" if parts.hostname == "127.0.0.1" else parts.hostname
    with psycopg.connect(url, autocommit=True) as connection:
        try:
            _serve_tls(connection, *certificates.server(name))
        except psycopg.errors.InvalidParameterValue:  # not supported by this build
            file = certificates.directory / "server.pem"
            file.write_text("".join(certificates.server("localhost")))
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(file)
            with tls_door(context, parts.hostname, parts.port) as port:
                yield f"localhost:{port}"
            return
        try:
            yield f"{name}:{parts.port}"
        finally:
            connection.execute("ALTER SYSTEM RESET ssl")
            connection.execute("SELECT pg_reload_conf()")


def _serve_tls(connection: psycopg.Connection, chain: str, key: str) -> None:
    """The server writes the files itself, where it looks for them and nobody else can."""
    for file, content in (("server.crt", chain), ("server.key", key)):
        connection.execute(
            sql.SQL("COPY (SELECT unnest({}::text[])) TO PROGRAM {}").format(
                sql.Literal(content.strip().splitlines()), sql.Literal(f"umask 077; cat > {file}")
            )
        )
    connection.execute("ALTER SYSTEM SET ssl = on")
    connection.execute("SELECT pg_reload_conf()")


async def differences_become(root: Settings, wanted: list[str]) -> None:
    """Kafka answers a change of rights first and follows it a moment later: wait until it shows just these differences."""

    async def are() -> bool:
        assert await granting.kafka_differences(root) == wanted
        return True

    await eventually(are)


@contextmanager
def private_directory() -> Iterator[Path]:
    """For files that other users of this machine may read, as PostgreSQL's."""
    with tempfile.TemporaryDirectory(prefix="restante-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)
