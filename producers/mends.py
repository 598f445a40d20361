"""What aiokafka 0.14 leaves behind, and the mends: connections that nobody closes, errors that nobody takes.

Connections (`client.py`): `bootstrap` keeps its first one in a local variable, so a bootstrap that is cancelled (a start
that takes too long, a close in between) leaves it open until the garbage collector comes; and `_get_conn` of a client that
is closed while it connects files the new connection where `close` has already been. Both go through `create_conn`.

Errors (`producer/message_accumulator.py`): a batch that fails tells it to two futures. Nobody asks the one about room in
the queue, nor the other once the caller has gone away, and asyncio reports both as errors nobody took, whenever the garbage
collector comes by.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiokafka.client
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.producer.message_accumulator import MessageBatch


def mend() -> None:
    """Put these mends into aiokafka, for every client of this process from now on. As often as you like."""
    aiokafka.client.create_conn = _create_conn
    AIOKafkaClient.close = _close
    MessageBatch.failure = _failure


class _Bootstrapping(AIOKafkaConnection):  # type: ignore[misc]
    """A connection that only `bootstrap` knows: it ends with the question that it was made for."""

    async def send(self, *question: Any, **options: Any) -> Any:
        try:
            return await super().send(*question, **options)
        except asyncio.CancelledError:
            self.close()
            raise


_closed_by_aiokafka = AIOKafkaClient.close
_failed_by_aiokafka = MessageBatch.failure


async def _close(client: AIOKafkaClient) -> None:
    client.__dict__["closed_for_good"] = True
    await _closed_by_aiokafka(client)


def _failure(batch: MessageBatch, exception: BaseException) -> None:
    _failed_by_aiokafka(batch, exception)
    for told in (batch.future, batch._drain_waiter):
        if not told.cancelled():
            told.exception()


async def _create_conn(host: str, port: int, *, on_close: Any = None, **options: Any) -> AIOKafkaConnection:
    connection = await create_conn(host, port, on_close=on_close, **options)
    if on_close is None:
        connection.__class__ = _Bootstrapping
    elif on_close.__self__.__dict__.get("closed_for_good"):
        connection.close()
        raise KafkaConnectionError("this client was closed while it connected")
    return connection
