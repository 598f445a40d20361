"""The devices of an account: GET /devices, DELETE /devices/{device_id}, DELETE /tokens/current."""

from collections.abc import Callable
from typing import Final
from uuid import UUID

from api.accounts import Accounts, DeviceRow
from api.calls import PRIVATE, Answer, Call, answer
from api.freshness import Freshness
from api.models import Device, Devices
from api.outages import asking_accounts, asking_projection, log_away
from api.problems import Problem
from api.removals import Removals
from api.revocations import Revocations
from api.seen import LastSeen
from api.times import maybe_rfc3339, rfc3339
from producers.log import LogUnavailable
from projections.presence import DeviceView, PresenceReads
from schemas.partitions import partition_for

_DONE: Final = Answer(204, b"", (PRIVATE,))


class DeviceCalls:
    """The handlers. `partitions` is how many the lifecycle topic has, `clock` gives seconds since the epoch."""

    def __init__(
        self,
        *,
        accounts: Accounts,
        presence: PresenceReads,
        freshness: Freshness,
        removals: Removals,
        revocations: Revocations,
        seen: LastSeen,
        partitions: int,
        clock: Callable[[], float],
    ) -> None:
        self._accounts = accounts
        self._presence = presence
        self._freshness = freshness
        self._removals = removals
        self._revocations = revocations
        self._seen = seen
        self._partitions = partitions
        self._clock = clock

    async def listed(self, call: Call) -> Answer:
        """GET /devices."""
        who = call.principal
        floors = await self._freshness.of(partition_for(who.user, self._partitions))
        with asking_accounts():
            rows = await self._accounts.devices(who.user)
        with asking_projection():
            views = await self._presence.devices(who.user, [row.device_id for row in rows], floors=floors)
        return answer(Devices([self._device(row, views[row.device_id], who.device) for row in rows]))

    async def remove(self, call: Call) -> Answer:
        """DELETE /devices/{device_id}. Answered once the log has it, so the device's view is gone for good."""
        with asking_accounts():
            found = await self._accounts.remove_device(call.principal.user, _device_in(call))
            if found is None:
                raise _unknown()
            removed, generation = found
            if generation is not None:
                self._revocations.end(removed.device_id, generation)
            try:
                await self._removals.finish(removed)
            except LogUnavailable as error:
                raise log_away(error) from error
        return _DONE

    async def log_out(self, call: Call) -> Answer:
        """DELETE /tokens/current. The mailbox stays."""
        device = call.principal.device
        with asking_accounts():
            self._revocations.end(device, await self._accounts.revoke(device))
        return _DONE

    def _device(self, row: DeviceRow, view: DeviceView, current: UUID) -> Device:
        noted = self._seen.noted(row.device_id)
        known = (row.last_seen_at_ms, view.ended_at_ms, int(noted * 1000) if noted else None)
        times = [int(self._clock() * 1000)] if view.online else [at_ms for at_ms in known if at_ms is not None]
        return Device(
            device_id=row.device_id,
            label=row.label,
            created_at=rfc3339(row.created_at_ms),
            last_seen_at=maybe_rfc3339(max(times, default=None)),
            pending=view.pending,
            current=row.device_id == current,
        )


def _device_in(call: Call) -> UUID:
    text = call.path("device_id")
    try:
        device_id = UUID(text)
    except ValueError as error:
        raise _unknown() from error
    if str(device_id) != text:
        raise _unknown()
    return device_id


def _unknown() -> Problem:
    return Problem("device_unknown", "Your account has no device with this id. GET /devices lists those it has.")
