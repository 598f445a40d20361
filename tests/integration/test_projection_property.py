"""The tables mean what `evolve` means: any history, in any batches, read again from anywhere, gives the same rows."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projections.apply import apply
from projections.conservation import count
from projections.database import Database
from projections.reads import START, Reads
from schemas.events import Fact, Recorded
from schemas.lifecycle import Recipient, fold
from tests.builders import (
    BOB,
    LAPTOP,
    OTHER_SESSION,
    PHONE,
    SESSION,
    an_id,
    attempted,
    closed,
    delivered,
    entry,
    erased,
    log_of,
    marked,
    opened,
    pending,
    read,
    registered,
    removed,
    seen,
    stored,
    told,
)
from tests.integration.tables import TABLES, empty, everything

TABLET = an_id("dev", 3)
DEVICES = (PHONE, LAPTOP, TABLET)
NUMBERS = range(1, 5)
pytestmark = pytest.mark.timeout(600)


def facts() -> st.SearchStrategy[Fact]:
    number, device = st.integers(NUMBERS[0], NUMBERS[-1]), st.sampled_from(DEVICES)
    session = st.sampled_from([SESSION, OTHER_SESSION])
    sessions = st.lists(session, max_size=2, unique=True)
    numbers = st.lists(number, min_size=1, max_size=3)
    return st.one_of(
        number.map(stored),
        number.map(stored),
        number.map(pending),
        st.builds(lambda n, s: pending(n, session_id=s), number, session),
        st.builds(lambda n, ss: attempted(n, 0, sessions=tuple(seen(session=s) for s in ss)), number, sessions),
        st.builds(lambda ns, d: delivered(*map(entry, ns), device=d), numbers, device),
        st.builds(lambda ns, d: delivered(*map(entry, ns), device=d), numbers, device),
        st.builds(lambda ns, d: read(*map(entry, ns), device=d), numbers, device),
        st.builds(opened, session, device),
        st.builds(marked, session, device),
        st.builds(closed, session, device),
        st.builds(registered, device),
        st.builds(registered, device),
        st.builds(removed, device),
        st.sampled_from([erased(), stored(1), stored(2)]),
        st.builds(lambda ns: told(*map(entry, ns)), numbers),
    )


HISTORIES = st.lists(facts(), max_size=25)


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


async def folded(database: Database, batches: list[list[Recorded]]) -> None:
    for batch in batches:
        async with database.transaction() as transaction:
            await apply(transaction, batch)


async def check(database: Database, state: Recipient) -> None:
    """Every question about this recipient is answered as the model answers it."""
    reads = Reads(database)
    ids = [an_id("msg", number) for number in NUMBERS]
    views = {view.message_id: view for view in await reads.messages(BOB, ids)}
    assert views.keys() == state.messages.keys()
    for message_id, message in state.messages.items():
        view = views[message_id]
        marks = (message.attempted, message.pending, message.delivered, message.read, message.erased)
        assert (view.status, view.position) == (message.status, message.position)
        assert (
            view.attempted_at_ms,
            view.pending_at_ms,
            view.delivered_at_ms,
            view.read_at_ms,
            view.erased_at_ms,
        ) == tuple(mark and mark.at_ms for mark in marks)
        assert {d.device_id: d.delivered_at_ms for d in view.devices} == {
            device: mark.at_ms for device, mark in message.deliveries.items()
        }
        trail = await reads.trail(BOB, message_id)
        assert trail is not None
        assert [event.place for event in trail.events[1:]] == [mark.place for mark in (message.stored, *marks) if mark]
        assert trail.repeats == message.repeats
    untold = await database.tuples(b"SELECT position, message_id, sender FROM untold ORDER BY position")
    assert untold == sorted((m.position, m.message_id, m.sender) for m in state.messages.values() if m.erased and not m.told)
    for device in state.devices:
        if state.devices[device].removed is None:
            await check_mailbox(reads, state, device)


async def check_count(database: Database, state: Recipient) -> None:
    """Messages by state are the model's, none is nowhere, and with the rejected repeats that is every MessageStored."""
    counted = await count(database)
    states = Counter(message.status for message in state.messages.values())
    assert {status: found for status, found in counted.messages.get(0, {}).items() if found} == states
    assert counted.misplaced.get(0, 0) == 0
    assert counted.repeats.get(0, 0) == sum(len(message.repeats) for message in state.messages.values())


async def check_mailbox(reads: Reads, state: Recipient, device: UUID) -> None:
    owed = [(message.position, message.message_id, message.status) for message in state.mailbox(device)]
    page = await reads.page(BOB, device, after=START, limit=100, max_bytes=1 << 20)
    assert [(row.position, row.message_id, row.status) for row in page.rows] == owed
    assert (page.has_more, page.pending) == (False, len(owed))
    assert await reads.pending(BOB, device) == len(owed)
    entries = await reads.up_to(BOB, device, 1 << 40, after=START, limit=100)
    assert [(entry.position, entry.message_id) for entry in entries] == [row[:2] for row in owed]
    found = {row.message_id: row for row in await reads.outstanding(BOB, device, [an_id("msg", n) for n in NUMBERS])}
    assert {k: (f.delivered_to_device, f.read) for k, f in found.items()} == {
        k: (device in m.deliveries, m.read is not None) for k, m in state.messages.items()
    }


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=HISTORIES, cuts=st.sets(st.integers(0, 25)), again=st.integers(0, 25))
def test_any_history_in_any_batches_is_the_fold(
    database_url: str, loop: asyncio.Runner, history: list[Fact], cuts: set[int], again: int
) -> None:
    async def scenario() -> None:
        async with Database(database_url) as database:
            await empty(database)
            log = log_of(*history)
            edges = sorted({0, len(log), *(cut for cut in cuts if cut < len(log))})
            await folded(database, [log[start:end] for start, end in pairwise(edges)])
            await check(database, fold(log))
            await check_count(database, fold(log))
            before = await everything(database)
            await folded(database, [log[min(again, len(log)) :]])
            assert await everything(database) == before

    loop.run(scenario())


@pytest.mark.parametrize("facts", [pytest.param([fact], id=type(fact).__name__) for fact in (stored(),)])
def test_tables_are_all_compared(database_url: str, loop: asyncio.Runner, facts: list[Fact]) -> None:
    async def scenario() -> None:
        async with Database(database_url) as database:
            await folded(database, [log_of(*facts)])
            assert (await everything(database)).keys() == set(TABLES)

    loop.run(scenario())
