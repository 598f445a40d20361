"""Accounts, devices and refresh tokens in PostgreSQL: the truth about who there is. Statements are in `sql/accounts.sql`."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from projections.database import Connection, Database, load_queries

_SQL = load_queries("api", "accounts.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a login is checked against."""

    user_id: UUID
    password_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRow:
    """An account that can receive."""

    user_id: UUID
    name: str
    wrapped_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshRow:
    """A refresh token and its surroundings. `used` is when it was first shown, `followed` says that a successor was used."""

    family_id: UUID
    ended: bool
    device_id: UUID
    user_id: UUID
    removed: bool
    expires: float
    used: float | None
    followed: bool


class Accounts:
    """Named statements with types. Every call raises `DatabaseUnavailable` where PostgreSQL is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, *, user_id: UUID, name: str, password_hash: str, wrapped_key: bytes) -> bool:
        """Commit a new account with its key; False where the name is taken."""
        rows = await self._database.tuples(
            _SQL["create_account"], user_id=user_id, name=name, password_hash=password_hash, wrapped_key=wrapped_key
        )
        return bool(rows)

    async def taken(self, name: str) -> bool:
        """Whether a name was ever given."""
        return bool((await self._database.tuples(_SQL["name_taken"], name=name))[0][0])

    async def credentials(self, name: str) -> Credentials | None:
        """What a login under this name is checked against."""
        return await self._database.one(Credentials, _SQL["login"], name=name)

    async def by_names(self, names: Sequence[str]) -> list[AccountRow]:
        """The accounts of these names; unknown ones are left out."""
        return await self._database.all(AccountRow, _SQL["recipients_by_name"], names=list(names))

    async def by_id(self, user_id: UUID) -> AccountRow | None:
        """The account with this id."""
        return await self._database.one(AccountRow, _SQL["recipient_by_id"], user_id=user_id)

    async def anybody(self) -> AccountRow | None:
        """Some account that can receive, if there is one: enough to try a master key on."""
        return await self._database.one(AccountRow, _SQL["any_recipient"])

    async def device(self, user_id: UUID, label: str, new_id: UUID) -> UUID:
        """The account's device of this label, committed; `new_id` becomes its id where there is none yet."""
        await self._database.run(_SQL["create_device"], device_id=new_id, user_id=user_id, label=label)
        rows = await self._database.tuples(_SQL["device_by_label"], user_id=user_id, label=label)
        return rows[0][0]  # type: ignore[no-any-return]

    async def unregistered(self, user_id: UUID) -> list[UUID]:
        """The account's devices whose registration has to be appended (again: a repeat does no harm)."""
        return [row[0] for row in await self._database.tuples(_SQL["unregistered_devices"], user_id=user_id)]

    async def registered(self, device_id: UUID) -> None:
        """Remember that the log holds the device's registration."""
        await self._database.run(_SQL["device_registered"], device_id=device_id)

    async def begin_family(self, family_id: UUID, device_id: UUID, token_hash: bytes, now: float, expires: float) -> bool:
        """A login's first refresh token; False where the device was removed in between."""
        async with self._database.transaction() as db:
            if not await db.tuples(_SQL["create_family"], family_id=family_id, device_id=device_id):
                return False
            await add_token(db, family_id, token_hash, None, now, expires)
            await db.run(_SQL["device_seen"], device_id=device_id)
            return True


async def shown_token(db: Connection, token_hash: bytes) -> RefreshRow | None:
    """The refresh token with this hash. Without a lock: one shown twice at once gets two pairs, by the grace."""
    return await db.one(RefreshRow, _SQL["refresh_token"], token_hash=token_hash)


async def add_token(
    db: Connection, family_id: UUID, token_hash: bytes, predecessor: bytes | None, now: float, expires: float
) -> None:
    """Keep a new refresh token. Times are seconds since 1970."""
    await db.run(
        _SQL["create_token"],
        token_hash=token_hash,
        family_id=family_id,
        predecessor=predecessor,
        now=now,
        expires=expires,
    )


async def use_token(db: Connection, token_hash: bytes, family_id: UUID, device_id: UUID, now: float) -> None:
    """A refresh token was shown; what is too old to matter goes."""
    await db.run(_SQL["use_token"], token_hash=token_hash, now=now)
    await db.run(_SQL["forget_expired"], family_id=family_id, now=now)
    await db.run(_SQL["device_seen"], device_id=device_id)


async def end_family(db: Connection, family_id: UUID) -> None:
    """None of the family's refresh tokens is good any more."""
    await db.run(_SQL["end_family"], family_id=family_id)
