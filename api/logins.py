"""Signing up, logging in, staying logged in: POST /accounts, POST /tokens, POST /tokens/refresh, the public keys."""

import hashlib
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Final
from uuid import UUID

import msgspec

from api.accounts import Accounts, RefreshRow, add_token, end_family, shown_token, use_token
from api.calls import Answer, Call, answer
from api.ids import new_id
from api.limits import Limits, address_of
from api.models import Jwks, Login, NewAccount, Refresh, Tokens
from api.outages import asking_accounts
from api.passwords import Passwords, check_password
from api.problems import Problem, invalid
from api.registrations import Registrations
from api.removals import Removals
from api.signup import SignUp
from api.tokens import AccessTokens
from projections.database import Database

GRACE_SECONDS: Final = 60
"""How long a used refresh token may come again while its successor is unused: the answer was lost, or two tabs share it."""

SMALL_BODY: Final = 262_144
_KEYS_KEPT: Final = (b"cache-control", b"public, max-age=300")
_NEW_ACCOUNT = msgspec.json.Decoder(NewAccount)
_LOGIN = msgspec.json.Decoder(Login)
_REFRESH = msgspec.json.Decoder(Refresh)


class Logins:
    """The handlers. Without `sign_up` nobody signs up here. `clock` gives seconds since the epoch, `refresh_ttl` is seconds
    from a refresh token's last use."""

    def __init__(
        self,
        *,
        sign_up: SignUp | None,
        accounts: Accounts,
        database: Database,
        passwords: Passwords,
        tokens: AccessTokens,
        removals: Removals,
        registrations: Registrations,
        limits: Limits,
        refresh_ttl: float,
        clock: Callable[[], float],
    ) -> None:
        self._sign_up = sign_up
        self._accounts = accounts
        self._database = database
        self._passwords = passwords
        self._tokens = tokens
        self._removals = removals
        self._registrations = registrations
        self._limits = limits
        self._refresh_ttl = refresh_ttl
        self._clock = clock

    async def sign_up(self, call: Call) -> Answer:
        """POST /accounts."""
        if self._sign_up is None:
            raise Problem("signup_closed", "Accounts are made by the operator of this service. Ask them for one.")
        asked = await call.body(_NEW_ACCOUNT, SMALL_BODY)
        with asking_accounts():
            return answer(await self._sign_up.make(asked), 201)

    async def log_in(self, call: Call) -> Answer:
        """POST /tokens. The device is committed, then in the log, and only then its tokens are given."""
        asked = await call.body(_LOGIN, SMALL_BODY)
        check_password(asked.password)
        check_printable("device", asked.device)
        with asking_accounts():
            with self._limits.guess(asked.name, address_of(call.scope)):
                known = await self._accounts.credentials(asked.name)
                kept = known.password_hash if known else None
                matches = await self._passwords.matches(kept, asked.password)
                if known is None or kept is None or not matches:
                    raise _nobody()
            await self._keep_up_to_date(known.user_id, kept, asked.password)
            device_id = await self._accounts.device(known.user_id, asked.device, new_id())
            if device_id is None:
                raise _nobody()
            await self._registrations.finish_of(known.user_id)
            await self._removals.finish_of(known.user_id)
            return answer(await self._first_tokens(known.user_id, device_id))

    async def refresh(self, call: Call) -> Answer:
        """POST /tokens/refresh."""
        shown = _hash_of((await call.body(_REFRESH, SMALL_BODY)).refresh_token)
        refused: Problem | None
        with asking_accounts():
            async with self._database.transaction() as db:
                row = await shown_token(db, shown)
                if row is None:
                    raise Problem("token_invalid", "This refresh token was not issued here. Log in at POST /tokens.")
                refused = judge_refresh(row, self._clock())
                if refused is None:
                    successor = _new_refresh_token()
                    now = self._clock()
                    if not await use_token(db, shown, row.family_id, row.device_id, now):
                        raise _ended()
                    await add_token(db, row.family_id, _hash_of(successor), shown, now, now + self._refresh_ttl)
                elif refused.code == "token_reused":
                    await end_family(db, row.family_id)
        if refused is not None:
            raise refused
        return answer(self._given(row.user_id, row.device_id, row.generation, successor))

    async def public_keys(self, call: Call) -> Answer:
        """GET /.well-known/jwks.json."""
        return answer(Jwks(**self._tokens.published()), headers=(_KEYS_KEPT,))

    async def _keep_up_to_date(self, user_id: UUID, kept: str, password: str) -> None:
        """The one moment at which a password can be hashed as today's parameters say: it is here, and it is right. Where too
        many others wait for a hash, the next login does it."""
        if self._passwords.outdated(kept):
            with suppress(Problem):
                await self._accounts.rehashed(user_id, kept, await self._passwords.hash(password))

    async def _first_tokens(self, user_id: UUID, device_id: UUID) -> Tokens:
        token, now = _new_refresh_token(), self._clock()
        expires = now + self._refresh_ttl
        generation = await self._accounts.begin_family(new_id(), device_id, _hash_of(token), now, expires)
        if generation is None:
            raise Problem("token_revoked", "The device was removed while it logged in. Log in again.")
        return self._given(user_id, device_id, generation, token)

    def _given(self, user_id: UUID, device_id: UUID, generation: int, refresh_token: str) -> Tokens:
        return Tokens(
            access_token=self._tokens.issue(user_id, device_id, generation),
            expires_in=self._tokens.ttl,
            refresh_token=refresh_token,
            user_id=user_id,
            device_id=device_id,
        )


def judge_refresh(row: RefreshRow, now: float) -> Problem | None:
    """Why a refresh token is refused, or None where it is good. token_reused must end the family."""
    again = row.used is not None and (row.followed or now - row.used > GRACE_SECONDS)
    if again:
        return Problem("token_reused", "This refresh token was used before, so its whole login has ended. Log in again.")
    if row.ended or row.removed:
        return _ended()
    if row.expires <= now:
        return Problem("token_expired", "This refresh token has expired. Log in again.")
    return None


def _nobody() -> Problem:
    return Problem("bad_credentials", "There is no account of this name with this password.")


def _ended() -> Problem:
    return Problem("token_revoked", "This login has ended. Log in again.")


def check_printable(field: str, text: str) -> None:
    """No control characters, no separators but the space. Raises `Problem`."""
    if not text.isprintable():
        raise invalid(field, "must have printable characters only")


def _new_refresh_token() -> str:
    return secrets.token_urlsafe(32)


def _hash_of(refresh_token: str) -> bytes:
    """Plain SHA-256 will do: the token has 256 random bits."""
    return hashlib.sha256(refresh_token.encode()).digest()
