"""The live projection held against the log: every change is found and has its records, and what is right never is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from projections.compare import Cause, Compared, Difference, compare
from projections.database import Database
from projections.errors import ForeignLogError
from projections.progress import Progress
from projections.rebuild import rebuild
from schemas.topics import LIFECYCLE, RECEIPTS
from tests.builders import (
    LAPTOP,
    OTHER_SESSION,
    PHONE,
    SESSION,
    attempted,
    closed,
    delivered,
    entry,
    opened,
    pending,
    read,
    receipt,
    registered,
    removed,
    seen,
    stored,
)
from tests.eventually import eventually
from tests.integration.projector_rig import running
from tests.integration.test_rebuild import Rig

STORY = (
    registered(),  # 0
    registered(LAPTOP),
    opened(),  # 2
    stored(1),  # 3
    attempted(1, 3, sessions=(seen(),)),
    delivered(entry(1, 3)),
    read(entry(1, 3), device=LAPTOP),  # 6
    closed(),
    stored(2),  # 8
    pending(2, 8),
    stored(2),  # 10
    opened(OTHER_SESSION, LAPTOP),
    removed(LAPTOP),
    stored(3),  # 13
    delivered(entry(3, 13)),
)


def on(scenario: Callable[[Rig], Awaitable[None]], url: str) -> None:
    async def main() -> None:
        async with Database(url) as database:
            rig = Rig(url, database)
            rig.append(*STORY, receipt(1))
            await rig.live()
            await scenario(rig)

    asyncio.run(main())


async def found(rig: Rig) -> tuple[list[Difference], Compared]:
    differences: list[Difference] = []
    compared = await compare(rig.url, rig.log, differences.append)
    assert sum(compared.differences.values()) == len(differences)
    left = b"SELECT to_regnamespace('projection_scratch') IS NULL"
    assert await rig.database.tuples(left) == [(True,)]
    return differences, compared


def at(*offsets: int) -> list[tuple[str, int]]:
    return [(LIFECYCLE, offset) for offset in offsets]


def test_what_is_right_is_clean_and_counted(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        differences, compared = await found(rig)
        assert (differences, compared.clean) == ([], True)
        assert compared.offsets == {(LIFECYCLE, 0): len(STORY), (RECEIPTS, 0): 1}
        assert {name: rows for name, rows in compared.rows.items() if rows} == {
            "contacts": 1,
            "decisions": 2,
            "deliveries": 3,
            "devices": 2,
            "mailbox": 1,
            "messages": 3,
            "offsets": 2,
            "reads": 1,
            "receipts": 1,
            "repeats": 1,
            "session_ends": 2,
            "sessions": 2,
        }

    on(scenario, database_url)


@pytest.mark.parametrize(
    ("spoil", "table", "live", "causes"),
    [
        pytest.param("DELETE FROM mailbox", "mailbox", None, at(8, 9, 10), id="mailbox-lost"),
        pytest.param(
            "UPDATE messages SET sender = recipient WHERE position = 3", "messages", "sender", at(3, 4, 5, 6), id="sender"
        ),
        pytest.param("DELETE FROM decisions WHERE pending", "decisions", None, at(8, 9, 10), id="decision-lost"),
        pytest.param("UPDATE deliveries SET via = 'x' WHERE position = 14", "deliveries", "via", at(13, 14), id="via"),
        pytest.param("DELETE FROM reads", "reads", None, at(3, 4, 5, 6), id="read-lost"),
        pytest.param("DELETE FROM repeats", "repeats", None, at(8, 9, 10), id="repeat-lost"),
        pytest.param("UPDATE devices SET removed_position = NULL", "devices", "removed_position", at(1, 12), id="device"),
        pytest.param("UPDATE sessions SET epoch = 1 WHERE epoch = 2", "sessions", "epoch", at(2), id="epoch"),
        pytest.param("DELETE FROM session_ends WHERE position = 7", "session_ends", None, at(7), id="end-lost"),
        pytest.param("DELETE FROM contacts", "contacts", None, at(3), id="contact-lost"),
        pytest.param("DELETE FROM receipts", "receipts", None, [(RECEIPTS, 0)], id="receipt-lost"),
        pytest.param("UPDATE offsets SET last_at_ms = 1 WHERE next_offset > 1", "offsets", "last_at_ms", at(14), id="last"),
    ],
)
def test_every_change_is_found_with_its_records(
    database_url: str, spoil: str, table: str, live: str | None, causes: list[tuple[str, int]]
) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.database.run(spoil.encode())
        (difference,), compared = await found(rig)
        assert difference.table == table and not compared.clean
        assert (difference.live and list(difference.live)) == (live and [live])
        assert difference.folded is not None
        assert [(cause.topic, cause.offset) for cause in difference.causes] == causes

    on(scenario, database_url)


def test_a_row_that_no_record_made_has_no_records(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.database.run(b"INSERT INTO contacts VALUES (%(a)s, %(b)s)", a=PHONE, b=SESSION)
        await rig.database.run(
            b"INSERT INTO owed SELECT %(a)s, position, message_id, sender, 1, sealed FROM mailbox", a=PHONE
        )
        differences, _ = await found(rig)
        assert [(one.table, one.folded, len(one.causes)) for one in differences] == [
            ("contacts", None, 0),
            ("owed", None, 3),
        ]
        assert differences[1].causes[0] == Cause("MessageStored", LIFECYCLE, 0, 8)
        assert differences[1].key == {"device_id": PHONE, "position": 8}

    on(scenario, database_url)


def test_a_chain_that_an_older_version_never_made_is_no_difference(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.database.run(b"UPDATE offsets SET chain = NULL")
        assert (await found(rig))[1].clean
        await rig.database.run(b"UPDATE offsets SET chain = 'x' WHERE topic = %(topic)s", topic=LIFECYCLE)
        (difference,), _ = await found(rig)
        assert list(difference.live or ()) == ["chain"]

    on(scenario, database_url)


def test_after_a_swap_the_live_place_is_compared(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.database.run(b"DELETE FROM mailbox")
        await rebuild(rig.url, rig.log)
        assert (await found(rig))[1].clean

    on(scenario, database_url)


def test_while_traffic_goes_on_nothing_differs(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.some = 200

        async def write() -> None:
            for number in range(10, 10_000):
                rig.append(stored(number), pending(number, len(rig.facts[0]) - 1))
                if number % 3 == 0:
                    rig.append(delivered(entry(number - 1)), receipt(number))
                await asyncio.sleep(0.003)

        async with running(*rig.projectors()), Progress(rig.url) as progress:
            writing = asyncio.create_task(write())
            await eventually(lambda: progress.applied(0) > len(STORY) + 20)
            for _ in range(3):
                differences, compared = await found(rig)
                assert differences == [] and compared.rows["messages"] > 5
            writing.cancel()
            await asyncio.wait({writing})

    on(scenario, database_url)


def test_a_log_that_is_shorter_is_refused(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.facts[0].pop()
        with pytest.raises(ForeignLogError, match="the log ends at"):
            await found(rig)

    on(scenario, database_url)
