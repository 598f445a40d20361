"""Who can receive: names and ids to accounts with their keys, remembered in this process, so that a message to a known
recipient needs no database."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final
from uuid import UUID

from api.accounts import AccountRow, Accounts
from api.keys import AccountKeys, MasterKey
from api.room import Room
from schemas.partitions import partition_for

REMEMBERED: Final = 20_000


class Recipient:
    """An account that can receive: where its facts go, what its bodies are sealed under, and the room in its mailbox once
    that was asked for."""

    __slots__ = ("keys", "name", "partition", "room", "user_id")

    def __init__(self, user_id: UUID, name: str, partition: int, keys: AccountKeys) -> None:
        self.user_id = user_id
        self.name = name
        self.partition = partition
        self.keys = keys
        self.room: Room | None = None


class Directory:
    """Looks accounts up, and remembers the `remembered` that were asked for last. An unknown name is asked for each time: it
    may be signed up by now. `erased` says whether an account is known to be gone, which what was just read may not know."""

    def __init__(
        self,
        accounts: Accounts,
        master: MasterKey,
        partitions: int,
        *,
        erased: Callable[[UUID], bool],
        remembered: int = REMEMBERED,
    ) -> None:
        self._accounts = accounts
        self._master = master
        self._partitions = partitions
        self._erased = erased
        self._remembered = remembered
        self._by_name: OrderedDict[str, Recipient] = OrderedDict()
        self._by_id: dict[UUID, Recipient] = {}

    def known(self, name: str) -> Recipient | None:
        """The recipient of this name, if remembered."""
        found = self._by_name.get(name)
        if found is not None:
            self._by_name.move_to_end(name)
        return found

    async def find(self, names: Iterable[str]) -> dict[str, Recipient]:
        """The recipients of these names; unknown names are left out. Raises `DatabaseUnavailable`, `KeyUnusable`."""
        found, missing = {}, []
        for name in dict.fromkeys(names):
            recipient = self.known(name)
            if recipient is None:
                missing.append(name)
            else:
                found[name] = recipient
        if missing:
            for row in await self._accounts.by_names(missing):
                if not self._erased(row.user_id):
                    found[row.name] = self._remember(row)
        return found

    async def keys_of(self, user_id: UUID) -> AccountKeys | None:
        """The keys of an account, by its id; None where it is erased."""
        recipient = self._by_id.get(user_id)
        if recipient is None:
            row = await self._accounts.by_id(user_id)
            recipient = self._remember(row) if row and not self._erased(user_id) else None
        return recipient.keys if recipient else None

    def forget(self, user_id: UUID) -> None:
        """The account is erased: nobody finds it here, and its keys go."""
        recipient = self._by_id.pop(user_id, None)
        if recipient is not None:
            self._by_name.pop(recipient.name, None)

    def _remember(self, row: AccountRow) -> Recipient:
        known = self._by_id.get(row.user_id)
        if known is not None:  # two calls asked at once; there is one account, and one room in its mailbox
            return known
        keys = self._master.unwrap(row.user_id, row.wrapped_key)
        recipient = Recipient(row.user_id, row.name, partition_for(row.user_id, self._partitions), keys)
        self._by_name[row.name] = recipient
        self._by_id[row.user_id] = recipient
        while len(self._by_name) > self._remembered:
            _, oldest = self._by_name.popitem(last=False)
            self._by_id.pop(oldest.user_id, None)
        return recipient
