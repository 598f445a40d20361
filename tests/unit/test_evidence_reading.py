"""Reading stretches of the log for a judgement: damage is passed and named, lost beginnings are found, times are read."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Sequence
from typing import cast

import pytest

from deploy.errors import Misconfigured
from deploy.evidence import auditing, reading
from deploy.evidence.auditing import Asked
from deploy.evidence.reading import Pages, Stretch
from producers.recorded import LogDamaged, LogReader
from schemas.codec import encode
from schemas.quarantined import Quarantined, Replayed
from schemas.raw import RawRecord
from schemas.topics import LIFECYCLE
from tests.builders import an_id, quarantined
from tests.histories import history


class Damaged:
    """A log in memory, one record a batch, some of whose records do not fit their checksum."""

    def __init__(self, records: Sequence[RawRecord], *, bad: range = range(0), first: int = 0) -> None:
        self._records = records
        self._bad = bad
        self._first = first
        self.topic_id = an_id("topc", 1)

    async def bounds(self) -> dict[int, tuple[int, int]]:
        return {0: (self._first, len(self._records))}

    async def offset_at(self, partition: int, timestamp_ms: int) -> int:
        later = [record.offset for record in self._records if record.at_ms >= timestamp_ms]
        return later[0] if later else len(self._records)

    async def batches(self, partition: int, start: int, end: int) -> AsyncGenerator[Sequence[RawRecord], None]:
        for offset in range(start, end):
            if offset in self._bad:
                raise LogDamaged("any", partition, offset, self._bad.stop)
            yield [self._records[offset]]


def reader(log: Damaged) -> LogReader:
    return cast(LogReader, log)


def audited(log: Damaged) -> dict[str, object]:
    async def main() -> dict[str, object]:
        asked = Asked(only=None, now_ms=0, stuck_after_ms=1, aside={})
        todo = await reading.stretches(reader(log))
        done = await auditing.audit(reader(log), 1, todo, asked, lambda done, total: None)
        return auditing.document(reader(log), done, 1.0)

    return asyncio.run(main())


def examples(report: dict[str, object]) -> list[tuple[str, int, int | None]]:
    rows = cast(list[dict[str, dict[str, int]]], report["examples"])
    return [(str(row["kind"]), row["log"]["offset"], row["log"].get("end")) for row in rows]


def test_damaged_records_are_a_finding_and_the_rest_is_read() -> None:
    records = history([(8, 0, 0), (8, 0, 1), (8, 1, 0)]).finish()
    report = audited(Damaged(records, bad=range(2, 4)))
    assert examples(report) == [("damaged", 2, 4)]
    assert report["records"] == len(records) - 2


def test_a_beginning_that_is_gone_is_a_finding_and_what_is_left_is_judged_by_itself() -> None:
    records = history([(0, 0, 0), (1, 0, 9), (0, 0, 0), (2, 0, 0)]).finish()
    report = audited(Damaged(records, first=3))
    assert examples(report) == [("gap", 0, 3)]
    assert report["clean"] is False


def test_stretches_lie_between_two_times() -> None:
    records = history([(0, 0, 0), (0, 0, 0), (0, 0, 0)]).finish()
    at_ms = [record.at_ms for record in records]

    async def main() -> None:
        log = reader(Damaged(records))
        assert await reading.stretches(log) == [Stretch(0, 0, 0, len(records))]
        assert await reading.stretches(log, since_ms=at_ms[1], until_ms=at_ms[3]) == [Stretch(0, 0, 1, 3)]
        assert await reading.stretches(log, since_ms=at_ms[3], until_ms=at_ms[1]) == [Stretch(0, 0, 3, 3)]
        assert await reading.stretches(log, since_ms=at_ms[-1] + 1) == [Stretch(0, 0, len(records), len(records))]
        with pytest.raises(Misconfigured, match="no partition 1"):
            await reading.stretches(log, partitions=[1])

    asyncio.run(main())


def test_progress_is_told_of_all_that_is_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    records = history([(0, 0, 0)]).finish()
    told: list[tuple[int, int]] = []

    async def main() -> None:
        pages = Pages(reader(Damaged(records)), [Stretch(0, 0, 0, len(records))], lambda *so_far: told.append(so_far))
        async for _ in pages.of(Stretch(0, 0, 0, len(records)), lambda damage: None):
            pass

    monkeypatch.setattr(reading, "_TELL_SECONDS", 0.0)
    asyncio.run(main())
    assert told == [(number + 1, len(records)) for number in range(len(records))]


def test_what_is_in_quarantine_is_known_with_whether_it_came_back() -> None:
    def raw(record: Quarantined | Replayed, offset: int) -> RawRecord:
        encoded = encode(record)
        return RawRecord(0, offset, 0, encoded.key, encoded.value, tuple(encoded.headers))

    back = Replayed(
        event_id=an_id("ev", 1),
        producer="operator/1",
        topic=LIFECYCLE,
        partition=3,
        offset=17,
        now_partition=3,
        now_offset=40,
    )
    aside, none = raw(quarantined(), 0), RawRecord(0, 1, 0, None, b"no record", ())
    log = Damaged([aside, none])
    assert asyncio.run(auditing.set_aside(reader(log))) == {3: {17: False}}
    log = Damaged([aside, raw(back, 1), aside._replace(offset=2)])
    assert asyncio.run(auditing.set_aside(reader(log))) == {3: {17: True}}


def test_times_are_read_as_people_write_them() -> None:
    assert reading.shown_time(reading.moment_ms("2026-11-23T18:00:00Z")) == "2026-11-23T18:00:00.000Z"
    assert reading.moment_ms("2026-11-23T18:00:00+02:00") == reading.moment_ms("2026-11-23T16:00:00Z")
    assert reading.moment_ms("2026-11-23") == reading.moment_ms("2026-11-23T00:00:00Z")
    with pytest.raises(Misconfigured, match="no time"):
        reading.moment_ms("yesterday")


def test_the_collector_is_as_it_was_after_an_audit() -> None:
    before = gc.get_threshold()
    with auditing.few_collections():
        assert gc.get_threshold() != before
    assert gc.get_threshold() == before
