"""Keys change under running processes, and no client notices: not even between processes that are a step apart."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import jwt
import pytest

from api.accounts import Accounts
from api.keys import KeyUnusable, MasterKey
from api.rewrapping import Rewrapped, rewrap, under_older
from api.secrets import Secrets, make_key, make_token_key
from tests.edge import Edge, Person, running

pytestmark = pytest.mark.anyio
TOKEN = [make_token_key() for _ in range(2)]
CURSOR = [make_key() for _ in range(2)]
MASTER = [make_key() for _ in range(2)]
OLD, NEW = 0, 1


def keys(*order: int) -> Secrets:
    """The keys of one step: old ones, new ones, both in some order."""
    return Secrets.read(
        token_key="\n".join(TOKEN[each] for each in order),
        cursor_keys=",".join(CURSOR[each] for each in order),
        master_key=",".join(MASTER[each] for each in order),
    )


def nobody_listens(so_far: Rewrapped) -> None:
    return None


def kid(person: Person) -> str:
    return str(jwt.get_unverified_header(person.tokens["access_token"])["kid"])


async def assert_all_is_well(people: Sequence[Person], cursors: Sequence[tuple[Person, str]], edges: Sequence[Edge]) -> None:
    """Everybody's token and every cursor is good in both processes, and whatever one stores the other shows."""
    for edge in edges:
        for person in people:
            here = Person(edge, person.name, person.tokens)
            assert (await here.send(here, f"for {person.name}")).status_code == 202
            assert f"for {person.name}" in await here.bodies()
        for person, cursor in cursors:
            page = await Person(edge, person.name, person.tokens).sync(cursor=cursor)
            assert page["messages"]
        published = {key["kid"] for key in (await edge.client.get("/.well-known/jwks.json")).json()["keys"]}
        assert {kid(person) for person in people} <= published


async def test_every_step_of_a_rotation_works_between_two_processes_that_are_one_step_apart(database_url: str) -> None:
    async with (
        running(database_url, secrets=keys(OLD)) as one,
        running(database_url, log=one.log, secrets=keys(OLD)) as other,
    ):
        people, cursors = [], []
        for number, step in enumerate((keys(OLD), keys(OLD, NEW), keys(NEW, OLD))):
            for edge in (one, other):
                edge.service.use(step)
                person = await edge.person(f"p{number}{'ab'[edge is one]}")
                await person.send(person, "first")
                cursors.append((person, (await person.sync())["cursor"]))
                people.append(person)
                await assert_all_is_well(people, cursors, (one, other))
        assert len({kid(person) for person in people}) == 2
        master = MasterKey(*keys(NEW, OLD).master_keys)
        assert await under_older(Accounts(one.database), master) == 4
        assert (await rewrap(Accounts(one.database), master, nobody_listens)).changed == 4
        # Access tokens of the old key have expired when it goes; cursors are good for ever, and so are their keys.
        last = Secrets.read(token_key=TOKEN[NEW], cursor_keys=f"{CURSOR[NEW]},{CURSOR[OLD]}", master_key=MASTER[NEW])
        async with running(database_url, log=one.log, secrets=last) as fresh:
            fresher = []
            for person in people:
                given = await fresh.client.post("/tokens/refresh", json={"refresh_token": person.tokens["refresh_token"]})
                assert given.status_code == 200
                fresher.append(Person(fresh, person.name, given.json()))
            owned = [(new, cursor) for new, (_, cursor) in zip(fresher, cursors, strict=True)]
            await assert_all_is_well(fresher, owned, (one, fresh))
            gone = Person(fresh, people[0].name, people[0].tokens)
            assert (await gone.get("/messages/sync")).json()["code"] == "token_invalid"


async def accounts_made(edge: Edge, master: MasterKey, count: int) -> list[UUID]:
    ids = [UUID(int=number + 1) for number in range(count)]
    for user_id in ids:
        await Accounts(edge.database).create(
            user_id=user_id, name=f"n{user_id.int}", password_hash="x", wrapped_key=master.make(user_id)
        )
    return ids


class Killed(BaseException):
    """As kill -9 would: nothing after it happens."""


async def test_a_rewrapping_that_is_killed_goes_on_where_it_was(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.rewrapping.AT_ONCE", 10)
    old, ring, new = (MasterKey(*keys(*order).master_keys) for order in ((OLD,), (NEW, OLD), (NEW,)))
    accounts, told = Accounts(edge.database), []
    ids = await accounts_made(edge, old, 25)
    before = {user_id: old.unwrap(user_id, wrapped) for user_id, wrapped in await accounts.wrapped_keys(UUID(int=0), 100)}

    def kill(so_far: Rewrapped) -> None:
        raise Killed

    with pytest.raises(Killed):
        await rewrap(accounts, ring, kill)
    assert await under_older(accounts, ring) == 15
    done = await rewrap(accounts, ring, lambda so_far: told.append(so_far.accounts))
    assert (done.accounts, done.changed, done.unusable) == (25, 15, [])
    assert told == [10, 20, 25, 10, 20, 25], "the second time there was nothing left"
    after = dict(await accounts.wrapped_keys(UUID(int=0), 100))
    assert sorted(after) == ids
    for user_id, wrapped in after.items():
        assert new.unwrap(user_id, wrapped).mac.digest() == before[user_id].mac.digest(), "the same key under another"
        with pytest.raises(KeyUnusable):
            old.unwrap(user_id, wrapped)


async def test_a_rewrapping_never_brings_a_destroyed_key_back(edge: Edge) -> None:
    old, ring = MasterKey(*keys(OLD).master_keys), MasterKey(*keys(NEW, OLD).master_keys)
    accounts = Accounts(edge.database)
    (erased,) = await accounts_made(edge, old, 1)
    ((_, wrapped),) = await accounts.wrapped_keys(UUID(int=0), 100)
    fresh = ring.rewrapped(erased, wrapped)
    assert fresh is not None
    await edge.database.run(b"UPDATE accounts.accounts SET wrapped_key = NULL, erased_at = now()")
    assert await accounts.rewrap([(erased, wrapped, fresh)]) == 0
    assert await edge.database.tuples(b"SELECT wrapped_key FROM accounts.accounts") == [(None,)]


async def test_keys_that_nothing_opens_are_named_and_hold_up_nobody(edge: Edge) -> None:
    old, ring = MasterKey(*keys(OLD).master_keys), MasterKey(*keys(NEW, OLD).master_keys)
    ids = await accounts_made(edge, old, 3)
    stranger = MasterKey(b"?" * 32).make(ids[1])
    await edge.database.run(
        b"UPDATE accounts.accounts SET wrapped_key = %(key)s WHERE user_id = %(id)s", key=stranger, id=ids[1]
    )
    done = await rewrap(Accounts(edge.database), ring, nobody_listens)
    assert (done.accounts, done.changed, done.unusable) == (3, 2, [ids[1]])
    assert await under_older(Accounts(edge.database), ring) == 0
