"""The master key of a database's accounts, changed and looked at by the operator."""

from __future__ import annotations

from collections.abc import Callable

from api.accounts import Accounts
from api.rewrapping import Rewrapped, rewrap, under_older
from deploy.errors import DeployError
from deploy.wiring.accounts import master_of
from projections.database import Database
from projections.errors import ProjectionsError

Told = Callable[[int, int], None]
"""Hears how many accounts were passed, of how many."""


async def rewrap_accounts(database_url: str, master_key: str, told: Told) -> Rewrapped:
    """The key of every account under the first master key. Misconfigured (exit 2) where the keys will not do, DeployError
    (3) where PostgreSQL does not answer; what was done until then stays done."""
    master = master_of(master_key)
    try:
        async with Database(database_url) as database:
            accounts = Accounts(database)
            of_all = await accounts.keyed()
            return await rewrap(accounts, master, lambda so_far: told(so_far.accounts, of_all))
    except ProjectionsError as error:
        raise DeployError(f"{error}. Run this again: it goes on where it was") from error


async def accounts_under_older(database_url: str, master_key: str) -> int:
    """How many accounts need a master key that is not the first. Errors as above."""
    master = master_of(master_key)
    try:
        async with Database(database_url) as database:
            return await under_older(Accounts(database), master)
    except ProjectionsError as error:
        raise DeployError(str(error)) from error
