"""The audit of one partition: silent about what the service writes, loud about everything else, and at one with `evolve`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.audit.findings import MEANINGS, Kind
from processors.audit.latency import Latency
from processors.audit.notes import Notes
from processors.audit.partition import PartitionAudit
from processors.audit.shelves import Disk
from schemas.events import (
    DeliveryAttempted,
    EndReason,
    Fact,
    MessagesDelivered,
    MessagesRead,
    MessageStored,
    PendingSync,
    SessionMarked,
    SessionOpened,
)
from schemas.lifecycle import INITIAL, Recipient, evolve
from schemas.raw import RawRecord
from tests.builders import ALICE, an_id
from tests.histories import PARTITIONS, World, history, raw, understood

STEPS = st.lists(st.tuples(st.integers(0, 13), st.integers(0, 1), st.integers(0, 11)), min_size=20, max_size=60)
LATER_MS = 10**13
NEVER_MS = 10**14


def audited(
    records: Sequence[RawRecord], *, near_rows: int = 1000, start: int = 0, stuck_after_ms: int = NEVER_MS, **options: Any
) -> Notes:
    with Disk() as disk:
        audit = PartitionAudit(0, PARTITIONS, disk, start=start, near_rows=near_rows, **options)
        for record in records:
            audit.read(record)
        audit.close(records[-1].offset + 1 if records else start, LATER_MS, stuck_after_ms)
        return audit.notes


def found(records: Sequence[RawRecord], **options: Any) -> list[tuple[Kind, int]]:
    return [(finding.kind, finding.offset) for finding in audited(records, **options).findings.kept]


def states(records: Sequence[RawRecord]) -> Counter[str]:
    """Messages by state, as the fold of the log has them."""
    accounts: dict[UUID, Recipient] = {}
    for record in records:
        recorded = understood(record)
        accounts[recorded.fact.recipient] = evolve(accounts.get(recorded.fact.recipient, INITIAL), recorded)
    return Counter(message.status.label for state in accounts.values() for message in state.messages.values())


@settings(max_examples=120)
@given(STEPS, st.sampled_from([1, 2, 5, 1000]))
def test_nothing_is_found_in_what_the_service_writes_and_the_states_are_those_of_the_fold(
    steps: list[tuple[int, int, int]], near_rows: int
) -> None:
    records = history(steps).finish()
    notes = audited(records, near_rows=near_rows)
    assert notes.findings.kept == []
    assert +notes.counts.states == states(records)
    assert notes.counts.stored == notes.counts.distinct + notes.counts.repeats
    assert notes.counts.records == len(records)


@given(STEPS, st.integers(0, 200))
def test_nothing_is_found_in_a_part_of_it_whatever_came_before(steps: list[tuple[int, int, int]], start: int) -> None:
    records = history(steps).finish()
    start = min(start, len(records))
    assert found(records[start:], start=start) == []


def a_world() -> World:
    """Alice-like traffic: a pushed and acknowledged message, one that waits, a session that ends, a read."""
    return history(
        [(8, 0, 0), (4, 0, 0), (1, 0, 9), (0, 0, 0), (1, 0, 9), (2, 0, 0), (9, 0, 0), (3, 0, 2), (1, 0, 9), (6, 0, 0)]
    )


def test_the_recorded_log_of_the_mutations_is_clean_and_has_every_kind_of_record_that_they_touch() -> None:
    records = a_world().finish()
    assert found(records) == []
    kinds = {type(understood(record).fact) for record in records}
    assert {MessageStored, DeliveryAttempted, PendingSync, SessionOpened, MessagesDelivered, MessagesRead} <= kinds


def test_a_record_that_was_dropped_is_a_gap() -> None:
    records = a_world().finish()
    for at in range(len(records) - 1):
        assert (Kind.GAP, at) in found([*records[:at], *records[at + 1 :]])


def test_a_log_that_ends_too_soon_is_a_gap_and_one_that_begins_late_too() -> None:
    records = a_world().finish()
    with Disk() as disk:
        audit = PartitionAudit(0, PARTITIONS, disk)
        for record in records[2:-1]:
            audit.read(record)
        audit.close(len(records), LATER_MS, NEVER_MS)
    gaps = [finding for finding in audit.notes.findings.kept if finding.kind is Kind.GAP]
    assert [(gap.offset, gap.end) for gap in gaps] == [(0, 2), (len(records) - 1, len(records))]


def renumbered(records: Sequence[RawRecord]) -> list[RawRecord]:
    """As if whoever did it had moved all that follows."""
    return [record._replace(offset=offset) for offset, record in enumerate(records)]


def test_a_message_dropped_without_a_gap_leaves_records_about_it() -> None:
    records = a_world().finish()
    at = next(at for at, record in enumerate(records) if isinstance(understood(record).fact, MessageStored))
    kinds = {kind for kind, _ in found(renumbered([*records[:at], *records[at + 1 :]]))}
    assert kinds == {Kind.BEFORE_STORED, Kind.NOT_REPLAYED, Kind.CONTRADICTION} or Kind.BEFORE_STORED in kinds


def test_records_that_were_swapped_contradict_each_other() -> None:
    records = list(a_world().finish())
    for at, record in enumerate(records[:-1]):
        if isinstance(understood(record).fact, MessageStored):
            records[at : at + 2] = records[at + 1], records[at]
            assert {kind for kind, _ in found(renumbered(records))} & {Kind.BEFORE_STORED, Kind.CONTRADICTION}
            return
    raise AssertionError("no message")


def test_a_message_that_was_written_twice_is_found_and_other_repeats_are_counted() -> None:
    records = a_world().finish()
    for at, record in enumerate(records):
        fact = understood(record).fact
        again = [*records, record._replace(offset=len(records))]
        notes = audited(again)
        if isinstance(fact, MessageStored):
            assert [(one.kind, one.offset) for one in notes.findings.kept] == [(Kind.DUPLICATE, len(records))]
        else:
            assert notes.findings.kept == [], f"{type(fact).__name__} at {at}"
            assert notes.counts.again + notes.counts.redecided == 1


def changed(kind: type[Fact], **changes: Any) -> tuple[list[RawRecord], int]:
    """The log with the first fact of this kind changed, and its offset."""
    records = list(a_world().finish())
    at = next(at for at, record in enumerate(records) if isinstance(understood(record).fact, kind))
    records[at] = raw(replace(understood(records[at]).fact, **changes), at, records[at].at_ms)
    return records, at


STRANGER = an_id("acct", 777)


def inserted(make: Callable[[World], Fact]) -> tuple[list[RawRecord], int]:
    """The log with one more fact at its end, and its offset."""
    world = a_world()
    records = [*world.finish()]
    records.append(raw(make(world), len(records), world.now_ms))
    return records, len(records) - 1


def forged(world: World, **changes: Any) -> MessagesDelivered:
    """A good acknowledgement of the first message, but for the changes."""
    account = world.accounts[0]
    world.acknowledge(account, 0)
    fact = understood(world.records.pop()).fact
    return replace(fact, **changes)  # type: ignore[type-var, return-value]


def test_an_acknowledgement_by_another_account_is_forged() -> None:
    def other_account(world: World) -> Fact:
        return forged(world, recipient=world.accounts[1].user, device_id=world.accounts[1].devices[0])

    records, at = inserted(other_account)
    assert found(records) == [(Kind.FORGED_ACK, at)]


@pytest.mark.parametrize("device", ["another_accounts", "nobodys"])
def test_an_acknowledgement_by_another_device_is_forged(device: str) -> None:
    def other_device(world: World) -> Fact:
        return forged(world, device_id=world.accounts[1].devices[0] if device == "another_accounts" else an_id("dev", 5000))

    records, at = inserted(other_device)
    assert found(records) == [(Kind.FORGED_ACK, at)]


def test_an_acknowledgement_on_a_session_that_never_was_is_forged() -> None:
    records, at = inserted(lambda world: forged(world, session_id=an_id("sess", 5000)))
    assert found(records) == [(Kind.FORGED_ACK, at)]


def test_read_before_stored_is_found_at_the_reading() -> None:
    world = history([(6, 0, 0)])
    world.store(world.accounts[0], 0)
    world.read(world.accounts[0], 0)
    at = len(world.records) - 2
    swapped = [*world.records[:at], world.records[at + 1], world.records[at]]
    assert (Kind.BEFORE_STORED, at) in found(renumbered(swapped))


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        (PendingSync, {"causation_id": an_id("ev", 9999)}, Kind.UNCAUSED),
        (PendingSync, {"causation_id": None}, Kind.UNCAUSED),
        (PendingSync, {"reason": EndReason.ACK_TIMEOUT}, Kind.NOT_REPLAYED),
        (PendingSync, {"event_id": an_id("ev", 9999)}, Kind.NOT_REPLAYED),
        (PendingSync, {"position": 0}, Kind.CONTRADICTION),
        (PendingSync, {"message_id": an_id("msg", 9999)}, Kind.BEFORE_STORED),
        (PendingSync, {"producer": "api/1"}, Kind.WRONG_WRITER),
        (DeliveryAttempted, {"sessions": ()}, Kind.NOT_REPLAYED),
        (MessageStored, {"producer": "processor/1"}, Kind.WRONG_WRITER),
        (SessionOpened, {"device_id": an_id("dev", 9999)}, Kind.FORGED_SESSION),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else next(iter(value)) if isinstance(value, dict) else value,
)
def test_a_record_that_was_changed_is_found(kind: type[Fact], changes: dict[str, Any], expected: Kind) -> None:
    records, at = changed(kind, **changes)
    assert (expected, at) in found(records)


def test_evidence_that_the_log_does_not_bear_out_is_found() -> None:
    records = a_world().finish()
    at, fact = next(
        (at, fact) for at, record in enumerate(records) if isinstance(fact := understood(record).fact, DeliveryAttempted)
    )
    (seen,) = fact.sessions
    for wrong in (
        replace(seen, epoch=seen.epoch + 1),
        replace(seen, gateway="gateway/2"),
        replace(seen, session_id=STRANGER),
    ):
        records, at = changed(DeliveryAttempted, sessions=(wrong,))
        assert (Kind.NOT_REPLAYED, at) in found(records)


def test_an_epoch_of_a_session_that_was_never_opened_is_found() -> None:
    def unheard_of(world: World) -> Fact:
        device = world.accounts[0].devices[0]
        return SessionMarked(
            session_id=STRANGER, device_id=device, gateway="gateway/1", push_partition=0, **world.common(world.accounts[0])
        )

    records, at = inserted(unheard_of)
    assert found(records) == [(Kind.UNCAUSED, at)]


def test_what_is_no_fact_of_this_partition_is_found() -> None:
    records = list(a_world().finish())
    good = records[0]
    assert good.value is not None
    records += [
        good._replace(value=b"no record"),
        good._replace(value=good.value[:-1]),
        good._replace(key=str(ALICE).encode()),
        good._replace(headers=(("ce_type", b"restante.pending_sync.v1"),)),
    ]
    notes = found(renumbered(records))
    at = len(records) - 4
    assert notes == [(Kind.UNREADABLE, at), (Kind.UNREADABLE, at + 1), (Kind.MISPLACED, at + 2), (Kind.MISLABELLED, at + 3)]


def test_a_record_that_came_back_from_quarantine_counts_at_its_new_place() -> None:
    """What an old reader could not read, a new one can; the others never counted it where it stood first."""
    world = history([(0, 0, 0)])
    first = len(world.records) - 1
    records = [*world.records[:-1], world.records[-1]._replace(value=b"a newer version's")]
    world.append(understood(world.records[-1]).fact)
    world.undecided = len(records)
    again = world.finish()
    assert found([*records, *again[len(records) :]], aside={first: True}) == []
    notes = audited(again, aside={first: True})
    assert (notes.findings.kept, notes.counts.came_back, notes.counts.stored) == ([], 1, 1)
    assert found(again[: len(records)], aside={first: False}) == [(Kind.UNREADABLE, first)]


def test_a_device_that_acts_long_after_its_removal_is_found_and_one_that_was_on_its_way_is_not() -> None:
    world = history([(0, 0, 0), (1, 0, 9), (12, 0, 0)])
    world.register(world.accounts[0], 0)
    removed = next(fact for record in world.records if "Removed" in type(fact := understood(record).fact).__name__)
    for later_ms, expected in ((1000, []), (3_600_000, [Kind.AFTER_END])):
        fact = forged(world, device_id=removed.device_id)  # type: ignore[union-attr]
        records = [*world.finish()]
        records.append(raw(fact, len(records), world.now_ms + later_ms))
        assert [kind for kind, _ in found(records)] == expected


def test_what_nobody_decided_on_is_stuck_after_the_limit() -> None:
    world = history([(0, 0, 0)])
    assert found(world.records, stuck_after_ms=1) == [(Kind.STUCK, 2)]
    assert found(world.records) == []
    assert found(world.finish(), stuck_after_ms=1) == []


def test_only_the_accounts_that_were_asked_for_are_looked_at() -> None:
    world = history([(0, 0, 0), (0, 1, 0), (0, 1, 0)])
    records = list(world.finish())
    notes = audited(records, only=frozenset([str(world.accounts[1].user).encode()]))
    assert (notes.counts.stored, sum(notes.counts.states.values())) == (2, 2)
    assert notes.findings.kept == []


def test_no_more_findings_are_kept_than_wanted_and_all_are_counted() -> None:
    records = a_world().finish()
    notes = audited([record._replace(value=b"no record") for record in records], most_findings=3)
    assert (len(notes.findings.kept), notes.findings.counts[Kind.UNREADABLE]) == (3, len(records))


def test_every_kind_of_finding_has_a_meaning_and_a_remedy() -> None:
    assert MEANINGS.keys() == set(Kind)
    documented = Path(__file__).parents[2].joinpath("docs/evidence.md").read_text()
    for kind, (meaning, _) in MEANINGS.items():
        assert f"| `{kind}` | {meaning} |" in documented


@given(st.lists(st.integers(0, 10**9), min_size=1))
def test_percentiles_are_near_the_true_ones(times: list[int]) -> None:
    latency = Latency()
    for milliseconds in times:
        latency.add(milliseconds)
    for percent in (50, 99, 100):
        true = sorted(times)[max(0, -(-len(times) * percent // 100) - 1)]
        got = latency.percentile(percent)
        assert got is not None and true * 31 / 32 - 1 <= got <= true


def test_times_of_any_number_take_little_memory() -> None:
    latency = Latency()
    for milliseconds in range(0, 1_000_000, 7):
        latency.add(milliseconds)
    assert len(latency.classes) < 600


def test_a_removed_device_ends_what_its_sessions_had_in_flight() -> None:
    world = history([(4, 0, 0), (0, 0, 0), (1, 0, 9), (12, 0, 0)])
    assert states(world.finish()) == {"PendingSync": 1}
    assert +audited(world.records).counts.states == {"PendingSync": 1}


def test_evidence_that_names_a_later_marker_of_a_session_that_was_there_is_good() -> None:
    """A processor that takes records again has the table's row, which may be ahead of them."""
    world = history([(4, 0, 0), (0, 0, 0), (7, 0, 0), (1, 0, 11)])
    (at,) = [at for at, record in enumerate(world.records) if isinstance(understood(record).fact, DeliveryAttempted)]
    fact = understood(world.records[at]).fact
    assert isinstance(fact, DeliveryAttempted)
    ahead = replace(fact, sessions=(replace(fact.sessions[0], epoch=fact.position + 1, live=False),))
    records = [*world.records[:at], raw(ahead, at, world.now_ms), *world.records[at + 1 :]]
    assert found(records) == []
    assert found(records[3:], start=3) == []
