"""What facts come to in the tables: given these facts, in one batch and one by one, these rows; twice is as once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from projections.apply import Applied, apply
from projections.database import Database
from projections.reads import START, Reads
from schemas.events import Fact, Recorded
from tests.builders import (
    ALICE,
    BOB,
    LAPTOP,
    ONE_OF_EACH,
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
from tests.integration.tables import everything

FACTS = [fact for fact in ONE_OF_EACH if isinstance(fact, Fact)]


def fold(url: str, *batches: Sequence[Recorded]) -> tuple[dict[str, list[tuple[Any, ...]]], list[Applied]]:
    async def main() -> tuple[dict[str, list[tuple[Any, ...]]], list[Applied]]:
        async with Database(url) as database:
            applied = []
            for batch in batches:
                async with database.transaction() as transaction:
                    applied.append(await apply(transaction, batch))
            return await everything(database), applied

    return asyncio.run(main())


def column(rows: list[tuple[Any, ...]], index: int) -> list[Any]:
    return [row[index] for row in rows]


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: type(fact).__name__)
def test_each_fact_twice_is_as_once(database_url: str, fact: Fact) -> None:
    """After a story in which the fact means something."""
    story: list[Fact] = [registered(), registered(LAPTOP), opened(), stored(1), attempted(1, 3, seen()), pending(1, 3)]
    log = log_of(*story, fact)
    once, _ = fold(database_url, log)
    twice, _ = fold(database_url, log)
    again, _ = fold(database_url, [log[-1]])
    assert once == twice == again


def test_a_device_that_registers_after_an_acknowledgement_of_the_same_batch_is_not_owed(database_url: str) -> None:
    rows, _ = fold(database_url, log_of(registered(), stored(1), delivered(entry(1, 1)), registered(LAPTOP)))
    assert rows["mailbox"] == rows["owed"] == []


def test_a_device_that_registered_before_is_owed_a_copy_of_the_body(database_url: str) -> None:
    rows, _ = fold(database_url, log_of(registered(), registered(LAPTOP), stored(1), delivered(entry(1, 2))))
    assert rows["mailbox"] == []
    assert [(row[0], row[1], row[5]) for row in rows["owed"]] == [(LAPTOP, 2, b"sealed body")]


def test_two_devices_that_acknowledge_in_one_batch_leave_nothing(database_url: str) -> None:
    acks = (delivered(entry(1, 2)), delivered(entry(1, 2), device=LAPTOP))
    rows, _ = fold(database_url, log_of(registered(), registered(LAPTOP), stored(1), *acks))
    assert rows["mailbox"] == rows["owed"] == []
    assert set(column(rows["deliveries"], 1)) == {PHONE, LAPTOP}


def test_a_removed_device_is_owed_nothing_and_what_none_acknowledged_stays(database_url: str) -> None:
    story = (registered(), registered(LAPTOP), stored(1), stored(2), delivered(entry(1, 2)), removed(LAPTOP))
    rows, _ = fold(database_url, log_of(*story))
    assert rows["owed"] == [] and column(rows["mailbox"], 1) == [3]


def test_what_is_acknowledged_after_a_removal_is_not_kept_for_the_removed(database_url: str) -> None:
    story = (registered(), registered(LAPTOP), stored(1), removed(LAPTOP), delivered(entry(1, 2)))
    rows, _ = fold(database_url, log_of(*story))
    assert rows["mailbox"] == rows["owed"] == []


def test_a_removal_ends_live_sessions_only(database_url: str) -> None:
    story = (registered(), opened(), opened(OTHER_SESSION), closed(OTHER_SESSION), removed())
    rows, _ = fold(database_url, log_of(*story))
    assert [(row[0], row[1], row[4]) for row in rows["session_ends"]] == [
        (SESSION, 4, "device_removed"),
        (OTHER_SESSION, 3, "ack_timeout"),
    ]


def test_a_session_that_was_marked_after_its_end_is_live_again(database_url: str) -> None:
    rows, _ = fold(database_url, log_of(registered(), opened(), closed(), marked(), removed()))
    assert column(rows["session_ends"], 1) == [2, 4]


def test_an_erased_account_has_no_mail_and_gets_none(database_url: str) -> None:
    story = (registered(), registered(LAPTOP), stored(1), stored(2), delivered(entry(1, 2)), erased(), stored(3))
    rows, _ = fold(database_url, log_of(*story))
    assert rows["mailbox"] == rows["owed"] == []
    assert len(rows["messages"]) == 3


def test_whoever_wrote_to_an_erased_account_has_yet_to_be_told(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("projections.apply.LEFT_AT_ONCE", 2)
    story = [registered(), *map(stored, range(1, 7)), delivered(entry(1)), erased(), stored(8), stored(2)]
    rows, applied = fold(database_url, log_of(*story))
    assert column(rows["untold"], 1) == [2, 3, 4, 5, 6, 9]
    assert sum(each.erased for each in applied) == 1
    rows, _ = fold(database_url, log_of(*story, told(entry(1), entry(2), entry(8)), told(entry(2))))
    assert column(rows["untold"], 1) == [3, 4, 5, 6]


def test_a_repeat_adds_no_mail_and_is_counted_by_its_place(database_url: str) -> None:
    log = log_of(stored(1), stored(1), delivered(entry(1)), stored(1))
    rows, applied = fold(database_url, log)
    assert rows["mailbox"] == []
    assert column(rows["repeats"], 1) == [1, 3]
    assert sum(each.repeats for each in applied) == 2


@pytest.mark.parametrize(
    "fact",
    [
        delivered(entry(9)),
        read(entry(9)),
        pending(9),
        attempted(9),
        delivered(entry(1), recipient=ALICE),
        read(entry(1), recipient=ALICE),
        pending(1, recipient=ALICE),
        attempted(1, recipient=ALICE),
    ],
)
def test_what_is_said_of_unknown_or_foreign_messages_is_ignored_and_counted(database_url: str, fact: Fact) -> None:
    before, _ = fold(database_url, log_of(registered(), stored(1)))
    after, applied = fold(database_url, [replace(log_of(fact)[0], place=replace(log_of(fact)[0].place, offset=7))])
    assert after == before
    assert applied[0].ignored == 1


def test_one_batch_is_as_one_by_one(database_url: str, empty_database_url: str) -> None:
    from projections.migrate import migrate

    asyncio.run(migrate(empty_database_url))
    log = log_of(*FACTS, stored(2), delivered(entry(2, 11)))
    assert fold(database_url, log)[0] == fold(empty_database_url, *[[recorded] for recorded in log])[0]


def test_the_trail_holds_what_the_writers_saw(database_url: str) -> None:
    story = (
        registered(),
        opened(),
        stored(1),
        attempted(1, 2, seen(epoch=1)),
        closed(),
        delivered(entry(1, 2), session_id=OTHER_SESSION),
        read(entry(1, 2)),
    )
    fold(database_url, log_of(*story))

    async def main() -> Any:
        async with Database(database_url) as database:
            return await Reads(database).trail(BOB, an_id("msg", 1))

    trail = asyncio.run(main())
    assert [(event.status.label, event.place.offset, event.reason) for event in trail.events] == [
        ("Created", 2, None),
        ("Stored", 2, None),
        ("DeliveryAttempted", 3, None),
        ("PendingSync", 4, "ack_timeout"),
        ("Delivered", 5, None),
        ("Read", 6, None),
    ]
    attempt = trail.events[2].evidence
    assert attempt["policy"] == "1" and attempt["causation_id"] == str(an_id("ev", 1001))
    assert attempt["sessions"] == [
        {"session_id": str(SESSION), "device_id": str(PHONE), "gateway": "gateway-1", "epoch": 1, "live": True}
    ]
    assert trail.events[4].evidence == {"device_id": str(PHONE), "via": "http", "session_id": str(OTHER_SESSION)}
    assert [(push.session_id, push.result, push.place.offset) for push in trail.attempts] == [(SESSION, "ack_timeout", 3)]


def walk(url: str, device: UUID, limit: int, max_bytes: int) -> list[int]:
    """All positions, page after page."""

    async def main() -> list[int]:
        async with Database(url) as database:
            reads, seen_, after = Reads(database), [], START
            while True:
                page = await reads.page(BOB, device, after=after, limit=limit, max_bytes=max_bytes)
                assert len(page.rows) <= limit and page.pending == 40
                assert len(page.rows) == 1 or sum(len(row.sealed) for row in page.rows) <= max_bytes
                seen_ += [row.position for row in page.rows]
                if not page.has_more:
                    return seen_
                after = page.rows[-1].position

    return asyncio.run(main())


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 39, 40, 41, 500])
@pytest.mark.parametrize("max_bytes", [1, 35, 1 << 20])
def test_any_page_size_walks_the_whole_mailbox(database_url: str, limit: int, max_bytes: int) -> None:
    """Forty messages; a third of them another device has acknowledged, so that the two tables interleave."""
    messages = [stored(number, sealed=b"x" * (number % 25 + 1)) for number in range(1, 41)]
    acks = [delivered(entry(number, number + 1)) for number in range(1, 41, 3)]
    fold(database_url, log_of(registered(), registered(LAPTOP), *messages, *acks))
    assert walk(database_url, LAPTOP, limit, max_bytes) == list(range(2, 42))


def test_the_first_page_of_a_deep_mailbox_looks_at_no_more_than_the_page(database_url: str) -> None:
    """Half acknowledged by another device: the plan touches a few index pages and no row beyond the page."""
    fold(database_url, log_of(registered(), registered(LAPTOP)))

    async def main() -> dict[str, Any]:
        async with Database(database_url) as database:
            for table, column_ in (("mailbox", "account"), ("owed", "device_id")):
                fill = (
                    f"INSERT INTO {table} ({column_}, position, message_id, sender, stored_at_ms, sealed)"
                    " SELECT %(key)s, n, gen_random_uuid(), %(sender)s, 0, 'x'"
                    " FROM generate_series(%(first)s, 20000, 2) AS n"
                )
                key, first = (BOB, 0) if table == "mailbox" else (LAPTOP, 1)
                await database.run(fill.encode(), key=key, sender=ALICE, first=first)
            reads = Reads(database)
            page = await reads.page(BOB, LAPTOP, after=START, limit=50, max_bytes=1 << 20)
            assert [row.position for row in page.rows] == list(range(50))
            assert (page.has_more, page.pending) == (True, 10_000)
            return await touched(database)

    buffers = asyncio.run(main())
    assert buffers["Shared Hit Blocks"] + buffers["Shared Read Blocks"] < 500


async def touched(database: Database) -> dict[str, Any]:
    from projections.reads import QUERIES

    plan = await database.tuples(
        b"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) " + QUERIES["page"],
        user=BOB,
        device=LAPTOP,
        after=START,
        limit=50,
        max_bytes=1 << 20,
        topic="",
        partitions=[],
        ends=[],
    )
    found: dict[str, Any] = plan[0][0][0]["Plan"]
    return found
