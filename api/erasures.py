"""Erasing accounts: committed with the accounts, then in the log, then told to the senders (docs/decisions/0010).

What a crash or an absent log leaves after the commit is finished by the look that every API process takes. The same look
tells the senders of messages that reached the log after the erasure, and the first one of a process erases again whom a
restored backup of the accounts has brought back.
"""

from typing import Final
from uuid import UUID

import structlog

from api.accounts import Accounts
from api.calls import PRIVATE, Answer, Call
from api.freshness import Freshness
from api.ids import new_id
from api.outages import asking_accounts, log_away
from api.revocations import Revocations
from api.sweep import AWAY, OLD_SECONDS
from producers.log import EventLog, LogUnavailable
from projections.reads import START, Reads
from schemas.events import MAX_ENTRIES, AccountErased, MessagesErased
from schemas.ids import derived_id
from schemas.partitions import partition_for

_log = structlog.stdlib.get_logger(__name__)

_DONE: Final = Answer(204, b"", (PRIVATE,))


class Erasures:
    """The handler, and the look. `producer` signs the facts."""

    def __init__(
        self,
        *,
        accounts: Accounts,
        log: EventLog,
        reads: Reads,
        freshness: Freshness,
        revocations: Revocations,
        producer: str,
    ) -> None:
        self._accounts = accounts
        self._log = log
        self._reads = reads
        self._freshness = freshness
        self._revocations = revocations
        self._producer = producer
        self._compared = False

    async def erase(self, call: Call) -> Answer:
        """DELETE /accounts/me. Once it is committed nothing can refuse it any more: whoever asked has no token left to ask
        again with, so the rest is done now or by a look."""
        user = call.principal.user
        try:
            await self._log.ends()
        except LogUnavailable as error:
            raise log_away(error) from error
        with asking_accounts():
            ended = await self._accounts.erase(user)
        for device, generation in ended.items():
            self._revocations.end(device, generation)
        self._revocations.erase(user)
        try:
            await self._record(user)
            await self._tell(user)
        except AWAY as error:
            _log.warning("erasure_unfinished", error=type(error).__name__)
        return _DONE

    async def sweep(self) -> None:
        """Finish what is left over of any account; first what needs no projection. Raises what is in `api.sweep.AWAY`."""
        unfinished = await self._accounts.unfinished_erasures(older_than=OLD_SECONDS)
        for user in unfinished:
            await self._record(user)
        if not self._compared:
            await self._erase_again()
        for user in dict.fromkeys([*unfinished, *await self._reads.untold_accounts()]):
            await self._tell(user)

    async def _erase_again(self) -> None:
        """Erase accounts that the log has as erased and the database has not: it was restored from a backup."""
        await self._freshness.of_all()
        while users := await self._reads.erased_and_back():
            for user in users:
                await self._accounts.erase(user)
                await self._accounts.erasure_recorded(user)
            _log.warning("erased_again", count=len(users), reason="they had come back with a backup of the accounts")
        self._compared = True

    async def _record(self, user: UUID) -> None:
        """Have the erasure in the log. Raises `LogUnavailable`, `DatabaseUnavailable`."""
        event_id = derived_id(b"account erased", user.bytes)
        await self._log.append(AccountErased(event_id=event_id, producer=self._producer, recipient=user))
        await self._accounts.erasure_recorded(user)

    async def _tell(self, user: UUID) -> None:
        """Name what ended with the account, all that the log holds by now, so that its senders hear of it. Raises `Problem`
        where that is not known, `LogUnavailable`, `DatabaseUnavailable`, `ProjectionBehind`."""
        floors = await self._freshness.of(partition_for(user, self._log.partitions))
        after = START
        while entries := await self._reads.untold(user, after=after, limit=MAX_ENTRIES, floors=floors):
            fact = MessagesErased(event_id=new_id(), producer=self._producer, recipient=user, entries=tuple(entries))
            await self._log.append(fact)
            after = entries[-1].position
