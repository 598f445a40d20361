"""A run of records through the policy: what is decoded, remembered, set aside, and noted in the table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from processors.desk import Desk, Findings
from processors.errors import TooManyQuarantined
from processors.gone import WINDOW_MS as GONE_MS
from processors.gone import Gone
from processors.presence import NOBODY, after
from processors.quarantine import MAX_VALUE_BYTES, Allowance, quarantined
from processors.recent import RecentIds
from schemas.codec import Record, encode, key_of
from schemas.events import DeliveryAttempted, EndReason, PendingSync, SessionClosed
from schemas.presence import PresenceRow
from schemas.push import Push
from schemas.quarantined import Header
from schemas.receipt import Outcome
from schemas.topics import LIFECYCLE
from tests.builders import (
    ALICE,
    BOB,
    LAPTOP,
    OTHER_SESSION,
    PHONE,
    SESSION,
    T0_MS,
    an_id,
    attempted,
    closed,
    delivered,
    entry,
    erased,
    marked,
    opened,
    pending,
    presence_row,
    read,
    recorded,
    registered,
    stored,
    told,
)

MINUTE_MS = 60_000


@dataclass
class Fetched:
    value: bytes | None
    offset: int = 0
    timestamp: int = T0_MS
    headers: Iterable[tuple[str, bytes | None]] = ()
    topic: str = LIFECYCLE
    partition: int = 0
    key: bytes | None = b"key"


@dataclass
class Reader:
    """A desk that is given one record after the other."""

    rows: Sequence[PresenceRow] = ()
    recovered: int = 0
    desk: Desk = field(init=False)
    offset: int = 0

    def __post_init__(self) -> None:
        def recover(partition: int) -> Sequence[PresenceRow]:
            self.recovered += 1
            return self.rows

        self.desk = Desk("processor/1", recover, partitions=1)

    def reads(self, *records: Record | Fetched, at_ms: int = T0_MS) -> Findings:
        """One run of these."""
        first = self.offset
        run = [self._fetched(record, first + n, at_ms) for n, record in enumerate(records)]
        self.offset = first + len(run)
        return self.desk.read(0, first, run, self.offset)

    def _fetched(self, record: Record | Fetched, offset: int, at_ms: int) -> Fetched:
        if isinstance(record, Fetched):
            record.offset = offset
            return record
        encoded = encode(record)
        return Fetched(encoded.value, offset, at_ms, encoded.headers, key=key_of(record))


def said(findings: Findings) -> list[Any]:
    return [type(outgoing.record) for outgoing in findings.decisions]


@pytest.mark.parametrize("spoil", [{"key": b"somebody"}, {"key": key_of(stored(recipient=ALICE))}, {"partition": 1}])
def test_a_record_that_stands_where_it_does_not_belong_is_set_aside(spoil: dict[str, Any]) -> None:
    record = stored(2)
    astray = replace(Fetched(encode(record).value, key=key_of(record)), **spoil)
    findings = Reader().reads(astray)
    assert findings.decisions == [] and "partition" in findings.quarantined[0].reason


def test_own_decisions_are_not_even_decoded() -> None:
    ours = [Fetched(b"broken", headers=encode(record).headers) for record in (pending(), attempted())]
    findings = Reader().reads(*ours, stored())
    assert (said(findings), findings.quarantined) == ([PendingSync], [])


def test_a_record_without_a_type_header_is_decoded_to_see() -> None:
    bare = [Fetched(encode(record).value, key=key_of(record)) for record in (pending(), registered(), stored())]
    assert said(Reader().reads(*bare)) == [PendingSync]


def test_kinds_are_counted_by_their_words() -> None:
    findings = Reader().reads(stored(1), opened(), stored(2), stored(3))
    assert findings.kinds() == {"pending_sync": 1, "delivery_attempted": 2}


def test_a_repeat_of_a_keyed_message_is_passed_over() -> None:
    reader = Reader()
    assert said(reader.reads(opened(), stored(1, keyed=True))) == [DeliveryAttempted, Push]
    findings = reader.reads(stored(1, keyed=True), at_ms=T0_MS + 10 * MINUTE_MS)
    assert (said(findings), findings.repeats) == ([], 1)


def test_a_repeat_after_ten_minutes_is_decided_again() -> None:
    reader = Reader()
    reader.reads(stored(1, keyed=True))
    assert said(reader.reads(stored(1, keyed=True), at_ms=T0_MS + 10 * MINUTE_MS + 1)) == [PendingSync]


@pytest.mark.parametrize("marker", [opened(), marked()])
def test_a_marker_that_lands_after_its_gateway_ended_the_session_brings_nothing_back(marker: Record) -> None:
    reader = Reader()
    reader.reads(opened(OTHER_SESSION), closed(reason=EndReason.FAULT))
    findings = reader.reads(marker)
    (end,) = [outgoing.record for outgoing in findings.decisions]
    assert isinstance(end, SessionClosed)
    assert (end.session_id, end.reason) == (SESSION, EndReason.FAULT)
    assert findings.rows == {}
    (push,) = [outgoing.record for outgoing in reader.reads(stored()).decisions if isinstance(outgoing.record, Push)]
    assert push.session_id == OTHER_SESSION


def test_a_session_that_others_ended_may_come_back() -> None:
    reader = Reader()
    reader.reads(opened(), replace(closed(reason=EndReason.GATEWAY_LOST), producer="processor/1"))
    assert said(reader.reads(marked(), stored())) == [DeliveryAttempted, Push]


def test_the_same_record_read_again_is_no_repeat() -> None:
    reader = Reader()
    reader.reads(stored(1, keyed=True), stored(1, keyed=True))
    reader.offset = 0
    findings = reader.reads(stored(1, keyed=True), stored(1, keyed=True))
    assert (said(findings), findings.repeats) == ([PendingSync], 1)


def test_what_is_remembered_of_keyed_messages_is_bounded() -> None:
    recent = RecentIds(window_ms=1000, limit=3)
    for number in range(10):
        assert not recent.is_repeat(stored(number).message_id, number, T0_MS)
    assert len(recent) == 3
    assert recent.is_repeat(stored(9).message_id, 20, T0_MS)
    recent.is_repeat(stored(50).message_id, 50, T0_MS + 5000)
    assert len(recent) == 1


def test_rows_are_noted_where_sessions_change() -> None:
    reader = Reader()
    findings = reader.reads(opened(), stored(), opened(OTHER_SESSION, LAPTOP), registered())
    assert {device: row and row.session_id for device, row in findings.rows.items()} == {
        PHONE: opened().session_id,
        LAPTOP: OTHER_SESSION,
    }
    assert reader.desk.sessions == 2
    assert reader.reads(stored(2)).rows == {}
    assert reader.reads(closed()).rows == {PHONE: None}
    assert reader.reads(marked(OTHER_SESSION, LAPTOP), erased()).rows == {LAPTOP: None}
    assert reader.desk.sessions == 0


def test_what_is_acknowledged_after_an_erasure_is_told_to_nobody() -> None:
    reader = Reader()
    assert len(reader.reads(stored(1), stored(2), delivered(entry(1)), erased()).receipts) == 1
    assert not reader.reads(delivered(entry(2)), read(entry(1)), read(entry(2))).receipts
    (receipt,) = reader.reads(told(entry(2))).receipts
    assert (receipt.message_id, receipt.outcome) == (an_id("msg", 2), Outcome.ERASED)
    (other,) = reader.reads(delivered(entry(3), recipient=ALICE)).receipts
    assert other.outcome is Outcome.DELIVERED


def test_erasures_are_forgotten_after_a_while() -> None:
    gone = Gone()
    gone.erased(recorded(erased(), 0))
    assert gone.before(recorded(delivered(entry(1)), 1)) and not gone.before(recorded(delivered(entry(1)), 0))
    gone.erased(recorded(erased(recipient=ALICE), 1 + GONE_MS // 1000))
    assert len(gone) == 1


def test_runs_that_follow_on_each_other_keep_sessions_live() -> None:
    reader = Reader()
    reader.reads(opened())
    (_, push) = reader.reads(stored()).decisions
    assert isinstance(push.record, Push)
    assert push.record.kind == "message"
    assert reader.recovered == 1


def test_a_run_that_does_not_follow_begins_with_the_tables_hints() -> None:
    reader = Reader(rows=[presence_row(epoch=0, opened=0, replaced=None)])
    reader.reads(opened())
    reader.offset = 40
    (_, push) = reader.reads(stored()).decisions
    assert isinstance(push.record, Push)
    assert (push.record.kind, reader.recovered) == ("remark", 2)


def test_sessions_are_recalled_before_anything_is_read_and_a_run_that_follows_keeps_them() -> None:
    reader = Reader()
    assert not reader.desk.knows(0, 40)
    reader.desk.recall(0, 40, [presence_row(epoch=0, opened=0, replaced=None)])
    assert reader.desk.knows(0, 40)
    assert [row.session_id for row in reader.desk.rows(0)] == [presence_row().session_id]
    assert (reader.desk.sessions, list(reader.desk.rows(1))) == (1, [])
    reader.offset = 40
    (_, push) = reader.reads(stored()).decisions
    assert isinstance(push.record, Push)
    assert (push.record.kind, reader.recovered) == ("remark", 0)


def test_a_partition_that_moved_away_is_forgotten() -> None:
    reader = Reader()
    reader.reads(opened())
    reader.desk.keep(frozenset({1}))
    assert reader.desk.sessions == 0
    assert said(reader.reads(stored())) == [PendingSync]


def test_a_broken_record_is_set_aside_and_what_follows_is_decided() -> None:
    bad = Fetched(b"\x00bad", headers=[("h", None)])
    findings = Reader().reads(stored(1), bad, stored(2))
    assert said(findings) == [PendingSync, PendingSync]
    (aside,) = findings.quarantined
    assert (aside.topic, aside.partition, aside.offset, aside.key) == (LIFECYCLE, 0, 1, b"key")
    assert (aside.value, aside.headers) == (b"\x00bad", (Header(name="h", value=None),))
    records, partitions = findings.records()
    assert records[-1] == aside
    assert partitions == [0, 0, None]


def test_the_same_broken_record_has_the_same_id() -> None:
    one, again = (quarantined(Fetched(b"bad", offset=3), "why", f"processor/{n}") for n in (1, 2))
    assert one.event_id == again.event_id
    assert quarantined(Fetched(b"bad", offset=4), "why", "processor/1").event_id != one.event_id


def test_a_huge_broken_record_is_cut_to_fit() -> None:
    aside = quarantined(Fetched(bytes(MAX_VALUE_BYTES + 1)), "why", "processor/1")
    assert aside.value == bytes(MAX_VALUE_BYTES)
    assert "cut" in aside.reason


def test_too_many_broken_records_stop_the_role() -> None:
    reader = Reader()
    reader.reads(*(Fetched(b"bad") for _ in range(100)))
    with pytest.raises(TooManyQuarantined, match="101 of the last 1000"):
        reader.reads(Fetched(b"bad"))


def test_broken_records_far_apart_are_borne() -> None:
    allowance = Allowance(limit=2, window=10)
    for _ in range(50):
        allowance.bad("why")
        for _ in range(4):
            allowance.good()
    with pytest.raises(TooManyQuarantined):
        for _ in range(3):
            allowance.bad("why")


def test_facts_of_others_leave_the_sessions_as_they_are() -> None:
    here = after(NOBODY, recorded(opened(), 0))
    for fact in (registered(), read(entry(1)), delivered(entry(1)), pending(), closed(OTHER_SESSION)):
        assert after(here, recorded(fact, 5)) is here
    assert here[PHONE].row.recipient == BOB
