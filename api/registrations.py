"""Devices that the log has yet to hear of: what was left half-way, whoever comes next finishes."""

from uuid import UUID

from api.accounts import Accounts
from api.outages import log_away
from api.removals import registration
from producers.log import EventLog, LogUnavailable


class Registrations:
    """Appends them. `producer` signs the facts."""

    def __init__(self, accounts: Accounts, log: EventLog, producer: str) -> None:
        self._accounts = accounts
        self._log = log
        self._producer = producer

    async def finish_of(self, user_id: UUID) -> None:
        """Have each device of the account in the log that lacks it. Raises `Problem` log_unavailable, and
        `DatabaseUnavailable`."""
        for device_id in await self._accounts.unregistered(user_id):
            try:
                await self._log.append(registration(user_id, device_id, self._producer))
            except LogUnavailable as error:
                raise log_away(error) from error
            await self._accounts.registered(device_id)
