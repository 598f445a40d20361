from __future__ import annotations

from pathlib import Path

import pytest

from deploy.errors import Misconfigured
from deploy.settings import ROLES, TABLE, Port, read_settings, require

CONTRACT = [
    "KAFKA",
    "DATABASE_URL",
    "HOST",
    "PORT",
    "ADMIN_HOST",
    "ADMIN_PORT",
    "DATA_DIR",
    "PARTITIONS",
    "TOKEN_KEY",
    "CURSOR_KEYS",
    "MASTER_KEY",
    "ACCESS_TTL",
    "REFRESH_TTL",
    "ACK_TIMEOUT",
    "HEARTBEAT",
    "GATEWAY_LEASE",
    "SIGNUP",
    "RATE_LIMITS",
    "MAILBOX_QUOTA",
    "URL",
    "PUBLIC_URL",
    "LOG_LEVEL",
]


BEYOND = {
    *("TRUSTED_PROXIES", "ALLOWED_HOSTS", "CORS_ORIGINS", "DOCS", "TLS_CERT", "TLS_KEY", "URL_CA", "MAILBOX_BYTES"),
    *("NOTARY_KEY", "NOTARY_DIR"),
    *("OIDC_ISSUER", "OIDC_AUDIENCE", "OIDC_JWKS_URL", "OIDC_NAME_CLAIM"),
}
"""What the contract leaves open."""


def test_every_setting_of_the_contract_is_there_and_only_what_it_leaves_open_beyond() -> None:
    beyond = {row.variable for row in TABLE} - {f"RESTANTE_{name}" for name in {*CONTRACT, *BEYOND}}
    assert {f"RESTANTE_{name}" for name in CONTRACT} <= {row.variable for row in TABLE}
    assert all(name.startswith("RESTANTE_KAFKA_") for name in beyond)


def test_defaults_are_those_of_the_contract() -> None:
    found = read_settings({})
    assert (found.host, found.port) == ("127.0.0.1", Port(8080, "RESTANTE_PORT", given=False))
    assert [found.admin_port_of(role).number for role in ROLES] == [9501, 9502, 9503, 9504]
    assert (found.access_ttl, found.refresh_ttl) == (15 * 60, 365 * 86400)
    assert (found.ack_timeout, found.heartbeat, found.gateway_lease) == (15, 25, 15)
    assert (found.partitions, found.signup, found.rate_limits, found.mailbox_quota) == (8, "open", True, 100_000)
    assert found.data_dir == Path.cwd() / "var"
    assert found.kafka is found.database_url is found.url is found.public_url is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("0.5", 0.5), ("90s", 90), ("15m", 900), ("12h", 43_200), ("365d", 31_536_000)]
)
def test_times_in_seconds_or_with_a_unit(text: str, seconds: float) -> None:
    assert read_settings({"RESTANTE_REFRESH_TTL": text}).refresh_ttl == seconds


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "proxy.internal"),
        ("ALLOWED_HOSTS", "mail.example:8080"),
        ("ALLOWED_HOSTS", "https://mail.example"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "https://app.example/"),
        ("DOCS", "yes"),
        ("TLS_CERT", "/somewhere.pem"),
        ("TLS_KEY", "/somewhere.pem"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "eighty"),
        ("PARTITIONS", "-1"),
        ("ACCESS_TTL", "0"),
        ("ACCESS_TTL", "soon"),
        ("ACCESS_TTL", "901"),
        ("ACCESS_TTL", "0.5"),
        ("SIGNUP", "maybe"),
        ("RATE_LIMITS", "1"),
        ("KAFKA", "somewhere"),
        ("KAFKA", "one:9092,,two:9092"),
        ("DATABASE_URL", "mysql://x"),
        ("URL", "127.0.0.1:8080"),
        ("LOG_LEVEL", "chatty"),
        ("KAFKA_SECURITY_PROTOCOL", "trust"),
        ("KAFKA_SECURITY_PROTOCOL", "sasl_ssl"),
        ("KAFKA_SSL_CERT", "/somewhere.pem"),
    ],
)
def test_a_value_out_of_range_names_its_variable(variable: str, value: str) -> None:
    with pytest.raises(Misconfigured, match=f"RESTANTE_{variable}"):
        read_settings({f"RESTANTE_{variable}": value})


def test_a_wrong_secret_is_not_repeated() -> None:
    with pytest.raises(Misconfigured) as refusal:
        read_settings({"RESTANTE_DATABASE_URL": "user:hunter2@somewhere"})
    assert "hunter2" not in str(refusal.value)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(Misconfigured, match=r"RESTANTE_PROT .*--help"):
        read_settings({"RESTANTE_PROT": "8081"})


def test_what_is_no_secret_has_no_file_form() -> None:
    with pytest.raises(Misconfigured, match="RESTANTE_HOST_FILE"):
        read_settings({"RESTANTE_HOST_FILE": "/etc/hostname"})


def test_a_secret_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("c2VjcmV0\n")
    assert read_settings({"RESTANTE_MASTER_KEY_FILE": str(file)}).master_key == "c2VjcmV0"


def test_both_forms_of_a_secret_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("one")
    with pytest.raises(Misconfigured, match="RESTANTE_MASTER_KEY and RESTANTE_MASTER_KEY_FILE"):
        read_settings({"RESTANTE_MASTER_KEY": "two", "RESTANTE_MASTER_KEY_FILE": str(file)})


def test_a_secret_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="RESTANTE_MASTER_KEY_FILE"):
        read_settings({"RESTANTE_MASTER_KEY_FILE": str(tmp_path / "none")})


def test_empty_is_not_set() -> None:
    assert read_settings({"RESTANTE_KAFKA": "", "RESTANTE_PORT": " "}) == read_settings({})


def test_secrets_are_not_in_the_printed_form() -> None:
    found = read_settings(
        {
            "RESTANTE_MASTER_KEY": "topsecret",
            "RESTANTE_DATABASE_URL": "postgresql://u:topsecret@h/d",
            "RESTANTE_KAFKA_SECURITY_PROTOCOL": "sasl_plaintext",
            "RESTANTE_KAFKA_SASL_USER": "restante",
            "RESTANTE_KAFKA_SASL_PASSWORD": "topsecret",
        }
    )
    assert "topsecret" not in repr(found)


def test_kafkas_security_reaches_the_client() -> None:
    security = read_settings(
        {
            "RESTANTE_KAFKA_SECURITY_PROTOCOL": "sasl_ssl",
            "RESTANTE_KAFKA_SASL_MECHANISM": "plain",
            "RESTANTE_KAFKA_SASL_USER": "restante",
            "RESTANTE_KAFKA_SASL_PASSWORD": "pw",
        }
    ).kafka_security
    options = security.client_options()
    assert options.pop("ssl_context") is not None
    assert options == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "restante",
        "sasl_plain_password": "pw",
    }


def test_a_role_names_all_that_it_lacks() -> None:
    with pytest.raises(Misconfigured) as refusal:
        require(read_settings({"RESTANTE_KAFKA": "127.0.0.1:9092"}), "api")
    for name in ("DATABASE_URL", "TOKEN_KEY", "CURSOR_KEYS", "MASTER_KEY"):
        assert f"RESTANTE_{name}" in str(refusal.value)
    assert "RESTANTE_KAFKA" not in str(refusal.value)
