"""Accounts, devices and refresh tokens in PostgreSQL: the truth about who there is. Statements are in `sql/accounts.sql`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from projections.database import Connection, Database, load_queries

_SQL = load_queries("api", "accounts.sql")

REVOKED: Final = "restante_revoked"
"""The channel that says whose tokens ended: payloads are `<device id> <generation>`, and `<user id> erased` for accounts."""

ERASED: Final = "erased"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a login is checked against. Without a hash nobody logs in: an outside provider keeps the account."""

    user_id: UUID
    password_hash: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRow:
    """An account that can receive."""

    user_id: UUID
    name: str
    wrapped_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideRow:
    """The account of a subject of an outside provider, and its device of a label if there is one (`registered`: the log has
    it). Tokens that were issued up to `ended_until` (the provider's clock, seconds) are over for that label."""

    user_id: UUID
    erased: bool
    device_id: UUID | None
    registered: bool
    ended_until: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshRow:
    """A refresh token and its surroundings. `used` is when it was first shown, `followed` says that a successor was used;
    `generation` is what the device's tokens had when this was read."""

    family_id: UUID
    ended: bool
    device_id: UUID
    user_id: UUID
    generation: int
    removed: bool
    expires: float
    used: float | None
    followed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """A device as its account sees it. Times in milliseconds; None where it never got tokens."""

    device_id: UUID
    label: str
    created_at_ms: int
    last_seen_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedDevice:
    """A device that is gone from its account: does the log hold its registration, and (`recorded`) its removal?"""

    device_id: UUID
    user_id: UUID
    registered: bool
    recorded: bool = False


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

    async def create_outside(self, *, user_id: UUID, name: str, subject: bytes, wrapped_key: bytes) -> None:
        """Commit a new account with its key for a subject of an outside provider, unless the name or the subject has one."""
        await self._database.run(
            _SQL["create_outside"], user_id=user_id, name=name, subject=subject, wrapped_key=wrapped_key
        )

    async def outside(self, subject: bytes, label: str | None) -> OutsideRow | None:
        """The account of a subject of an outside provider, erased or not, with its device of this label."""
        return await self._database.one(OutsideRow, _SQL["outside"], subject=subject, label=label)

    async def token_shown(self, device_id: UUID, issued_at: int) -> int | None:
        """A device came with an outside token. Gives the generation that its tokens have; None where this one is over."""
        rows = await self._database.tuples(_SQL["token_shown"], device_id=device_id, issued_at=issued_at)
        return rows[0][0] if rows else None

    async def taken(self, name: str) -> bool:
        """Whether a name was ever given."""
        return bool((await self._database.tuples(_SQL["name_taken"], name=name))[0][0])

    async def credentials(self, name: str) -> Credentials | None:
        """What a login under this name is checked against."""
        return await self._database.one(Credentials, _SQL["login"], name=name)

    async def rehashed(self, user_id: UUID, old: str, new: str) -> None:
        """Keep another hash of the same password, unless the password was changed since."""
        await self._database.run(_SQL["rehash"], user_id=user_id, old=old, new=new)

    async def by_names(self, names: Sequence[str]) -> list[AccountRow]:
        """The accounts of these names; unknown ones are left out."""
        return await self._database.all(AccountRow, _SQL["recipients_by_name"], names=list(names))

    async def by_id(self, user_id: UUID) -> AccountRow | None:
        """The account with this id."""
        return await self._database.one(AccountRow, _SQL["recipient_by_id"], user_id=user_id)

    async def anybody(self) -> AccountRow | None:
        """Some account that can receive, if there is one: enough to try a master key on."""
        return await self._database.one(AccountRow, _SQL["any_recipient"])

    async def keyed(self) -> int:
        """How many accounts have a key."""
        return int((await self._database.tuples(_SQL["count_keys"]))[0][0])

    async def wrapped_keys(self, after: UUID, limit: int) -> list[tuple[UUID, bytes]]:
        """The wrapped keys of the next accounts above an id, in the order of their ids."""
        return await self._database.tuples(_SQL["wrapped_keys"], after=after, limit=limit)

    async def rewrap(self, keys: Sequence[tuple[UUID, bytes, bytes]]) -> int:
        """Put new wrapped keys in the place of the old ones: (account, old, new). One that is another by now, or destroyed,
        stays as it is. Gives how many were put."""
        users, old, new = ([row[column] for row in keys] for column in range(3))
        return await self._database.run(_SQL["rewrap"], user_ids=users, old=old, new=new)

    async def device(self, user_id: UUID, label: str, new_id: UUID) -> UUID | None:
        """The account's device of this label, committed; `new_id` becomes its id where there is none yet. None where the
        account is erased."""
        await self._database.run(_SQL["create_device"], device_id=new_id, user_id=user_id, label=label)
        rows = await self._database.tuples(_SQL["device_by_label"], user_id=user_id, label=label)
        return rows[0][0] if rows else None

    async def unregistered(self, user_id: UUID) -> list[UUID]:
        """The account's devices whose registration has to be appended (again: a repeat does no harm)."""
        return [row[0] for row in await self._database.tuples(_SQL["unregistered_devices"], user_id=user_id)]

    async def registered(self, device_id: UUID) -> None:
        """Remember that the log holds the device's registration."""
        await self._database.run(_SQL["device_registered"], device_id=device_id)

    async def devices(self, user_id: UUID) -> list[DeviceRow]:
        """The account's devices, oldest first."""
        return await self._database.all(DeviceRow, _SQL["devices"], user_id=user_id)

    async def remove_device(self, user_id: UUID, device_id: UUID) -> tuple[RemovedDevice, int | None] | None:
        """Take a device off its account, and end its tokens: the generation below which they ended, or None where it was
        removed before. None at all where the account has no such device."""
        async with self._database.transaction() as db:
            generation = None
            if await db.run(_SQL["remove_device"], device_id=device_id, user_id=user_id):
                generation = await _end_tokens(db, device_id)
            removed = await db.one(RemovedDevice, _SQL["removed_device"], device_id=device_id, user_id=user_id)
            return (removed, generation) if removed else None

    async def unfinished_removals(self, user_id: UUID | None, *, older_than: float = 0.0) -> list[RemovedDevice]:
        """Devices whose removal has to be appended (again: a repeat does no harm): those of an account, or, without one,
        some that were removed more than `older_than` seconds ago."""
        return await self._database.all(RemovedDevice, _SQL["unfinished_removals"], user_id=user_id, seconds=older_than)

    async def removal_recorded(self, device_id: UUID) -> None:
        """Remember that the log holds the device's removal."""
        await self._database.run(_SQL["removal_recorded"], device_id=device_id)

    async def revoke(self, device_id: UUID) -> int:
        """End a device's tokens of both kinds; the generation below which its access tokens ended."""
        async with self._database.transaction() as db:
            return await _end_tokens(db, device_id)

    async def erase(self, user_id: UUID) -> dict[UUID, int]:
        """End an account, in one transaction: marked, without key, password and tokens, its devices without labels.
        Gives the devices, each with the generation below which its tokens ended; none where it was erased before."""
        async with self._database.transaction() as db:
            if not await db.run(_SQL["erase"], user_id=user_id):
                return {}
            ended = dict(await db.tuples(_SQL["erase_devices"], user_id=user_id))
            await db.run(_SQL["erase_families"], user_id=user_id)
            for payload in (f"{user_id} {ERASED}", *(f"{device} {generation}" for device, generation in ended.items())):
                await db.tuples(_SQL["announce"], channel=REVOKED, payload=payload)
            return ended

    async def unfinished_erasures(self, *, older_than: float = 0.0) -> list[UUID]:
        """Some accounts, erased more than `older_than` seconds ago, whose erasure has to be appended (again: a repeat does
        no harm)."""
        return [row[0] for row in await self._database.tuples(_SQL["unfinished_erasures"], seconds=older_than)]

    async def erasure_recorded(self, user_id: UUID) -> None:
        """Remember that the log holds the account's erasure."""
        await self._database.run(_SQL["erasure_recorded"], user_id=user_id)

    async def seen(self, times: Mapping[UUID, float]) -> None:
        """When devices were last seen, in seconds since 1970. An earlier time changes nothing."""
        await self._database.run(_SQL["devices_seen"], device_ids=list(times), times=list(times.values()))

    async def begin_family(
        self, family_id: UUID, device_id: UUID, token_hash: bytes, now: float, expires: float
    ) -> int | None:
        """A login's first refresh token. Gives the generation of the device's access tokens; None where the device was
        removed in between."""
        async with self._database.transaction() as db:
            present = await db.tuples(_SQL["present_device"], device_id=device_id, now=now)
            if not present:
                return None
            await db.run(_SQL["create_family"], family_id=family_id, device_id=device_id)
            await add_token(db, family_id, token_hash, None, now, expires)
            generation: int = present[0][0]
            return generation


async def _end_tokens(db: Connection, device_id: UUID) -> int:
    ((generation,),) = await db.tuples(_SQL["revoke_tokens"], device_id=device_id)
    await db.run(_SQL["end_families"], device_id=device_id)
    await db.tuples(_SQL["announce"], channel=REVOKED, payload=f"{device_id} {generation}")
    return generation  # type: ignore[no-any-return]


async def revoked(db: Connection, seconds: float) -> list[tuple[UUID, int, float]]:
    """The devices whose tokens ended within the last `seconds`: id, generation, and how many seconds ago."""
    return await db.tuples(_SQL["revoked"], seconds=seconds)


async def erased(db: Connection, seconds: float) -> list[tuple[UUID, float]]:
    """The accounts that were erased within the last `seconds`: id, and how many seconds ago."""
    return await db.tuples(_SQL["erased"], seconds=seconds)


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


async def use_token(db: Connection, token_hash: bytes, family_id: UUID, device_id: UUID, now: float) -> bool:
    """A refresh token was shown; what is too old to matter goes. False where its device or account has gone meanwhile."""
    if not await db.tuples(_SQL["present_device"], device_id=device_id, now=now):
        return False
    await db.run(_SQL["use_token"], token_hash=token_hash, now=now)
    await db.run(_SQL["forget_expired"], family_id=family_id, now=now)
    return True


async def end_family(db: Connection, family_id: UUID) -> None:
    """None of the family's refresh tokens is good any more."""
    await db.run(_SQL["end_family"], family_id=family_id)
