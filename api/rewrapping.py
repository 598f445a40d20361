"""Changing the master key: the key of every account under the first of the master keys, in small transactions.

May be killed at any point and begun again: what is under the first key is passed over. API processes go on meanwhile, as
long as they know both master keys, and so does erasure: a key that was destroyed stays destroyed.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from api.accounts import Accounts
from api.keys import KeyUnusable, MasterKey

AT_ONCE: Final = 500
_BEFORE_ALL: Final = UUID(int=0)


@dataclass(slots=True)
class Rewrapped:
    """How many accounts were looked at, how many keys were wrapped anew, and the accounts whose key none of the master keys
    opens: their bodies cannot be read with these keys, before or after."""

    accounts: int = 0
    changed: int = 0
    unusable: list[UUID] = field(default_factory=list)


async def rewrap(
    accounts: Accounts, master: MasterKey, told: Callable[[Rewrapped], None] = lambda so_far: None
) -> Rewrapped:
    """Go through all accounts until there is nothing left to do; `told` hears how far it is after each transaction. Raises
    `DatabaseUnavailable`."""
    changed = 0
    while True:
        passed = await _pass(accounts, master, changed, told)
        if passed.changed == changed:
            return passed
        changed = passed.changed


async def _pass(accounts: Accounts, master: MasterKey, changed: int, told: Callable[[Rewrapped], None]) -> Rewrapped:
    done, after = Rewrapped(changed=changed), _BEFORE_ALL
    while rows := await accounts.wrapped_keys(after, AT_ONCE):
        after = rows[-1][0]
        fresh = []
        for user_id, wrapped in rows:
            try:
                new = master.rewrapped(user_id, wrapped)
            except KeyUnusable:
                done.unusable.append(user_id)
                continue
            if new is not None:
                fresh.append((user_id, wrapped, new))
        done.accounts += len(rows)
        done.changed += await accounts.rewrap(fresh) if fresh else 0
        told(done)
    return done


async def under_older(accounts: Accounts, master: MasterKey) -> int:
    """How many accounts have their key under a master key that is not the first. Raises `DatabaseUnavailable`."""
    count, after = 0, _BEFORE_ALL
    while rows := await accounts.wrapped_keys(after, AT_ONCE):
        after = rows[-1][0]
        for user_id, wrapped in rows:
            with suppress(KeyUnusable):
                count += master.rewrapped(user_id, wrapped) is not None
    return count
