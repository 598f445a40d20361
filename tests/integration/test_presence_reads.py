"""Who is there and who may know: the answers to devices and presence, against the fold of the same facts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projections.apply import apply
from projections.database import Database
from projections.errors import ProjectionBehind
from projections.presence import Presence, PresenceReads
from schemas.events import Fact, MessageStored, Recorded, SessionMarked, SessionOpened
from schemas.lifecycle import fold
from tests.builders import (
    ALICE,
    BOB,
    LAPTOP,
    OTHER_SESSION,
    PHONE,
    SESSION,
    T0_MS,
    an_id,
    closed,
    delivered,
    entry,
    erased,
    log_of,
    marked,
    opened,
    recorded,
    registered,
    removed,
    stored,
)
from tests.integration.tables import empty

CAROL = an_id("acct", 3)
TO_BOB = stored(1)
TO_ALICE = stored(2, recipient=ALICE, sender=BOB)


async def folded(database: Database, log: Sequence[Recorded]) -> None:
    async with database.transaction() as transaction:
        await apply(transaction, log)


async def signed_up(database: Database, *accounts: UUID) -> None:
    for account in accounts:
        await database.run(
            b"INSERT INTO accounts.accounts (user_id, name, password_hash) VALUES (%(id)s, %(name)s, '')",
            id=account,
            name=str(account),
        )


def on(url: str, scenario: Callable[[Database, PresenceReads], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with Database(url) as database:
            await signed_up(database, ALICE, BOB, CAROL)
            await scenario(database, PresenceReads(database))

    asyncio.run(main())


@pytest.mark.parametrize("facts", [[], [TO_BOB], [TO_ALICE]])
def test_presence_is_nobodys_business_until_both_have_written(database_url: str, facts: list[Fact]) -> None:
    async def scenario(database: Database, reads: PresenceReads) -> None:
        await folded(database, log_of(*facts, stored(3, sender=CAROL), stored(4, recipient=CAROL)))
        assert await reads.between(ALICE, str(BOB)) is None
        assert await reads.between(BOB, str(ALICE)) is None
        await folded(database, [recorded(TO_BOB, 10), recorded(TO_ALICE, 11)])
        assert (
            await reads.between(ALICE, str(BOB))
            == await reads.between(BOB, str(ALICE))
            == Presence(online=False, last_seen_at_ms=None)
        )
        assert await reads.between(ALICE, str(CAROL)) is None

    on(database_url, scenario)


def test_presence_of_oneself_needs_a_message_to_oneself(database_url: str) -> None:
    async def scenario(database: Database, reads: PresenceReads) -> None:
        await folded(database, log_of(TO_BOB, TO_ALICE))
        assert await reads.between(BOB, str(BOB)) is None
        await folded(database, [recorded(stored(5, sender=BOB), 10)])
        assert await reads.between(BOB, str(BOB)) is not None

    on(database_url, scenario)


def test_an_erased_account_is_nowhere(database_url: str) -> None:
    async def scenario(database: Database, reads: PresenceReads) -> None:
        await folded(database, log_of(TO_BOB, TO_ALICE))
        await database.run(b"UPDATE accounts.accounts SET erased_at = now() WHERE user_id = %(id)s", id=BOB)
        assert await reads.between(ALICE, str(BOB)) is None

    on(database_url, scenario)


def test_last_seen_is_the_latest_of_calls_and_ends_of_sessions(database_url: str) -> None:
    async def scenario(database: Database, reads: PresenceReads) -> None:
        await folded(database, log_of(TO_BOB, TO_ALICE, registered(), registered(LAPTOP), opened(), closed()))
        for device in (PHONE, LAPTOP):
            await database.run(
                b"INSERT INTO accounts.devices (device_id, user_id, label) VALUES (%(device)s, %(user)s, %(device)s)",
                device=device,
                user=BOB,
            )
        assert await reads.between(ALICE, str(BOB)) == Presence(online=False, last_seen_at_ms=T0_MS + 5_000)
        await database.run(
            b"UPDATE accounts.devices SET last_seen_at = to_timestamp(%(at)s), removed_at = now()"
            b" WHERE device_id = %(device)s",
            at=T0_MS / 1000 + 6,
            device=LAPTOP,
        )
        assert await reads.between(ALICE, str(BOB)) == Presence(online=False, last_seen_at_ms=T0_MS + 6_000)
        await folded(database, [recorded(opened(OTHER_SESSION), 8)])
        there = await reads.between(ALICE, str(BOB))
        assert there is not None and there.online

    on(database_url, scenario)


def test_what_is_not_folded_yet_is_behind_and_never_no(database_url: str) -> None:
    async def scenario(database: Database, reads: PresenceReads) -> None:
        for asked in (reads.between(ALICE, str(BOB), floors={0: 1}), reads.devices(BOB, [PHONE], floors={0: 1})):
            with pytest.raises(ProjectionBehind):
                await asked

    on(database_url, scenario)


def test_a_projection_from_before_learns_who_wrote_to_whom(empty_database_url: str) -> None:
    """What was folded before there was the table is in it after the migration."""
    from projections.migrate import migrate

    async def main() -> None:
        await migrate(empty_database_url)
        async with Database(empty_database_url) as database:
            await folded(database, log_of(TO_BOB, TO_ALICE, stored(6)))
            await database.run(b"DROP TABLE contacts CASCADE")
            await database.run(b"DROP FUNCTION latest_session")
            await database.run(b"DELETE FROM migrations WHERE name = '0004_projection_contacts.sql'")
        await migrate(empty_database_url)
        async with Database(empty_database_url) as database:
            assert set(await database.tuples(b"SELECT account, sender FROM contacts")) == {(BOB, ALICE), (ALICE, BOB)}

    asyncio.run(main())


def facts() -> st.SearchStrategy[Fact]:
    number, device = st.integers(1, 4), st.sampled_from([PHONE, LAPTOP])
    session, sender = st.sampled_from([SESSION, OTHER_SESSION]), st.sampled_from([ALICE, CAROL])
    return st.one_of(
        st.builds(lambda n, s: stored(n, sender=s), number, sender),
        st.builds(lambda n, d: delivered(entry(n), device=d), number, device),
        st.builds(registered, device),
        st.builds(removed, device),
        st.builds(opened, session, device),
        st.builds(marked, session, device),
        st.builds(closed, session, device),
        st.sampled_from([registered(), opened(), erased()]),
    )


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.mark.timeout(600)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(facts(), max_size=20), cut=st.integers(0, 20))
def test_any_history_gives_the_folds_answers(database_url: str, loop: asyncio.Runner, history: list[Fact], cut: int) -> None:
    """Pending is the mailbox's length, online says whether the latest session lives, contacts are who sent each id first."""

    async def scenario() -> None:
        async with Database(database_url) as database:
            await empty(database)
            log = log_of(*history)
            await folded(database, log[:cut])
            await folded(database, log[cut:])
            state = fold(log)
            views = await PresenceReads(database).devices(BOB, [PHONE, LAPTOP])
            for device, known in state.devices.items():
                if known.removed is None and not state.erased:
                    assert views[device].pending == len(state.mailbox(device))
                    latest = latest_session(log, device)
                    assert views[device].online == (None if latest is None else latest in state.sessions)
            first = {fact.message_id: fact.sender for fact in reversed(history) if isinstance(fact, MessageStored)}
            contacts = {(BOB, sender) for sender in first.values()}
            assert set(await database.tuples(b"SELECT account, sender FROM contacts")) == contacts

    loop.run(scenario())


def latest_session(log: Sequence[Recorded], device: UUID) -> UUID | None:
    """The session with the latest marker among those whose latest marker is the device's."""
    markers: dict[UUID, UUID] = {}
    for one in log:
        if isinstance(one.fact, SessionOpened | SessionMarked):
            markers.pop(one.fact.session_id, None)
            markers[one.fact.session_id] = one.fact.device_id
    of_device = [session for session, owner in markers.items() if owner == device]
    return of_device[-1] if of_device else None
