"""Who is there: the devices of an account, and whether a correspondent is online."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from psycopg.types.numeric import Int8

from projections import columns
from projections.database import Database, load_queries
from projections.reads import COUNTED, NO_FLOORS, Floors
from schemas.topics import LIFECYCLE

_QUERIES: Final = load_queries("projections", "presence.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """`pending` messages wait for the device (exact to COUNTED). `online` is None where it never had a session;
    `ended_at_ms` is when its latest one ended."""

    device_id: UUID
    online: bool | None
    ended_at_ms: int | None
    pending: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Whether somebody is there, and the last moment (milliseconds since 1970) at which they are known to have been."""

    online: bool
    last_seen_at_ms: int | None


class PresenceReads:
    """The questions. Both may raise `DatabaseUnavailable`, and with floors `ProjectionBehind`; see `reads`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def devices(self, user: UUID, devices: Sequence[UUID], *, floors: Floors = NO_FLOORS) -> dict[UUID, DeviceView]:
        """The state of each of these devices of an account."""
        rows = await self._database.all(
            DeviceView,
            _QUERIES["devices"],
            user=user,
            devices=columns.uuids(devices),
            limit=Int8(COUNTED),
            **_params(floors),
        )
        return {row.device_id: row for row in rows}

    async def between(self, user: UUID, name: str, *, floors: Floors = NO_FLOORS) -> Presence | None:
        """The presence of the account of this name where each of the two has sent the other a message; else None."""
        return await self._database.one(Presence, _QUERIES["presence"], user=user, name=name, **_params(floors))


def _params(floors: Mapping[int, int]) -> dict[str, object]:
    return {
        "topic": LIFECYCLE,
        "partitions": columns.smallints(list(floors.keys())),
        "ends": columns.bigints(list(floors.values())),
    }
