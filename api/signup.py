"""New accounts, by POST /accounts or from the command line: one set of rules."""

from api.accounts import Accounts
from api.ids import new_id
from api.keys import MasterKey
from api.models import Account, NewAccount
from api.passwords import Passwords, check_password
from api.problems import Problem


class SignUp:
    """Makes accounts. The key commits with the account, so no account is ever without one."""

    def __init__(self, *, accounts: Accounts, passwords: Passwords, master: MasterKey) -> None:
        self._accounts = accounts
        self._passwords = passwords
        self._master = master

    async def make(self, asked: NewAccount) -> Account:
        """Commit the account. Raises `Problem` invalid_request, name_taken or overloaded, and `DatabaseUnavailable`."""
        check_password(asked.password)
        user_id = new_id()
        made = not await self._accounts.taken(asked.name) and await self._accounts.create(
            user_id=user_id,
            name=asked.name,
            password_hash=await self._passwords.hash(asked.password),
            wrapped_key=self._master.make(user_id),
        )
        if not made:
            raise Problem("name_taken", "Names are given once and never again. Choose another.")
        return Account(user_id, asked.name)
