"""The settings: one table, and the only place that reads the environment.

A setting is a `RESTANTE_*` variable. Secrets may also be given as a file, `RESTANTE_..._FILE`. Empty means not set. An
unknown `RESTANTE_*` name or both forms of one secret refuse the start, because either is a setting that somebody
believes to be in force and that is not.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from deploy.errors import Misconfigured

Role = Literal["api", "processor", "projector", "notary"]
ROLES: tuple[Role, ...] = ("api", "processor", "projector", "notary")
ADMIN_PORTS: Mapping[Role, int] = {"api": 9501, "processor": 9502, "projector": 9503, "notary": 9504}
PREFIX = "RESTANTE_"


@dataclass(frozen=True, slots=True)
class Port:
    """A TCP port to listen on. Where it was `given`, it is this one or none; else the next free one will do."""

    number: int
    variable: str
    given: bool


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """How to speak to a Kafka that asks who we are. The defaults speak plain text, for a broker on this machine."""

    protocol: str = "PLAINTEXT"
    mechanism: str = "SCRAM-SHA-512"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def client_options(self) -> dict[str, Any]:
        """The keyword arguments that every aiokafka client takes; reads the certificate files (OSError, ssl.SSLError)."""
        options: dict[str, Any] = {"security_protocol": self.protocol}
        if self.protocol.startswith("SASL_"):
            options |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.user,
                "sasl_plain_password": self.password,
            }
        if self.protocol.endswith("SSL"):
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key)
            options["ssl_context"] = context
        return options


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting as a value. Durations are seconds. What is None was not given and has no default."""

    kafka: str | None
    kafka_security: KafkaSecurity
    database_url: str | None = field(repr=False)
    host: str
    port: Port
    admin_host: str
    admin_port: Port | None
    data_dir: Path
    partitions: int
    token_key: str | None = field(repr=False)
    cursor_keys: str | None = field(repr=False)
    master_key: str | None = field(repr=False)
    notary_key: str | None = field(repr=False)
    notary_dir: Path
    access_ttl: float
    refresh_ttl: float
    ack_timeout: float
    heartbeat: float
    gateway_lease: float
    oidc_issuer: str | None
    oidc_audience: str
    oidc_jwks_url: str | None
    oidc_name_claim: str
    signup: Literal["open", "closed"]
    rate_limits: bool
    mailbox_quota: int
    mailbox_bytes: int
    tls_cert: Path | None
    tls_key: Path | None
    url: str | None
    url_ca: Path | None
    public_url: str | None
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]
    allowed_hosts: tuple[str, ...] | None
    cors_origins: tuple[str, ...]
    docs: bool
    log_level: str
    secret_files: Mapping[str, Path]
    """The secrets that were given as files, by the names above."""

    def admin_port_of(self, role: Role) -> Port:
        """The admin port of a role. Under `up` one given port serves all: N for api, then processor, projector, notary."""
        if self.admin_port is None:
            return Port(ADMIN_PORTS[role], "RESTANTE_ADMIN_PORT", given=False)
        return self.admin_port


@dataclass(frozen=True, slots=True)
class Setting:
    """A row of the table. `parse` raises ValueError with the rule that was broken."""

    name: str
    parse: Callable[[str], Any]
    default: Any
    shown: str
    meaning: str
    secret: bool = False
    needed_by: tuple[Role, ...] = ()

    @property
    def variable(self) -> str:
        """The name in the environment."""
        return PREFIX + self.name.upper()


def _text(value: str) -> str:
    return value.strip()


def _secret(value: str) -> str:
    return value.strip()


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", value) or not low <= int(value) <= high:
            raise ValueError(f"give a whole number from {low} to {high}")
        return int(value)

    return parse


_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _seconds(value: str) -> float:
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([smhd]?)", value)
    if not match or float(match[1]) <= 0:
        raise ValueError("give a time above zero in seconds, or with a unit: 30s, 15m, 12h, 365d")
    return float(match[1]) * _UNITS[match[2]]


MOST_ACCESS_SECONDS = 900.0
"""What a stolen access token is good for at most, where nobody notices."""


def _access_ttl(value: str) -> float:
    seconds = _seconds(value)
    if not 1 <= seconds <= MOST_ACCESS_SECONDS:
        raise ValueError("give a time from 1 second to 15 minutes: what lives longer is the refresh token")
    return seconds


def _word(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value.lower() not in words:
            raise ValueError(f"give one of: {', '.join(words)}")
        return value.lower()

    return parse


def _brokers(value: str) -> str:
    for broker in value.split(","):
        if not re.fullmatch(r"\s*(\[[0-9a-fA-F:]+\]|[^\s:,]+):[0-9]{1,5}\s*", broker):
            raise ValueError("give host:port, several with commas between them")
    return ",".join(broker.strip() for broker in value.split(","))


def _database(value: str) -> str:
    if urlsplit(value.strip()).scheme not in ("postgresql", "postgres"):
        raise ValueError("give an address such as postgresql://user:password@host:5432/database")
    return value.strip()


def _web(value: str) -> str:
    parts = urlsplit(value.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("give an address such as http://127.0.0.1:8080")
    return value.strip().rstrip("/")


def _networks(value: str) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(one.strip()) for one in value.split(","))
    except ValueError as error:
        raise ValueError("give addresses or networks such as 10.0.0.0/8, several with commas between them") from error


def _hosts(value: str) -> tuple[str, ...]:
    hosts = tuple(one.strip().lower() for one in value.split(","))
    if not all(re.fullmatch(r"\*|(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?", one) for one in hosts):
        raise ValueError("give names without port such as mail.example or *.mail.example, several with commas, or *")
    return hosts


def _origins(value: str) -> tuple[str, ...]:
    origins = tuple(one.strip() for one in value.split(","))
    for one in origins:
        parts = urlsplit(one)
        if parts.scheme not in ("http", "https") or one != f"{parts.scheme}://{parts.netloc}" or one != one.lower():
            raise ValueError("give origins as browsers send them, https://app.example, several with commas between them")
    return origins


def _safe_web(value: str) -> str:
    parts = urlsplit(value.strip())
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise ValueError("give an https address: whoever can change what comes from there can log in as anybody")
    return value.strip()


def _issuer(value: str) -> str:
    parts = urlsplit(value.strip())
    if parts.query or parts.fragment:
        raise ValueError("an issuer has no query and no fragment")
    return _safe_web(value)


def _path(value: str) -> Path:
    return Path(value).expanduser()


def _protocol(value: str) -> str:
    return _word("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")(value).upper()


def _mechanism(value: str) -> str:
    return _word("plain", "scram-sha-256", "scram-sha-512")(value).upper()


_ALL = ROLES
TABLE: tuple[Setting, ...] = (
    Setting("kafka", _brokers, None, "none; up starts its own", "Kafka's address, host:port with commas", needed_by=_ALL),
    Setting("kafka_security_protocol", _protocol, "PLAINTEXT", "plaintext", "plaintext, ssl, sasl_plaintext or sasl_ssl"),
    Setting("kafka_sasl_mechanism", _mechanism, "SCRAM-SHA-512", "scram-sha-512", "plain, scram-sha-256 or scram-sha-512"),
    Setting("kafka_sasl_user", _text, None, "none", "who we are to Kafka"),
    Setting("kafka_sasl_password", _secret, None, "none", "and the password for it", secret=True),
    Setting("kafka_ssl_ca", _path, None, "the system's", "file with the certificates that Kafka's is checked against"),
    Setting("kafka_ssl_cert", _path, None, "none", "file with our certificate, where Kafka wants one"),
    Setting("kafka_ssl_key", _path, None, "none", "file with its private key"),
    Setting(
        "database_url",
        _database,
        None,
        "none; up starts its own",
        "PostgreSQL's address, security in its query part (sslmode, sslrootcert)",
        secret=True,
        needed_by=("api", "projector", "notary"),
    ),
    Setting("host", _text, "127.0.0.1", "127.0.0.1", "address the API listens on"),
    Setting("port", _whole(1, 65535), None, "8080", "port of the API"),
    Setting("admin_host", _text, "127.0.0.1", "127.0.0.1", "address of metrics and health"),
    Setting(
        "admin_port",
        _whole(1, 65532),
        None,
        "9501 api, 9502 processor, 9503 projector, 9504 notary",
        "port of metrics and health; under up the api takes it, the others the next ones",
    ),
    Setting("data_dir", _path, Path("var"), "./var", "where up keeps everything; one up a directory"),
    Setting("partitions", _whole(1, 1024), 8, "8", "partitions of the log, fixed when the topics are made"),
    Setting(
        "token_key",
        _secret,
        None,
        "made by up",
        "Ed25519 private keys (PEM, one after the other); the first signs access tokens, those of the others stay valid",
        secret=True,
        needed_by=("api",),
    ),
    Setting(
        "cursor_keys",
        _secret,
        None,
        "made by up",
        "base64 keys of 32 bytes with commas; the first signs cursors, the others stay valid",
        secret=True,
        needed_by=("api",),
    ),
    Setting(
        "master_key",
        _secret,
        None,
        "made by up",
        "base64 keys of 32 bytes with commas; the first wraps the accounts' keys, the others still open them",
        secret=True,
        needed_by=("api",),
    ),
    Setting(
        "notary_key",
        _secret,
        None,
        "made by up",
        "Ed25519 private key (PEM) that signs how far the log had come; for the notary alone",
        secret=True,
        needed_by=("notary",),
    ),
    Setting("notary_dir", _path, None, "notary in the data directory", "where the notary's statements are kept, for ever"),
    Setting("oidc_issuer", _issuer, None, "none: own accounts", "OpenID provider that keeps the accounts instead of us"),
    Setting("oidc_audience", _text, "restante", "restante", "what its tokens must be for"),
    Setting("oidc_jwks_url", _safe_web, None, "from its discovery document", "where its keys are"),
    Setting("oidc_name_claim", _text, "preferred_username", "preferred_username", "the claim that names accounts"),
    Setting("access_ttl", _access_ttl, MOST_ACCESS_SECONDS, "15m", "how long an access token lives, 15 minutes at most"),
    Setting("refresh_ttl", _seconds, 365 * 86400.0, "365d", "how long a refresh token lives after its last use"),
    Setting("ack_timeout", _seconds, 15.0, "15s", "how long a pushed message may stay unacknowledged"),
    Setting("heartbeat", _seconds, 25.0, "25s", "how often a socket is asked whether it lives"),
    Setting("gateway_lease", _seconds, 15.0, "15s", "how long a silent gateway keeps its sessions"),
    Setting("signup", _word("open", "closed"), "open", "open", "open, or closed: no account over HTTP"),
    Setting("rate_limits", _word("on", "off"), "on", "on", "on, or off for benchmarks and load tests"),
    Setting("mailbox_quota", _whole(1, 10**9), 100_000, "100000", "unacknowledged messages that an account may hold"),
    Setting("tls_cert", _path, None, "none: HTTP", "file with the API's certificate and its chain, to serve HTTPS"),
    Setting("tls_key", _path, None, "none", "file with its private key"),
    Setting(
        "mailbox_bytes", _whole(1 << 20, 10**12 - 1), 1 << 30, "1073741824", "bytes of messages that an account may hold"
    ),
    Setting("url", _web, None, "from up.json", "the service that the client commands talk to"),
    Setting(
        "url_ca",
        _path,
        None,
        "the system's",
        "file with the certificates that the client commands check an https service by",
    ),
    Setting("public_url", _web, None, "none", "the address that users see, where a proxy stands in front"),
    Setting(
        "trusted_proxies",
        _networks,
        (),
        "none",
        "proxies whose X-Forwarded-For and -Proto are believed: addresses, networks",
    ),
    Setting(
        "allowed_hosts",
        _hosts,
        None,
        "RESTANTE_PUBLIC_URL's; without one any, on a loopback address those without a dot",
        "names that requests may give as Host, besides addresses and localhost; *.name for all below it, * for any",
    ),
    Setting("cors_origins", _origins, (), "none", "sites whose pages may call, besides our own"),
    Setting("docs", _word("on", "off"), "on", "on", "on, or off: no /openapi.json and no page at /"),
    Setting("log_level", _word("debug", "info", "warning", "error"), "info", "info", "debug, info, warning or error"),
)
_BY_VARIABLE = {row.variable: row for row in TABLE}
_FILES = {row.name: row.variable + "_FILE" for row in TABLE if row.secret}


def _given(environment: Mapping[str, str]) -> dict[str, str]:
    """Setting name -> its text, files read. Refuses unknown names and both forms at once."""
    files = {_FILES[row.name]: row for row in TABLE if row.secret}
    given: dict[str, str] = {}
    for variable in sorted(environment):
        if not variable.startswith(PREFIX):
            continue
        row = _BY_VARIABLE.get(variable) or files.get(variable)
        if row is None:
            raise Misconfigured(
                f"{variable} is no setting of Restante. `restante --help` lists them; unset it or correct it"
            )
        value = environment[variable]
        if not value.strip():
            continue
        if row.name in given:
            raise Misconfigured(f"{row.variable} and {row.variable}_FILE are both set. Unset one of them")
        given[row.name] = _read(variable, value) if variable in files else value
    return given


def _read(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise Misconfigured(
            f"{variable} names {path}, which cannot be read ({reason}). Correct the path or its rights"
        ) from error


def _secret_files(environment: Mapping[str, str]) -> dict[str, Path]:
    named = {name: environment.get(variable, "").strip() for name, variable in _FILES.items()}
    return {name: Path(path) for name, path in named.items() if path}


def read_again(settings: Settings, *names: str) -> Settings:
    """The same with these secrets as their files hold them now, for a process that follows them. Misconfigured where one
    cannot be read."""
    files = {name: settings.secret_files[name] for name in names if name in settings.secret_files}
    read: dict[str, Any] = {name: _read(_FILES[name], str(path)).strip() for name, path in files.items()}
    return replace(settings, **read)


def _value(row: Setting, given: Mapping[str, str]) -> Any:
    if row.name not in given:
        return row.default
    try:
        return row.parse(given[row.name] if row.secret else given[row.name].strip())
    except ValueError as error:
        seen = "its value" if row.secret else repr(given[row.name])
        raise Misconfigured(f"{row.variable}: {seen} will not do, {error}") from None


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings that an environment holds. Misconfigured (exit 2) says which variable is wrong and why."""
    given = _given(environment)
    values = {row.name: _value(row, given) for row in TABLE}
    security = KafkaSecurity(
        protocol=values.pop("kafka_security_protocol"),
        mechanism=values.pop("kafka_sasl_mechanism"),
        user=values.pop("kafka_sasl_user"),
        password=values.pop("kafka_sasl_password"),
        ca=values.pop("kafka_ssl_ca"),
        certificate=values.pop("kafka_ssl_cert"),
        key=values.pop("kafka_ssl_key"),
    )
    _check_security(security)
    if (values["tls_cert"] is None) != (values["tls_key"] is None):
        raise Misconfigured("RESTANTE_TLS_CERT and RESTANTE_TLS_KEY belong together. Set both or none")
    lost = [row.variable for row in TABLE if row.name.startswith("oidc_") and row.name in given]
    if lost and values["oidc_issuer"] is None:
        raise Misconfigured(f"{', '.join(lost)}: of no use without RESTANTE_OIDC_ISSUER. Set that, too")
    port, admin = values.pop("port"), values.pop("admin_port")
    for name in ("rate_limits", "docs"):
        values[name] = values[name] == "on"
    values["data_dir"] = values["data_dir"].resolve()
    values["notary_dir"] = (values["notary_dir"] or values["data_dir"] / "notary").resolve()
    return Settings(
        **values,
        secret_files=_secret_files(environment),
        kafka_security=security,
        port=Port(port or 8080, "RESTANTE_PORT", given=port is not None),
        admin_port=Port(admin, "RESTANTE_ADMIN_PORT", given=True) if admin else None,
    )


def _check_security(security: KafkaSecurity) -> None:
    if security.protocol.startswith("SASL_") and not (security.user and security.password):
        raise Misconfigured(
            "RESTANTE_KAFKA_SECURITY_PROTOCOL asks for a login. Set RESTANTE_KAFKA_SASL_USER and ..._PASSWORD"
        )
    if (security.certificate is None) != (security.key is None):
        raise Misconfigured("RESTANTE_KAFKA_SSL_CERT and RESTANTE_KAFKA_SSL_KEY belong together. Set both or none")


def require(settings: Settings, role: Role) -> None:
    """Refuse a role that lacks a setting it needs, naming all that are missing."""
    spared = {"token_key"} if settings.oidc_issuer else set()
    needed = [row for row in TABLE if role in row.needed_by and row.name not in spared]
    missing = [row.variable for row in needed if getattr(settings, row.name) is None]
    if missing:
        raise Misconfigured(f"`restante {role}` needs {', '.join(missing)}. `restante up` sets them for all roles by itself")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def given_settings() -> dict[str, str]:
    """The RESTANTE_* part of this process's environment as it was given, to hand on to a child process."""
    return {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}


def machine_environment() -> dict[str, str]:
    """The rest of it: what programs find on this machine by (PATH, HOME, proxies), for the servers that `up` starts."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
