"""Where Kafka is, and what it wants to know before it talks to us."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from producers.mends import mend


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaConnection:
    """`bootstrap` is host:port, several with commas. `security` holds the keyword arguments that every aiokafka client takes
    for TLS and SASL (`security_protocol`, `ssl_context`, `sasl_mechanism`, ...); it may hold a password and is never
    printed."""

    bootstrap: str
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments for any aiokafka producer, consumer, admin client or bare client."""
        mend()
        return {"bootstrap_servers": self.bootstrap, **self.security}
