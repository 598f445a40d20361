"""Accounts that an outside OpenID provider keeps: its tokens are ours, an account is made when its owner first comes.

The provider says who it is; the client says on which device, in the header `Restante-Device` or beside the token in the
first frame. What was learned of a token is remembered as long as a token of our own would live, so a call costs a look into
a dictionary; then the database is asked again whether account and device are still there.

Ending a device's tokens has no generation to go by, since the provider writes none into them, and no two clocks to compare:
the device's row keeps when the newest token that it came with was issued, by the provider's clock, and what was issued up
to then is over. So does a removed device's row for its label.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from api.accounts import Accounts, OutsideRow
from api.calls import Answer, Call, answer
from api.ids import new_id
from api.keys import MasterKey
from api.models import NAME, Jwks
from api.outages import asking_accounts
from api.problems import Problem, invalid
from api.provider import Login, Provider
from api.registrations import Registrations
from api.tokens import REMEMBERED, DeviceLabel, Principal

OUTSIDE_SECONDS: Final = 86_400.0
"""For so long ends of tokens are remembered: a socket lives as long as its token, and the provider says how long."""

_LABEL_CHARACTERS: Final = 64
_NAME: Final = re.compile(NAME)
_LONGEST_NAME: Final = 63
_FIVE_MINUTES: Final = (b"cache-control", b"public, max-age=300")


@dataclass(frozen=True, slots=True)
class _Known:
    principal: Principal
    until: float


class OutsideTokens:
    """Recognises who comes with a token of the provider. `believed` is for how many seconds what was learned of one holds,
    `open_to_all` whether a subject without an account gets one; `clock` gives seconds since the epoch."""

    def __init__(
        self,
        *,
        provider: Provider,
        accounts: Accounts,
        master: MasterKey,
        registrations: Registrations,
        revoked: Callable[[Principal], bool],
        believed: float,
        open_to_all: bool,
        clock: Callable[[], float],
    ) -> None:
        self._provider = provider
        self._accounts = accounts
        self._master = master
        self._registrations = registrations
        self._revoked = revoked
        self._believed = believed
        self._open_to_all = open_to_all
        self._clock = clock
        self._known: dict[tuple[bytes, str], _Known] = {}

    async def recognise(self, token: str, device: DeviceLabel) -> Principal:
        """Who comes with this token on the device of this label. Raises `Problem`."""
        label = device()
        if label is None or not 1 <= len(label) <= _LABEL_CHARACTERS or not label.isprintable():
            raise invalid("Restante-Device", "say which device this is, in 1 to 64 printable characters")
        key = (hashlib.sha256(token.encode("utf-8", "replace")).digest(), label)
        known, now = self._known.get(key), self._clock()
        if known is None or known.until <= now:
            self._known.pop(key, None)
            login = await self._provider.login_of(token)
            with asking_accounts():
                principal = await self._introduced(login, label)
            known = _Known(principal, min(principal.expires_at, now + self._believed))
            self._remember(key, known)
        self.check(known.principal)
        return known.principal

    async def renewed(self, token: str, who: Principal) -> Principal:
        """The same account and device with another token. Raises `Problem`."""
        login = await self._provider.login_of(token)
        with asking_accounts():
            row = await self._accounts.outside(self._subject(login), None)
            if row is None or row.user_id != who.user:
                raise Problem("token_invalid", "A socket stays with its account and device. Connect anew for another.")
            generation = await self._accounts.token_shown(who.device, login.issued_at)
        if generation is None:
            raise _ended()
        return Principal(who.user, who.device, login.expires_at, generation)

    def check(self, who: Principal) -> None:
        """Raises `Problem` token_revoked where the device's tokens were ended since."""
        if self._revoked(who):
            raise _ended()

    async def _introduced(self, login: Login, label: str) -> Principal:
        subject = self._subject(login)
        row = await self._accounts.outside(subject, label) or await self._signed_up(login, subject, label)
        if row.erased:
            raise _erased()
        if row.ended_until is not None and login.issued_at <= row.ended_until:
            raise _ended()
        device_id = row.device_id or await self._accounts.device(row.user_id, label, new_id())
        if device_id is None:
            raise _erased()
        if not row.registered:
            await self._registrations.finish_of(row.user_id)
        generation = await self._accounts.token_shown(device_id, login.issued_at)
        if generation is None:
            raise _ended()
        return Principal(row.user_id, device_id, login.expires_at, generation)

    async def _signed_up(self, login: Login, subject: bytes, label: str) -> OutsideRow:
        """Make the account under the first name that is free, and read it: where two came at once, there is one."""
        if not self._open_to_all:
            raise Problem("signup_closed", "There is no account for this login, and none is made here. Ask the operator.")
        for name in (*names_for(login.name, subject), f"user-{new_id().hex}"):  # the last one, nobody can take before
            user_id = new_id()
            wrapped_key = self._master.make(user_id)
            await self._accounts.create_outside(user_id=user_id, name=name, subject=subject, wrapped_key=wrapped_key)
            row = await self._accounts.outside(subject, label)
            if row is not None:
                return row
        raise RuntimeError("no name was free for a login of the provider")

    def _subject(self, login: Login) -> bytes:
        issuer = self._provider.outside.issuer
        return hashlib.sha256(f"restante subject v1\0{issuer}\0{login.subject}".encode()).digest()

    def _remember(self, key: tuple[bytes, str], known: _Known) -> None:
        if len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[key] = known


class Elsewhere:
    """The calls about logging in where the provider does that."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def sign_up(self, call: Call) -> Answer:
        """POST /accounts."""
        raise self._elsewhere()

    async def log_in(self, call: Call) -> Answer:
        """POST /tokens."""
        raise self._elsewhere()

    async def refresh(self, call: Call) -> Answer:
        """POST /tokens/refresh."""
        raise self._elsewhere()

    async def public_keys(self, call: Call) -> Answer:
        """GET /.well-known/jwks.json."""
        return answer(Jwks(**self._provider.published()), headers=(_FIVE_MINUTES,))

    def _elsewhere(self) -> Problem:
        issuer = self._provider.outside.issuer
        said = f"Log in at {issuer}, and come with its token and the header Restante-Device. There is no sign-up here."
        return Problem("accounts_elsewhere", said)


def names_for(claimed: str | None, subject: bytes) -> list[str]:
    """Names to try, in this order: the claimed one in small letters where that is a name, then with a suffix that is the
    subject's own."""
    claimed = (claimed or "").lower()
    base, bare = (claimed, [claimed]) if _NAME.match(claimed) else ("user", [])
    suffixes = [subject.hex()[:length] for length in (8, 32)]
    return [*bare, *(f"{base[: _LONGEST_NAME - 1 - len(suffix)]}-{suffix}" for suffix in suffixes)]


def _ended() -> Problem:
    return Problem("token_revoked", "This device was logged out or removed. Get a new token from the provider.")


def _erased() -> Problem:
    return Problem("token_revoked", "The account of this login was erased, and does not come back.")
