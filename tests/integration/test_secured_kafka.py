"""A Kafka that asks who we are: every kind of client of ours gets in, what is wrong is told, and each principal may do what
is his and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    for_code,
)

from deploy import granting
from deploy.errors import DeployError
from deploy.foundation import require_strong_log
from deploy.granting import Passwords
from deploy.settings import Settings, read_settings
from producers.acls import Acl, Operation, Resource, admin_of, give
from producers.connection import KafkaConnection
from schemas.principals import Principal
from schemas.topics import APP_ID, GATEWAYS, LIFECYCLE, PUSH, QUARANTINE, RECEIPTS
from tests.secured import PASSWORD, SecuredKafka, differences_become, private_directory, secured_kafka

PASSWORDS = Passwords(kafka={principal: PASSWORD for principal in Principal})


REFUSALS = (TopicAuthorizationFailedError, GroupAuthorizationFailedError, ClusterAuthorizationFailedError)


@pytest.fixture(scope="module")
def broker() -> Iterator[SecuredKafka]:
    """With all rights given and all topics made, by those who may."""
    with private_directory() as directory, secured_kafka(directory) as broker:
        asyncio.run(_made(broker))
        yield broker


async def _made(broker: SecuredKafka) -> None:
    from producers.topics import create_topics

    await granting.mend_kafka(root(broker), PASSWORDS)
    await differences_become(root(broker), [])
    await create_topics(broker.connection(Principal.ADMIN), partitions=2)


def root(broker: SecuredKafka) -> Settings:
    return read_settings({"RESTANTE_KAFKA": broker.plain, "RESTANTE_PARTITIONS": "2"})


def settings(broker: SecuredKafka, environment: dict[str, str]) -> Settings:
    return read_settings({**environment, "RESTANTE_PARTITIONS": "2"})


@pytest.mark.anyio
async def test_rights_are_given_once_and_drift_is_found_and_mended(broker: SecuredKafka) -> None:
    assert await granting.kafka_differences(root(broker)) == []
    assert await granting.mend_kafka(root(broker), PASSWORDS) == []
    async with admin_of(KafkaConnection(bootstrap=broker.plain)) as admin:
        await give(admin, [Acl(Principal.API, Operation.DELETE, Resource.TOPIC, LIFECYCLE)])
    found = ["too much: restante_api: DELETE on topic restante.lifecycle"]
    await differences_become(root(broker), found)
    assert await granting.mend_kafka(root(broker), Passwords()) == [found[0].replace("too much", "taken")]
    await differences_become(root(broker), [])


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_role_gets_in_by_password(broker: SecuredKafka, mechanism: str) -> None:
    security = broker.by_password(Principal.PROJECTOR, mechanism=mechanism)
    asyncio.run(require_strong_log(settings(broker, broker.environment(security))))


def test_a_role_gets_in_by_certificate(broker: SecuredKafka) -> None:
    security = broker.by_certificate(Principal.PROJECTOR)
    asyncio.run(require_strong_log(settings(broker, broker.environment(security))))


def wrong_password(broker: SecuredKafka) -> dict[str, str]:
    return broker.environment(broker.by_password(Principal.API, password="guessed-wrong"))


def wrong_authority(broker: SecuredKafka) -> dict[str, str]:
    return broker.environment(broker.by_password(Principal.API, ca=broker.certificates.foreign_ca))


def wrong_name(broker: SecuredKafka) -> dict[str, str]:
    given = broker.environment(broker.by_password(Principal.API))
    return {**given, "RESTANTE_KAFKA": given["RESTANTE_KAFKA"].replace("localhost", "127.0.0.1")}


def no_certificate(broker: SecuredKafka) -> dict[str, str]:
    return broker.environment(broker.by_certificate(Principal.API, certificate=None, key=None))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (wrong_password, "RESTANTE_KAFKA_SASL_PASSWORD"),
        (wrong_authority, "RESTANTE_KAFKA_SSL_CA"),
        (wrong_name, "name"),
        (no_certificate, "RESTANTE_KAFKA_SSL_CERT"),
    ],
    ids=["password", "authority", "name", "certificate"],
)
def test_who_is_not_let_in_is_told_why(
    broker: SecuredKafka, wrong: Callable[[SecuredKafka], dict[str, str]], told: str
) -> None:
    with pytest.raises(DeployError, match=told) as refused:
        asyncio.run(require_strong_log(settings(broker, wrong(broker))))
    assert refused.value.exit_code == 3
    assert "guessed-wrong" not in str(refused.value)


async def writes(options: dict[str, Any], topic: str) -> None:
    producer = AIOKafkaProducer(**options, acks="all", enable_idempotence=True)
    try:
        await producer.start()
        await producer.send_and_wait(topic, b"x", partition=0)
    finally:
        await producer.stop()


async def reads(options: dict[str, Any], topic: str) -> None:
    consumer = AIOKafkaConsumer(topic, **options, auto_offset_reset="earliest")
    try:
        async with asyncio.timeout(10):
            await consumer.start()
            await consumer.getmany(timeout_ms=500)
    finally:
        await consumer.stop()


async def joins(options: dict[str, Any], group: str) -> None:
    consumer = AIOKafkaConsumer(LIFECYCLE, **options, group_id=group)
    try:
        async with asyncio.timeout(10):
            await consumer.start()
    finally:
        await consumer.stop()


async def deletes(options: dict[str, Any], topic: str) -> None:
    admin = AIOKafkaAdminClient(**options)
    try:
        await admin.start()
        answer = await admin.delete_topics([topic])
        for _, code in answer.topic_error_codes:
            if code:
                raise for_code(code)
    finally:
        await admin.close()


Try = Callable[[dict[str, Any], str], Awaitable[None]]


@pytest.mark.parametrize(
    ("principal", "act", "on"),
    [
        (Principal.PROJECTOR, writes, LIFECYCLE),
        (Principal.PROJECTOR, writes, RECEIPTS),
        (Principal.API, writes, RECEIPTS),
        (Principal.API, writes, QUARANTINE),
        (Principal.API, deletes, LIFECYCLE),
        (Principal.API, reads, LIFECYCLE),
        (Principal.API, joins, APP_ID),
        (Principal.PROCESSOR, deletes, PUSH),
        (Principal.PROCESSOR, writes, GATEWAYS),
        (Principal.AUDITOR, writes, LIFECYCLE),
        (Principal.AUDITOR, reads, PUSH),
        (Principal.AUDITOR, writes, QUARANTINE),
        (Principal.OPERATOR, reads, LIFECYCLE),
        (Principal.NOTARY, writes, LIFECYCLE),
        (Principal.NOTARY, reads, PUSH),
        (Principal.ADMIN, writes, LIFECYCLE),
        (Principal.ADMIN, deletes, LIFECYCLE),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_refused(broker: SecuredKafka, principal: Principal, act: Try, on: str) -> None:
    with pytest.raises(REFUSALS):
        asyncio.run(act(broker.connection(principal).client_options(), on))
