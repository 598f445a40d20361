"""Topics on a real broker: created once whoever asks, compared with what is live, refused when weak."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from producers.connection import KafkaConnection
from producers.log import LogUnavailable
from producers.promises import wanted_settings
from producers.topics import TopicRefused, WeakLog, create_topics, refuse_weak, verify_topics
from schemas.topics import LIFECYCLE, PUSH, TOPICS, Topic
from tests.eventually import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def connection(kafka: str) -> KafkaConnection:
    return KafkaConnection(bootstrap=kafka)


@pytest.fixture
def topics(topic_prefix: str) -> list[Topic]:
    """The table, under names of this test's own."""
    return [replace(topic, name=topic_prefix + topic.name) for topic in TOPICS]


def _named(topics: list[Topic], name: str) -> Topic:
    return next(topic for topic in topics if topic.name.endswith(name))


@asynccontextmanager
async def _admin(connection: KafkaConnection) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**connection.client_options())
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def _change(connection: KafkaConnection, topic: Topic, **changes: str) -> None:
    settings = wanted_settings(topic, 1) | {name.replace("_", "."): value for name, value in changes.items()}
    async with _admin(connection) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name, settings)])

        async def seen() -> bool:
            [answer] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name)])
            live = {entry[0]: entry[1] for entry in answer.resources[0][4]}
            return settings.items() <= live.items()

        await eventually(seen)


async def test_what_is_created_is_as_the_table_says(connection: KafkaConnection, topics: list[Topic]) -> None:
    created = await create_topics(connection, partitions=4, topics=topics)
    assert sorted(created) == sorted(topic.name for topic in topics)
    assert await verify_topics(connection, partitions=4, topics=topics) == []
    await refuse_weak(connection, partitions=4, topics=topics)


async def test_creating_again_changes_nothing(connection: KafkaConnection, topics: list[Topic]) -> None:
    await create_topics(connection, partitions=2, topics=topics)
    await _change(connection, _named(topics, LIFECYCLE), retention_ms="1000")
    assert await create_topics(connection, partitions=2, topics=topics) == []
    assert [row.setting for row in await verify_topics(connection, partitions=2, topics=topics)] == ["retention.ms"]


async def test_several_creators_at_once_create_each_topic_once(connection: KafkaConnection, topics: list[Topic]) -> None:
    created = await asyncio.gather(*(create_topics(connection, partitions=2, topics=topics) for _ in range(4)))
    assert sorted(name for names in created for name in names) == sorted(topic.name for topic in topics)
    assert await verify_topics(connection, partitions=2, topics=topics) == []


async def test_what_is_missing_is_created_beside_what_is_there(connection: KafkaConnection, topics: list[Topic]) -> None:
    await create_topics(connection, partitions=2, topics=topics[:2])
    assert [row.setting for row in await verify_topics(connection, partitions=2, topics=topics)] == ["topic"] * 4
    assert await create_topics(connection, partitions=2, topics=topics) == [topic.name for topic in topics[2:]]


async def test_a_topic_that_kafka_does_not_take_is_named(connection: KafkaConnection, topics: list[Topic]) -> None:
    odd = replace(topics[0], name=f"{topics[0].name}/odd")
    with pytest.raises(TopicRefused, match="odd"):
        await create_topics(connection, partitions=2, topics=[odd])


async def test_more_replicas_than_brokers_are_refused(connection: KafkaConnection, topics: list[Topic]) -> None:
    with pytest.raises(TopicRefused, match="replication"):
        await create_topics(connection, partitions=2, replication=3, topics=topics)


@pytest.mark.parametrize(
    ("setting", "weak"),
    [
        ("retention.ms", "604800000"),
        ("retention.bytes", "1000000"),
        ("cleanup.policy", "compact"),
        ("flush.messages", "9223372036854775807"),
        ("message.timestamp.type", "CreateTime"),
        ("unclean.leader.election.enable", "true"),
    ],
)
async def test_a_role_refuses_a_weak_lifecycle_topic(
    connection: KafkaConnection, topics: list[Topic], setting: str, weak: str
) -> None:
    lifecycle = _named(topics, LIFECYCLE)
    await create_topics(connection, partitions=2, topics=topics)
    await _change(connection, lifecycle, **{setting: weak})
    with pytest.raises(WeakLog, match=f"--add-config {setting}=") as refusal:
        await refuse_weak(connection, partitions=2, topics=topics)
    [row] = refusal.value.drift
    assert (row.topic, row.setting, row.live) == (lifecycle.name, setting, weak)


async def test_a_topic_made_with_kafkas_defaults_is_refused(connection: KafkaConnection, topics: list[Topic]) -> None:
    """Seven days of retention, no fsync, clients' clocks: as auto-creation or a hurried operator would make it. Spelt out,
    because the broker of the tests has better defaults."""
    lifecycle = _named(topics, LIFECYCLE)
    defaults = {
        "retention.ms": "604800000",
        "flush.messages": "9223372036854775807",
        "message.timestamp.type": "CreateTime",
    }
    async with _admin(connection) as admin:
        await admin.create_topics([NewTopic(lifecycle.name, 2, 1, topic_configs=defaults)])
    await create_topics(connection, partitions=2, topics=topics)
    with pytest.raises(WeakLog) as refusal:
        await refuse_weak(connection, partitions=2, topics=topics)
    assert {"retention.ms", "flush.messages", "message.timestamp.type"} <= {row.setting for row in refusal.value.drift}


async def test_a_role_refuses_another_number_of_partitions(connection: KafkaConnection, topics: list[Topic]) -> None:
    await create_topics(connection, partitions=2, topics=topics)
    with pytest.raises(WeakLog, match="RESTANTE_PARTITIONS=2"):
        await refuse_weak(connection, partitions=3, topics=topics)


async def test_a_role_refuses_where_topics_are_missing(connection: KafkaConnection, topics: list[Topic]) -> None:
    with pytest.raises(WeakLog, match="restante topics"):
        await refuse_weak(connection, partitions=2, topics=topics)


async def test_a_brief_topic_that_is_weak_is_drift_and_no_reason_to_refuse(
    connection: KafkaConnection, topics: list[Topic]
) -> None:
    await create_topics(connection, partitions=2, topics=topics)
    await _change(connection, _named(topics, PUSH), retention_ms="1000")
    assert [row.setting for row in await verify_topics(connection, partitions=2, topics=topics)] == ["retention.ms"]
    await refuse_weak(connection, partitions=2, topics=topics)


async def test_no_kafka_is_said_in_words() -> None:
    with pytest.raises(LogUnavailable, match="RESTANTE_KAFKA"):
        await verify_topics(KafkaConnection(bootstrap="127.0.0.1:1"), partitions=2)
