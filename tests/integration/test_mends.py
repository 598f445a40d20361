"""No connection of aiokafka outlives the client that opened it, whenever that client is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Iterator

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError

from producers.connection import KafkaConnection
from producers.ends import Ends

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _only_ours() -> Iterator[None]:
    """Connections that are open before are somebody else's."""
    before = set(map(id, opened()))
    yield
    left = [connection for connection in opened() if id(connection) not in before]
    for connection in left:
        connection.close()
    assert not left


def opened() -> list[AIOKafkaConnection]:
    gc.collect()
    return [made for made in gc.get_objects() if isinstance(made, AIOKafkaConnection) and made.connected()]


async def steps(task: asyncio.Task[object], count: int) -> bool:
    """Let `task` run for `count` rounds of the loop; False where it ended before."""
    for _ in range(count):
        await asyncio.sleep(0)
    return not task.done()


async def test_a_bootstrap_that_is_cancelled_anywhere_leaves_no_connection(kafka: str) -> None:
    count, running = 0, True
    while running:
        client = AIOKafkaClient(**KafkaConnection(bootstrap=kafka).client_options())
        task = asyncio.create_task(client.bootstrap())
        running = await steps(task, count)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await client.close()
        count += 1


async def test_a_question_for_the_ends_that_is_closed_anywhere_leaves_no_connection(kafka: str) -> None:
    count, running = 0, True
    while running:
        ends = Ends(KafkaConnection(bootstrap=kafka), "no-such-topic")
        asker = asyncio.create_task(ends.ask())
        running = await steps(asker, count) and count < 200  # the topic never comes, so the question does not end
        asker.cancel()
        await ends.close()
        count += 1


async def test_a_client_closed_while_it_connects_leaves_no_connection(kafka: str) -> None:
    client = AIOKafkaClient(**KafkaConnection(bootstrap=kafka).client_options())
    await client.bootstrap()
    node = next(iter(client.cluster.brokers())).nodeId
    connecting = asyncio.create_task(client._get_conn(node))
    await steps(connecting, 1)
    await client.close()
    with contextlib.suppress(KafkaConnectionError):
        assert await connecting is None
