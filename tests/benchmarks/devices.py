"""Devices for measurements that last longer than an access token lives, and for more of them than anybody would log in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid4

import psycopg

from api.removals import registration
from api.secrets import read_token_keys
from api.tokens import AccessTokens
from producers.connection import KafkaConnection
from producers.stripes import StripedLog

_SECONDS = 12 * 3600.0
_ROW = "INSERT INTO accounts.devices (device_id, user_id, label, registered_at) VALUES (%s, %s, %s, now())"


def long_tokens(data: Path) -> AccessTokens:
    """Tokens that outlive any run, signed with the key of the service whose data directory this is."""
    keys = read_token_keys((data / "secrets" / "token-key").read_text(encoding="utf-8"))
    return AccessTokens(keys, _SECONDS, time.time, lambda who: False)


async def new_devices(data: Path, kafka: str, database: str, users: Sequence[UUID]) -> list[str]:
    """A new device for each of these (one named twice gets two), as a login would make it; their tokens."""
    made, tokens = [(uuid4(), user) for user in users], long_tokens(data)
    async with await psycopg.AsyncConnection.connect(database) as connection, connection.cursor() as cursor:
        await cursor.executemany(_ROW, [(device, user, f"idle {device}") for device, user in made])
    async with StripedLog(KafkaConnection(bootstrap=kafka)) as log:
        await asyncio.gather(*(log.append(registration(user, device, "bench/1")) for device, user in made))
    return [tokens.issue(user, device, 0) for device, user in made]
