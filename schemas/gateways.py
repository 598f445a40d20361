"""Which gateways are alive: a lease each, renewed while the gateway's process lives. No fact: only the latest one counts."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLease:
    """A gateway process says that it lives. `gateway` is its name (new at each start), `push_partition` where it listens;
    without another one within `lease_ms` its sessions are lost. `ended` says that it went in order and left none."""

    event_id: UUID
    producer: str
    gateway: str
    push_partition: int
    lease_ms: int
    ended: bool
