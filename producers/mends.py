"""What aiokafka 0.14 leaves behind, and the mend: connections that nobody closes.

Read in `client.py`: `bootstrap` keeps its first connection in a local variable, so a bootstrap that is cancelled (a start
that takes too long, a close in between) leaves it open until the garbage collector comes; and `_get_conn` of a client that
is closed while it connects files the new connection where `close` has already been. Both go through `create_conn`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiokafka.client
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import KafkaConnectionError


def mend() -> None:
    """Make every client of this process close what it opens, from now on. As often as you like."""
    aiokafka.client.create_conn = _create_conn
    AIOKafkaClient.close = _close


class _Bootstrapping(AIOKafkaConnection):  # type: ignore[misc]
    """A connection that only `bootstrap` knows: it ends with the question that it was made for."""

    async def send(self, *question: Any, **options: Any) -> Any:
        try:
            return await super().send(*question, **options)
        except asyncio.CancelledError:
            self.close()
            raise


_closed_by_aiokafka = AIOKafkaClient.close


async def _close(client: AIOKafkaClient) -> None:
    client.__dict__["closed_for_good"] = True
    await _closed_by_aiokafka(client)


async def _create_conn(host: str, port: int, *, on_close: Any = None, **options: Any) -> AIOKafkaConnection:
    connection = await create_conn(host, port, on_close=on_close, **options)
    if on_close is None:
        connection.__class__ = _Bootstrapping
    elif on_close.__self__.__dict__.get("closed_for_good"):
        connection.close()
        raise KafkaConnectionError("this client was closed while it connected")
    return connection
