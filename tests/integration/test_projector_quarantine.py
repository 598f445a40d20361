"""What the projector sets aside: what it cannot read, how much of it, and that nothing else is passed over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from projections.errors import QuarantineLimitError
from projections.reads import START, Reads
from projections.runner import Projector
from projections.source import Raw
from schemas.quarantined import Quarantined
from tests.builders import BOB, PHONE, registered, stored
from tests.integration.projector_rig import Rig, on, running


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(lambda raw: replace(raw, value=b"junk"), "single-object", id="bytes"),
        pytest.param(lambda raw: replace(raw, value=None), "no value", id="none"),
        pytest.param(lambda raw: replace(raw, key=b"somebody"), "the key or the partition", id="key"),
    ],
)
def test_sets_aside_what_it_cannot_read_and_goes_on(database_url: str, spoil: Callable[[Raw], Raw], says: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(registered(), stored(1), stored(2))
        rig.log[0][1] = spoil(rig.log[0][1])
        async with running(rig.projector()):
            await rig.caught_up()
        page = await Reads(rig.database).page(BOB, PHONE, after=START, limit=10, max_bytes=1000)
        assert [row.position for row in page.rows] == [2]
        (record,) = rig.set_aside
        assert (record.partition, record.offset) == (0, 1) and says in record.reason
        assert (record.key, record.value) == (rig.log[0][1].key, rig.log[0][1].value)

    on(scenario, database_url)


def test_sets_aside_what_stands_in_another_partition_than_its_recipients(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(registered(), stored(1))
        rig.append(stored(2), partition=1)
        async with running(rig.projector()):
            await rig.caught_up()
        assert [(record.partition, record.offset) for record in rig.set_aside] == [(1, 0)]

    on(scenario, database_url)


def test_begins_again_after_a_record_that_was_set_aside(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(registered(), stored(1))
        rig.log[0][1] = replace(rig.log[0][1], value=b"junk")
        async with running(rig.projector()):
            await rig.caught_up()
        rig.append(stored(2))
        async with running(rig.projector()):
            await rig.caught_up()
        assert len(rig.set_aside) == 1

    on(scenario, database_url)


def test_stops_where_too_much_is_set_aside(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(*[stored(number) for number in range(1, 5)])
        rig.log[0][1:] = [replace(raw, value=b"junk") for raw in rig.log[0][1:]]
        with pytest.raises(QuarantineLimitError, match="offset 3"):
            await asyncio.wait_for(rig.projector(quarantine_limit=2).run(), 10)
        assert [record.offset for record in rig.set_aside] == [1, 2]

    on(scenario, database_url)


def test_a_quarantine_that_takes_nothing_holds_the_offset(database_url: str) -> None:
    async def scenario(rig: Rig) -> None:
        rig.append(registered(), stored(1))
        rig.log[0][0] = replace(rig.log[0][0], value=b"junk")
        refused = []

        async def quarantine(record: Quarantined) -> None:
            if len(refused) < 2:
                refused.append(await Reads(rig.database).offsets())
                raise OSError("away")
            rig.set_aside.append(record)

        async with running(Projector(rig.source(), rig.database, quarantine)):
            await rig.caught_up()
        assert refused == [{0: 0, 1: 0}] * 2 and len(rig.set_aside) == 1

    on(scenario, database_url)
