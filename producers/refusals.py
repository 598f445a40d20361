"""Why Kafka does not let us in. aiokafka's clients say only that they could not connect; this asks once more, on one bare
connection, and puts what went wrong into words that name the setting."""

import asyncio
import ssl
from typing import Final

from aiokafka.conn import AIOKafkaConnection, collect_hosts
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)

from producers.connection import KafkaConnection

ASK_SECONDS: Final = 3.0
_CLOSE_SECONDS: Final = 0.5
_WRONG_NAME: Final = (62, 64)
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL."""


async def explained(connection: KafkaConnection, error: BaseException) -> str:
    """What to tell of a client that did not get in, and what to do about it."""
    if isinstance(error, TopicAuthorizationFailedError):
        return f"Kafka does not let this principal see {error}. Run `restante grants` as a super user of it"
    options = connection.client_options()
    for host, port, _ in collect_hosts(options.pop("bootstrap_servers")):
        asking = AIOKafkaConnection(host, port, **options)
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await asking.connect()
        except (KafkaError, OSError, TimeoutError, ValueError) as refusal:
            if reason := _reason(refusal, host, options):
                return f"Kafka at {host}:{port} and we do not agree: {reason}"
        finally:
            await asyncio.wait({asking.close()}, timeout=_CLOSE_SECONDS)
    return f"Kafka at {connection.bootstrap} does not answer: {error!r}. Start it, or mend RESTANTE_KAFKA"


def _reason(refusal: Exception, host: str, options: dict[str, object]) -> str | None:
    said = f"{refusal} {refusal.__cause__ or refusal.__context__ or ''}".lower()
    match refusal:
        case ssl.SSLCertVerificationError() if refusal.verify_code in _WRONG_NAME:
            return f"its certificate is not for the name {host}. Give a name in RESTANTE_KAFKA that the certificate has"
        case ssl.SSLCertVerificationError():
            return (
                f"its certificate does not come from an authority that we trust ({refusal.verify_message})."
                " RESTANTE_KAFKA_SSL_CA names the file with the right one"
            )
        case UnsupportedSaslMechanismError():
            return (
                f"it does not take {options.get('sasl_mechanism')}. Set RESTANTE_KAFKA_SASL_MECHANISM to one that it takes"
            )
        case SaslAuthenticationFailed() | AuthenticationFailedError():
            return "user or password are wrong. Correct RESTANTE_KAFKA_SASL_USER, RESTANTE_KAFKA_SASL_PASSWORD"
        case ssl.SSLError() if "wrong_version_number" in said or "record layer" in said:
            return "it does not speak TLS there. Correct the port in RESTANTE_KAFKA, or RESTANTE_KAFKA_SECURITY_PROTOCOL"
    if "certificate" in said and "alert" in said:
        return (
            "it wants a certificate of ours, from an authority that it trusts."
            " Set RESTANTE_KAFKA_SSL_CERT and RESTANTE_KAFKA_SSL_KEY"
        )
    return None
