"""Creating the topics of the table, comparing a live cluster with it, and refusing one that is weaker than the promise."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, TopicAuthorizationFailedError, for_code

from producers.connection import KafkaConnection
from producers.log import LogUnavailable, ProducersError
from producers.promises import Drift, LiveTopic, find_drift, wanted_settings
from producers.refusals import explained
from schemas.topics import TOPICS, Kept, Topic

ANSWER_SECONDS = 30.0
_RETRY_SECONDS = 0.2
_REPLICAS = 3


class WeakLog(ProducersError):
    """The log could lose what we promise to keep, so nothing is promised on it. Mend what the text names; `drift` holds the
    same, row by row."""

    def __init__(self, drift: Sequence[Drift]) -> None:
        super().__init__("Kafka's topics are weaker than the promise:\n" + "\n".join(f"  {row}" for row in drift))
        self.drift = tuple(drift)


class TopicRefused(ProducersError):
    """Kafka did not create a topic; it said why. Mend that, then run `restante topics` again: what exists is left alone."""


async def create_topics(
    connection: KafkaConnection, *, partitions: int, replication: int | None = None, topics: Sequence[Topic] = TOPICS
) -> list[str]:
    """Create what is missing and wait until it can be used; the names that this call created. What exists is left as it is
    (see `verify_topics`), so any number of processes may call this at once. `replication` is 3, or as many as there are
    brokers. Raises `TopicRefused`, and `LogUnavailable` where Kafka does not answer."""
    async with _admin(connection) as admin:
        if replication is None:
            replication = min(_REPLICAS, len((await admin.describe_cluster())["brokers"]))
        wanted = [_new(topic, partitions, replication) for topic in topics]
        created = await _create(admin, wanted)
        await _until_usable(admin, [topic.name for topic in wanted])
        return created


async def verify_topics(connection: KafkaConnection, *, partitions: int, topics: Sequence[Topic] = TOPICS) -> list[Drift]:
    """Every way in which the live topics are weaker than the table; empty where all is well. Changes nothing. Raises
    `LogUnavailable` where Kafka does not answer."""
    async with _admin(connection) as admin:
        live = await _live(admin, topics)
    return [row for topic in topics for row in find_drift(topic, live.get(topic.name), partitions)]


async def refuse_weak(connection: KafkaConnection, *, partitions: int, topics: Sequence[Topic] = TOPICS) -> None:
    """Raise `WeakLog` where a topic is missing, has another number of partitions, or, being kept for ever, has a setting
    that is weaker than the promise. Every role calls this before it does anything."""
    drift = await verify_topics(connection, partitions=partitions, topics=topics)
    lasting = {topic.name for topic in topics if topic.kept is Kept.FOR_EVER}
    grave = [row for row in drift if row.topic in lasting or row.setting in ("topic", "partitions")]
    if grave:
        raise WeakLog(grave)


@asynccontextmanager
async def _admin(connection: KafkaConnection) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**connection.client_options())
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await admin.start()
            yield admin
    except (KafkaError, OSError, TimeoutError) as error:
        raise LogUnavailable("rejected", await explained(connection, error)) from error
    finally:
        await admin.close()


def _new(topic: Topic, partitions: int, replication: int) -> NewTopic:
    return NewTopic(
        topic.name,
        partitions if topic.partitioned else 1,
        replication,
        topic_configs=wanted_settings(topic, replication),
    )


async def _create(admin: AIOKafkaAdminClient, wanted: Sequence[NewTopic]) -> list[str]:
    """Ask until Kafka has answered for each topic that it exists now. Names of those that were not there before."""
    created: list[str] = []
    left = {topic.name: topic for topic in wanted}
    while left:
        response = await admin.create_topics(list(left.values()))
        for name, code, message in response.topic_errors:
            error = for_code(code)
            if code == 0:
                created.append(name)
            elif error is not TopicAlreadyExistsError:
                if error.retriable:
                    continue
                raise TopicRefused(f"Kafka does not create {name}: {error.__name__}, {message}")
            del left[name]
        if left:
            await asyncio.sleep(_RETRY_SECONDS)
    return created


async def _until_usable(admin: AIOKafkaAdminClient, names: list[str]) -> None:
    """Wait until the broker knows every topic and each partition has a leader."""
    while True:
        found = await admin.describe_topics(names)
        if all(not topic["error_code"] and all(part["leader"] >= 0 for part in topic["partitions"]) for topic in found):
            return
        await asyncio.sleep(_RETRY_SECONDS)


async def _live(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> dict[str, LiveTopic]:
    found = await admin.describe_topics([topic.name for topic in topics])
    if hidden := [topic["topic"] for topic in found if topic["error_code"] == TopicAuthorizationFailedError.errno]:
        raise TopicAuthorizationFailedError(", ".join(hidden))
    there = [topic for topic in found if not topic["error_code"]]
    settings = await _settings(admin, [topic["topic"] for topic in there])
    return {
        topic["topic"]: LiveTopic(
            partitions=len(topic["partitions"]),
            replication=min(len(part["replicas"]) for part in topic["partitions"]),
            settings=settings[topic["topic"]],
        )
        for topic in there
    }


async def _settings(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """The effective settings, the broker's defaults included."""
    if not names:
        return {}
    answers: list[Any] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    settings: dict[str, dict[str, str | None]] = {}
    for code, message, _, name, entries in (row for answer in answers for row in answer.resources):
        if code:
            raise for_code(code)(message)
        settings[name] = {entry[0]: entry[1] for entry in entries}
    return settings
