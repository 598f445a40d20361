"""The second place of the projection, made and pointed to by hand."""

from __future__ import annotations

import psycopg

from projections.database import connect_options
from projections.migrate import make_place
from projections.pointer import PLACES


async def second_place(url: str, place: str = PLACES[1]) -> None:
    """Make it, empty."""
    async with await psycopg.AsyncConnection.connect(url, **connect_options()) as connection, connection.transaction():
        await make_place(connection, place)


async def point_to(url: str, place: str) -> None:
    """Make it the live one."""
    async with await psycopg.AsyncConnection.connect(url, **connect_options()) as connection:
        await connection.execute("UPDATE pointer.projection SET live = %s", [place])
