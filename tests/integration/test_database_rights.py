"""Least privilege in PostgreSQL: what each role may, may not, and does not see; and that the grants make it so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest

from api.accounts import Accounts
from projections.apply import apply
from projections.database import Database
from projections.migrate import make_place, migrate
from projections.places import account_named
from projections.presence import Presence, PresenceReads
from projections.reads import START, Reads
from projections.rights import SCHEMAS
from projections.roles import ALL_ROLES, RolesRefused, find_differences, make_equal
from schemas.principals import Principal
from schemas.topics import LIFECYCLE
from tests.builders import (
    ALICE,
    BOB,
    LAPTOP,
    OTHER_SESSION,
    PHONE,
    an_id,
    attempted,
    closed,
    delivered,
    entry,
    erased,
    log_of,
    opened,
    read,
    registered,
    seen,
    stored,
)

PASSWORD = "only-for-tests"
PASSWORDS = {role: PASSWORD for role in ALL_ROLES}
CAROL = an_id("acct", 77)


def as_role(url: str, role: Principal, password: str = PASSWORD) -> str:
    """The same database, as one of our roles."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{role}:{password}@{parts.netloc.rpartition('@')[2]}").geturl()


@pytest.fixture
def url(database_url: str) -> str:
    """A database with everything in it, and all rights given. Roles are the server's, so they stay for the next test."""
    asyncio.run(make_equal(database_url, PASSWORDS))
    fill(database_url)
    return database_url


def fill(url: str) -> None:
    """Alice writes to Bob (1 is read, 2 pushed in vain, 3 waits, 5 owed to the phone) and Bob to Alice; Carol to Bob."""
    story = log_of(
        registered(PHONE),
        registered(LAPTOP, event_id=an_id("ev", 8001)),
        opened(),
        stored(1),
        attempted(1, 3, seen(epoch=2)),
        closed(),
        delivered(entry(1, 3), session_id=OTHER_SESSION),
        delivered(entry(1, 3), device=LAPTOP),
        read(entry(1, 3)),
        stored(2),
        stored(3),
        stored(4, recipient=ALICE, sender=BOB),
        stored(5),
        delivered(entry(5, 12), device=LAPTOP),
        stored(6, sender=CAROL),
    )

    async def main() -> None:
        async with Database(url) as database, database.transaction() as transaction:
            await apply(transaction, story)
            for user, name in ((ALICE, "alice"), (BOB, "bob"), (CAROL, "carol")):
                await transaction.run(
                    b"INSERT INTO accounts.accounts (user_id, name, password_hash, wrapped_key)"
                    b" VALUES (%(user)s, %(name)s, 'x', 'key')",
                    user=user,
                    name=name,
                )
            await transaction.run(
                b"INSERT INTO accounts.devices (device_id, user_id, label) VALUES (%(device)s, %(user)s, 'phone')",
                device=PHONE,
                user=BOB,
            )
            await transaction.run(
                b"INSERT INTO receipts VALUES (%(user)s, 0, %(id)s, %(to)s, 'Read', 1)",
                user=ALICE,
                id=an_id("msg", 1),
                to=BOB,
            )

    asyncio.run(main())


def ask(url: str, statement: str, *, reader: UUID | None = None) -> list[tuple[Any, ...]]:
    """One statement, where it matters after saying whose rows are read."""
    with psycopg.connect(url, options="-c search_path=projection") as connection:
        if reader:
            connection.execute("SELECT set_config('restante.reader', %s, true)", [str(reader)])
        return connection.execute(statement.encode()).fetchall()


@contextmanager
def refused() -> Iterator[None]:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        yield


def test_rights_are_given_once_and_drift_is_found_and_mended(url: str) -> None:
    assert asyncio.run(find_differences(url)) == []
    assert asyncio.run(make_equal(url, {})) == []
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("GRANT UPDATE ON projection.messages TO restante_api")
        connection.execute("GRANT SELECT ON accounts.accounts TO PUBLIC")
        connection.execute("REVOKE INSERT ON projection.mailbox FROM restante_projector")
        connection.execute("ALTER TABLE projection.mailbox DISABLE ROW LEVEL SECURITY")
        connection.execute("CREATE POLICY all_for_all ON projection.messages USING (true)")
        connection.execute("ALTER TABLE projection.owed OWNER TO CURRENT_USER")
        connection.execute("GRANT pg_read_all_data TO restante_auditor")
        connection.execute("ALTER ROLE restante_projector BYPASSRLS")
    expected = [
        "missing: restante_admin owns table projection.owed",
        "too much: restante_projector: powers over the whole server",
        "too much: restante_auditor: member of pg_read_all_data",
        "missing: restante_projector: INSERT on projection.mailbox",
        "missing: rows of projection.mailbox by policy",
        "too much: restante_api: UPDATE on projection.messages",
        "too much: everybody: SELECT on accounts.accounts",
        "too much: policy all_for_all on projection.messages",
    ]
    assert sorted(asyncio.run(find_differences(url))) == sorted(expected)
    assert len(asyncio.run(make_equal(url, {}))) == len(expected)
    assert asyncio.run(find_differences(url)) == []


def test_an_admin_without_other_powers_migrates_and_everybody_has_his_rights(empty_database_url: str) -> None:
    asyncio.run(make_equal(empty_database_url, PASSWORDS))
    admin = as_role(empty_database_url, Principal.ADMIN)
    assert asyncio.run(migrate(admin))
    assert asyncio.run(find_differences(empty_database_url)) == []

    async def second_place() -> None:
        async with await psycopg.AsyncConnection.connect(admin) as connection:
            await make_place(connection, "projection_2")

    asyncio.run(second_place())
    assert asyncio.run(find_differences(empty_database_url)) == []
    with refused():
        asyncio.run(_refused_grants(admin))


async def _refused_grants(admin: str) -> None:
    try:
        await make_equal(admin, PASSWORDS)
    except RolesRefused as error:
        assert "superuser" in str(error)
        raise error.__cause__ or error from None


def test_the_apis_role_erases_accounts_and_knows_who_has_yet_to_be_told(url: str) -> None:
    async def main() -> None:
        async with Database(url) as owner, owner.transaction() as transaction:
            await apply(transaction, log_of(*[registered()] * 20, erased())[-1:])
        async with Database(as_role(url, Principal.API)) as database:
            accounts, reads = Accounts(database), Reads(database)
            assert await reads.erased_and_back() == [BOB]
            assert await accounts.erase(BOB) == {PHONE: 1}
            assert await reads.erased_and_back() == []
            assert await accounts.unfinished_erasures() == [BOB]
            await accounts.erasure_recorded(BOB)
            assert await accounts.unfinished_erasures() == []
            assert await reads.untold_accounts() == [BOB]
            left = await reads.untold(BOB, after=START, limit=10)
            assert [found.message_id for found in left] == [an_id("msg", number) for number in (2, 3, 6)]

    asyncio.run(main())


def test_every_table_has_a_row(url: str) -> None:
    found = ask(url, f"SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ({str(list(SCHEMAS))[1:-1]})")
    there = {(schema, table) for schema, table in found}
    assert there == {(schema, table.name) for schema, tables in SCHEMAS.items() for table in tables if schema[-1] != "2"}


REFUSED = (
    (Principal.PROJECTOR, "SELECT wrapped_key FROM accounts.accounts"),
    (Principal.PROJECTOR, "SELECT name FROM accounts.accounts"),
    (Principal.PROJECTOR, "DELETE FROM messages"),
    (Principal.API, "INSERT INTO receipts SELECT * FROM receipts"),
    (Principal.API, "UPDATE offsets SET next_offset = 0"),
    (Principal.API, "DELETE FROM mailbox"),
    (Principal.API, "DELETE FROM accounts.accounts"),
    (Principal.API, "ALTER TABLE mailbox DISABLE ROW LEVEL SECURITY"),
    (Principal.API, "CREATE TABLE projection.mine (a integer)"),
    (Principal.API, "CREATE TEMPORARY TABLE mine (a integer)"),
    (Principal.API, "SET ROLE restante_projector"),
    (Principal.AUDITOR, "SELECT password_hash FROM accounts.accounts"),
    (Principal.AUDITOR, "SELECT token_hash FROM accounts.refresh_tokens"),
    (Principal.AUDITOR, "DELETE FROM mailbox"),
    (Principal.NOTARY, "SELECT * FROM messages"),
    (Principal.NOTARY, "SELECT last_event_id FROM offsets"),
    (Principal.ADMIN, "CREATE ROLE another SUPERUSER"),
)


def test_refused(url: str) -> None:
    done = []
    for role, statement in REFUSED:
        try:
            ask(as_role(url, role), statement)
            done.append((role, statement))
        except psycopg.errors.InsufficientPrivilege:
            continue
    assert done == []


def test_a_wrong_query_of_the_api_sees_only_rows_of_the_account_it_reads_for(url: str) -> None:
    api = as_role(url, Principal.API)
    everything = {table: len(ask(url, f"SELECT * FROM {table}")) for table in _by_policy()}
    assert all(everything[table] for table in everything.keys() - {"repeats", "erased"}), everything
    for table in _by_policy():
        assert ask(api, f"SELECT * FROM {table}") == [], "nobody is named"
    assert {row[0] for row in ask(api, "SELECT account FROM mailbox", reader=ALICE)} == {ALICE}
    assert ask(api, "SELECT * FROM owed", reader=ALICE) == []
    assert len(ask(api, "SELECT * FROM owed", reader=BOB)) == 1
    assert {row[0] for row in ask(api, "SELECT sender FROM messages", reader=CAROL)} == {CAROL}
    assert len(ask(api, "SELECT * FROM deliveries", reader=ALICE)) == everything["deliveries"], "she has sent them"
    assert ask(api, "SELECT * FROM deliveries", reader=CAROL) == []
    assert ask(api, "SELECT * FROM receipts", reader=BOB) == []
    for role in (Principal.PROJECTOR, Principal.AUDITOR):
        for table, rows in everything.items():
            assert len(ask(as_role(url, role), f"SELECT * FROM {table}")) == rows


def test_a_read_that_mixes_accounts_up_shows_nobody_what_is_anothers(url: str) -> None:
    """Bob's phone asked for in Alice's name: the statement alone would show what the phone is owed."""

    async def shown(url: str) -> list[int]:
        async with Database(url) as database:
            page = await Reads(database).page(ALICE, PHONE, after=START, limit=100, max_bytes=1 << 20)
            return [row.position for row in page.rows]

    assert len(asyncio.run(shown(url))) == 2
    assert len(asyncio.run(shown(as_role(url, Principal.API)))) == 1


def test_an_auditor_finds_whose_name_it_is(url: str) -> None:
    async def found(name: str) -> UUID | None:
        async with Database(as_role(url, Principal.AUDITOR)) as database:
            return await account_named(database, name)

    assert asyncio.run(found("bob")) == BOB
    assert asyncio.run(found("nobody")) is None


def _by_policy() -> list[str]:
    return [table.name for table in SCHEMAS["projection"] if table.api_sees]


def test_every_read_answers_the_api_as_it_answers_the_owner(url: str) -> None:
    ids = [an_id("msg", number) for number in range(1, 8)]

    async def answers(url: str) -> list[Any]:
        async with Database(url) as database:
            reads, presence = Reads(database), PresenceReads(database)
            found: list[Any] = []
            for user, device in ((BOB, PHONE), (BOB, LAPTOP), (ALICE, an_id("dev", 77)), (CAROL, an_id("dev", 78))):
                found += [
                    await reads.page(user, device, after=START, limit=2, max_bytes=1 << 20, floors={0: 10}),
                    await reads.page(user, device, after=START, limit=100, max_bytes=1 << 20),
                    await reads.pending(user, device),
                    await reads.outstanding(user, device, ids),
                    await reads.up_to(user, device, 100, after=START, limit=100),
                    await reads.held(user, partition=0, limit=100, small=(1, 1)),
                    await reads.receipts(user, after=START, limit=100),
                    await reads.stored_all(user, ids),
                    await reads.messages(user, ids),
                    *[await reads.trail(user, one) for one in ids],
                    await presence.devices(user, [device]),
                    *[await presence.between(user, other) for other in ("alice", "bob", "carol")],
                ]
            found.append(await reads.stragglers([BOB, ALICE], [PHONE, LAPTOP], [START, START], stored_before_ms=1 << 50))
            found += [await reads.erased_and_back(), await reads.untold_accounts()]
            return found

    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO projection.erased VALUES (%s, 9, %s, 'test', 0)", [CAROL, an_id("ev", 8)])
        connection.execute("INSERT INTO projection.offsets VALUES (%s, 0, 100)", [LIFECYCLE])
    owners = asyncio.run(answers(url))
    assert asyncio.run(answers(as_role(url, Principal.API))) == owners
    assert CAROL in owners[-2], "an account that a backup brought back"
    assert any(isinstance(one, Presence) for one in owners), "Alice and Bob have written to each other"
