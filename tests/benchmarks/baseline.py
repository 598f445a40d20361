"""The smallest do-it-yourself mailbox that keeps its word: Starlette, a psycopg pool, one table, 202 after the commit.

What everything else is measured against. It knows no login, no log, no repeats, no encryption, no second device.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

TABLE = """
CREATE TABLE message (
    id bigserial PRIMARY KEY, recipient text NOT NULL, body text NOT NULL, stored_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX message_mailbox ON message (recipient, id);
"""
ADDRESS = "BASELINE_DATABASE_URL"
_POOL = 16

_encode = msgspec.json.Encoder().encode


class _Post(msgspec.Struct):
    to: str
    body: str


class _Ack(msgspec.Struct):
    to: str
    ids: list[int]


_post = msgspec.json.Decoder(_Post).decode
_ack = msgspec.json.Decoder(_Ack).decode


def _answer(value: object, status: int = 200) -> Response:
    return Response(_encode(value), status, media_type="application/json")


async def post(request: Request) -> Response:
    """Keep a message."""
    message = _post(await request.body())
    async with _database(request).connection() as connection:
        await connection.execute("INSERT INTO message (recipient, body) VALUES (%s, %s)", (message.to, message.body))
    return _answer({"status": "accepted"}, 202)


async def sync(request: Request) -> Response:
    """The oldest messages of a mailbox."""
    query = request.query_params
    limit = int(query.get("limit", "100"))
    async with _database(request).connection() as connection:
        found = await connection.execute(
            "SELECT id, body FROM message WHERE recipient = %s ORDER BY id LIMIT %s", (query["to"], limit + 1)
        )
        rows = await found.fetchall()
    return _answer({"messages": [{"id": key, "body": body} for key, body in rows[:limit]], "has_more": len(rows) > limit})


async def ack(request: Request) -> Response:
    """Forget what has arrived."""
    arrived = _ack(await request.body())
    async with _database(request).connection() as connection:
        await connection.execute("DELETE FROM message WHERE recipient = %s AND id = ANY(%s)", (arrived.to, arrived.ids))
    return _answer({})


def _database(request: Request) -> AsyncConnectionPool[AsyncConnection]:
    pool: AsyncConnectionPool[AsyncConnection] = request.app.state.pool
    return pool


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    address = os.environ[ADDRESS]
    async with AsyncConnectionPool(address, min_size=_POOL, max_size=_POOL, kwargs={"autocommit": True}, open=False) as pool:
        await pool.wait()
        app.state.pool = pool
        yield


def create_app() -> Starlette:
    """The application, for uvicorn's `--factory`; the database's address is in the environment."""
    routes = [
        Route("/messages", post, methods=["POST"]),
        Route("/messages/sync", sync),
        Route("/messages/ack", ack, methods=["POST"]),
    ]
    return Starlette(routes=routes, lifespan=_lifespan)
