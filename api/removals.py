"""Taking devices off accounts: committed with the accounts first, then in the log, and only then answered.

What a crash or an absent log leaves between the two is finished by whoever comes next: the same call again, a login of the
account, or the look that every API process takes at its start and once in a while.
"""

from contextlib import suppress
from uuid import UUID

from api.accounts import Accounts, RemovedDevice
from api.sweep import OLD_SECONDS
from producers.log import EventLog, LogUnavailable
from schemas.events import DeviceRegistered, DeviceRemoved
from schemas.ids import derived_id


class Removals:
    """`producer` signs the facts."""

    def __init__(self, accounts: Accounts, log: EventLog, producer: str) -> None:
        self._accounts = accounts
        self._log = log
        self._producer = producer

    async def finish(self, removed: RemovedDevice) -> None:
        """Have the removal in the log. A registration that was cut short goes first: the fold takes no removal of a device
        that it does not know. Raises `LogUnavailable`, `DatabaseUnavailable`."""
        if removed.recorded:
            return
        if not removed.registered:
            await self._log.append(registration(removed.user_id, removed.device_id, self._producer))
        await self._log.append(
            DeviceRemoved(
                event_id=derived_id(b"device removed", removed.device_id.bytes),
                producer=self._producer,
                recipient=removed.user_id,
                device_id=removed.device_id,
            )
        )
        await self._accounts.removal_recorded(removed.device_id)

    async def finish_of(self, user_id: UUID) -> None:
        """Finish what is left over of an account, if the log takes it. Raises `DatabaseUnavailable`."""
        with suppress(LogUnavailable):
            for removed in await self._accounts.unfinished_removals(user_id):
                await self.finish(removed)

    async def sweep(self) -> None:
        """Finish what is left over of any account. Raises `LogUnavailable`, `DatabaseUnavailable`."""
        for removed in await self._accounts.unfinished_removals(None, older_than=OLD_SECONDS):
            await self.finish(removed)


def registration(user_id: UUID, device_id: UUID, producer: str) -> DeviceRegistered:
    """The fact that an account has a device; the same however often it is made."""
    return DeviceRegistered(
        event_id=derived_id(b"device registered", device_id.bytes),
        producer=producer,
        recipient=user_id,
        device_id=device_id,
    )
