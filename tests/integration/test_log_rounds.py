"""Which records share a request to Kafka."""

import asyncio
from collections.abc import Sequence

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder

from producers.connection import KafkaConnection
from producers.kafka import KafkaLog
from producers.lanes import Place
from producers.log import Appended
from producers.session import Session
from producers.topics import create_topics
from tests import builders

pytestmark = pytest.mark.anyio
RECIPIENT = builders.an_id("acct", 7)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Place]:
    """Where each batch that leaves goes."""
    left: list[Place] = []
    hand_over = Session.hand_over

    async def noted(session: Session, builder: BatchBuilder, place: Place) -> object:
        left.append(place)
        return await hand_over(session, builder, place)

    monkeypatch.setattr(Session, "hand_over", noted)
    return left


async def appended(log: KafkaLog, numbers: Sequence[int]) -> list[Appended]:
    """Append these one after the other, each as soon as the one before is on its way."""
    under_way = []
    for number in numbers:
        under_way.append(asyncio.create_task(log.append(builders.stored(number, recipient=RECIPIENT))))
        for _ in range(20):
            await asyncio.sleep(0)
    return await asyncio.gather(*under_way)


async def test_what_comes_within_the_pace_leaves_together(kafka: str, requests: list[Place]) -> None:
    """The first one at once: nothing came before it. The others when its time is over, not as soon as it is answered."""
    connection = KafkaConnection(bootstrap=kafka)
    await create_topics(connection, partitions=8)
    async with KafkaLog(connection, pace_seconds=2.0) as log:
        async with asyncio.timeout(1.0):
            [first] = await appended(log, [1])
        second, third = await appended(log, [2, 3])
    assert len(requests) == 2
    assert [second.offset, third.offset] == [first.offset + 1, first.offset + 2]
