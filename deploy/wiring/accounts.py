"""Accounts made by the operator: the API's own code and rules, straight on the database."""

from __future__ import annotations

import msgspec

from api.accounts import Accounts
from api.keys import KeyUnusable, MasterKey
from api.models import Account, NewAccount
from api.passwords import Passwords
from api.problems import Problem
from api.secrets import SecretsError, read_keys
from api.signup import SignUp
from deploy.errors import DeployError, Misconfigured, Refused
from projections.database import Database
from projections.errors import ProjectionsError


async def add_account(database_url: str, master_key: str, name: str, password: str) -> Account:
    """Commit a new account. Misconfigured (exit 2) where name, password or key will not do, Refused (1) where the name is
    taken or the master key is not this database's, DeployError (3) where PostgreSQL does not answer."""
    asked, master = _asked(name, password), master_of(master_key)
    try:
        async with Database(database_url) as database, Passwords() as passwords:
            accounts = Accounts(database)
            await _check_key(accounts, master)
            return await SignUp(accounts=accounts, passwords=passwords, master=master).make(asked)
    except Problem as problem:
        kind = Misconfigured if problem.code == "invalid_request" else Refused
        raise kind(f"{name}: {problem.detail} ({problem.code})") from problem
    except ProjectionsError as error:
        raise DeployError(str(error)) from error


def _asked(name: str, password: str) -> NewAccount:
    try:
        return msgspec.convert({"name": name, "password": password}, NewAccount)
    except msgspec.ValidationError as error:
        if "$.name" in str(error):
            rule = "1 to 63 of a-z, 0-9, dot, underscore and hyphen, the first a letter or digit"
            raise Misconfigured(f"{name!r} is no name for an account. Give {rule}") from error
        raise Misconfigured("the password must have 8 to 1024 bytes in UTF-8") from error


def master_of(text: str) -> MasterKey:
    """The master key of a setting's text. Misconfigured where it will not do."""
    try:
        return MasterKey(*read_keys(text, "master key"))
    except SecretsError as error:
        raise Misconfigured(f"RESTANTE_MASTER_KEY: {error}") from error


async def _check_key(accounts: Accounts, master: MasterKey) -> None:
    """An account whose key the API cannot open would never get a message, so a foreign master key is found out here."""
    known = await accounts.anybody()
    try:
        if known is not None:
            master.unwrap(known.user_id, known.wrapped_key)
    except KeyUnusable as error:
        raise Refused(
            "RESTANTE_MASTER_KEY is not the one of this database's accounts. Give the key that the API runs with"
        ) from error
