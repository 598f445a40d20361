"""Who may do what in Kafka: access control lists compared with a wanted set, and made equal to it.

aiokafka 0.14 has the messages of ACLs, one binding a request; here they go together. Read in Kafka's protocol guide
(DescribeAcls, CreateAcls, DeleteAcls, all version 1) and in `org.apache.kafka.common.acl`.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from enum import IntEnum
from typing import Any, Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    KafkaError,
    SecurityDisabled,
    UnsupportedVersionError,
    for_code,
)
from aiokafka.protocol.admin import (
    CreateAclsRequest_v1,
    DeleteAclsRequest_v1,
    DescribeAclsRequest,
)
from aiokafka.protocol.api import Request

from producers.connection import KafkaConnection
from producers.log import LogUnavailable, ProducersError
from producers.refusals import explained

_ANY: Final = 1
_ALLOW: Final = 3
_LITERAL: Final = 3
_EVERYWHERE: Final = "*"
CLUSTER: Final = "kafka-cluster"


class AccessRefused(ProducersError):
    """Kafka keeps no access control lists, or does not let this principal see or change them. The text says which, and what
    to do."""


class Resource(IntEnum):
    """What a right is on, as Kafka numbers it."""

    TOPIC = 2
    GROUP = 3
    CLUSTER = 4


class Operation(IntEnum):
    """What a right lets one do, as Kafka numbers it."""

    ALL = 2
    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12


class Acl(NamedTuple):
    """A right of a principal (without Kafka's `User:`) on one thing, from any host."""

    principal: str
    operation: Operation
    resource: Resource
    name: str

    def __str__(self) -> str:
        return f"{self.principal}: {self.operation.name} on {self.resource.name.lower()} {self.name}"


class Found(NamedTuple):
    """A binding as Kafka keeps it; what is not an `Acl` of ours (a denial, a prefix, one host only) has none."""

    acl: Acl | None
    row: tuple[int, str, int, str, str, int, int]

    def __str__(self) -> str:
        kind, name, pattern, principal, host, operation, permission = self.row
        return str(self.acl or f"{principal}: {permission=} {operation=} {kind=} {name} {pattern=} {host=}")


@asynccontextmanager
async def admin_of(connection: KafkaConnection) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client. LogUnavailable where Kafka does not answer, AccessRefused where it does not let us."""
    admin = AIOKafkaAdminClient(**connection.client_options())
    try:
        await admin.start()
        yield admin
    except SecurityDisabled as error:
        raise AccessRefused(
            "this Kafka keeps no access control lists: everybody who reaches it may do everything. Set"
            " authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer and super.users in its brokers"
        ) from error
    except (ClusterAuthorizationFailedError, UnsupportedVersionError) as error:
        raise AccessRefused(
            f"Kafka does not let this principal see or change rights ({error!r}). Run it as one of its super.users"
        ) from error
    except (KafkaError, OSError, TimeoutError) as error:
        raise LogUnavailable("rejected", await explained(connection, error)) from error
    finally:
        await admin.close()


async def acls_of(admin: AIOKafkaAdminClient, principals: Iterable[str]) -> list[Found]:
    """Every binding of these principals."""
    found = []
    for principal in principals:
        answer = await ask(admin, DescribeAclsRequest(_ANY, None, _ANY, f"User:{principal}", None, _ANY, _ANY))
        if answer.error_code:
            raise for_code(answer.error_code)(answer.error_message)
        for kind, name, pattern, acls in answer.resources:
            found += [_found((kind, name, pattern, who, host, does, may)) for who, host, does, may in acls]
    return found


async def give(admin: AIOKafkaAdminClient, acls: Sequence[Acl]) -> None:
    """Create these. Those that exist stay."""
    rows = [
        (int(acl.resource), acl.name, _LITERAL, f"User:{acl.principal}", _EVERYWHERE, int(acl.operation), _ALLOW)
        for acl in acls
    ]
    if rows:
        _check((await ask(admin, _Create(rows))).creation_responses)


async def take(admin: AIOKafkaAdminClient, found: Sequence[Found]) -> None:
    """Delete these."""
    if found:
        _check((await ask(admin, _Delete([one.row for one in found]))).filter_responses)


async def ask(admin: AIOKafkaAdminClient, request: Any) -> Any:
    """Any broker will do: it hands on to the controller what is the controller's."""
    client = admin._client
    node = client.get_random_node()
    return await client.send(-1 if node is None else node, request)


def _found(row: tuple[int, str, int, str, str, int, int]) -> Found:
    kind, name, pattern, principal, host, operation, permission = row
    if (pattern, host, permission) != (_LITERAL, _EVERYWHERE, _ALLOW) or kind not in set(Resource):
        return Found(None, row)
    return Found(Acl(principal.removeprefix("User:"), Operation(operation), Resource(kind), name), row)


def _check(answers: Iterable[tuple[Any, ...]]) -> None:
    for code, message, *_ in answers:
        if code:
            raise for_code(code)(message)


class _Create(Request[CreateAclsRequest_v1]):  # type: ignore[misc]
    API_KEY = 30

    def __init__(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._rows = rows

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(self._rows)


class _Delete(Request[DeleteAclsRequest_v1]):  # type: ignore[misc]
    API_KEY = 31

    def __init__(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._rows = rows

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(self._rows)
