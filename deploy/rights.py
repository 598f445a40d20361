"""What Kafka lets each principal do: derived from the table of topics, and this table of what goes beyond topics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from producers.acls import Acl, Operation, Resource
from projections.source import GROUP, RECEIPTS_GROUP
from schemas.principals import ACTS_AS, Principal
from schemas.topics import APP_ID, TOPICS

GROUPS: Final[Mapping[Principal, tuple[tuple[Operation, str], ...]]] = {
    Principal.PROCESSOR: ((Operation.READ, APP_ID),),
    Principal.PROJECTOR: ((Operation.READ, GROUP), (Operation.READ, RECEIPTS_GROUP)),
    Principal.API: ((Operation.DESCRIBE, APP_ID),),
}
"""Consumer groups: who is a member, and who asks how they stand."""

EVERYBODY: Final = (Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS)
"""On every topic, for everybody: each role compares the live settings when it starts."""

ADMIN: Final = (Operation.CREATE, Operation.ALTER, Operation.ALTER_CONFIGS)
"""On every topic, for whoever runs `restante topics`. Nobody may delete one."""


def kafka_rights() -> list[Acl]:
    """Every right that Kafka is to know."""
    rights = []
    for principal, roles in ACTS_AS.items():
        for topic in TOPICS:
            operations = list(EVERYBODY)
            if principal is Principal.ADMIN:
                operations += ADMIN
            if set(roles) & set(topic.read_by):
                operations.append(Operation.READ)
            if set(roles) & set(topic.written_by):
                operations.append(Operation.WRITE)
            rights += [Acl(principal, operation, Resource.TOPIC, topic.name) for operation in operations]
        rights += [Acl(principal, operation, Resource.GROUP, group) for operation, group in GROUPS.get(principal, ())]
    return rights
