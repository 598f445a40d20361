"""Who one is: GET /accounts/me."""

from api.accounts import Accounts
from api.calls import Answer, Call, answer
from api.models import Me
from api.outages import asking_accounts
from api.problems import Problem


class MyAccount:
    """The handler."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def shown(self, call: Call) -> Answer:
        """GET /accounts/me."""
        who = call.principal
        with asking_accounts():
            row = await self._accounts.by_id(who.user)
        if row is None:
            raise Problem("token_revoked", "The account of this token was erased.")
        return answer(Me(row.user_id, row.name, who.device))
