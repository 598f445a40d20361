"""A log held against its statements: whatever was done to either is named, and a clean one is clean."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from producers.comparing import Kind
from producers.signed import Anchor
from producers.statements import NoStatements
from producers.verifying import OVERDUE_MS
from schemas.chain import Chain
from schemas.raw import RawRecord
from schemas.statements import line_hash, read_line
from schemas.topics import LIFECYCLE
from tests.notarized import NOW_MS, SIGNER, Notarized, record

Records = list[RawRecord]


@pytest.fixture
def log(tmp_path: Path) -> Notarized:
    """Offsets 0 to 9, 10 to 29 and 30 to 59 were signed, 60 to 64 not."""
    made = Notarized(tmp_path)
    made.sign(10, 20, 30)
    made.topic.grow(5)
    return made


def flip(records: Records, at: int) -> None:
    value = bytearray(records[at].value or b"")
    value[-1] ^= 1
    records[at] = records[at]._replace(value=bytes(value))


def drop(records: Records, at: int) -> None:
    del records[at]
    renumber(records, at)


def insert(records: Records, at: int) -> None:
    records.insert(at, record(0, at, b"never said"))
    renumber(records, at)


def swap(records: Records, at: int) -> None:
    records[at], records[at + 1] = records[at + 1], records[at]
    renumber(records, at)


def repeat(records: Records, at: int) -> None:
    records.insert(at + 1, records[at])
    renumber(records, at)


def renumber(records: Records, at: int) -> None:
    for offset in range(at, len(records)):
        records[offset] = records[offset]._replace(offset=offset)


def test_a_clean_log_is_clean_and_the_tail_is_not_proved(log: Notarized) -> None:
    report = log.verify()
    assert report.findings == []
    (proof, empty) = report.proofs
    assert (proof.first, proof.proved, proof.signed, proof.end, proof.tail) == (0, 60, 60, 65, 5)
    assert proof.tail_since_ms == log.topic.held[0][60].at_ms
    assert (empty.partition, empty.proved, empty.end, empty.tail) == (1, 0, 0, 0)


@pytest.mark.parametrize("mutate", [flip, drop, insert, swap, repeat], ids=lambda mutate: str(mutate.__name__))
def test_every_mutation_anywhere_in_what_was_signed_is_named_by_its_offset(
    log: Notarized, mutate: Callable[[Records, int], None]
) -> None:
    clean = list(log.topic.held[0])
    for at in range(0, 59):
        log.topic.held[0] = list(clean)
        mutate(log.topic.held[0], at)
        first, *others = log.verify().findings
        expected = at + 1 if mutate is repeat else at
        assert first.kind is Kind.CHANGED
        assert (first.first, first.last) == (expected, expected), mutate
        assert {one.kind for one in others} <= {Kind.CHANGED, Kind.CUT}


def test_many_mutations_at_once_are_never_overlooked(log: Notarized) -> None:
    chance = random.Random(6)
    clean = list(log.topic.held[0])
    for _ in range(200):
        log.topic.held[0] = list(clean)
        places = sorted({chance.randrange(59) for _ in range(chance.randint(1, 4))})
        for at in places:
            chance.choice([flip, swap])(log.topic.held[0], at)
        report = log.verify()
        if [one for one in log.topic.held[0][:60]] == clean[:60]:
            continue
        touched = next(at for at in range(60) if log.topic.held[0][at] != clean[at])
        assert report.findings[0].first == touched
        assert report.proofs[0].proved <= touched


def test_each_signed_stretch_that_was_touched_is_named_on_its_own(log: Notarized) -> None:
    for at in (3, 7, 40):
        flip(log.topic.held[0], at)
    report = log.verify()
    assert [one.first for one in report.findings] == [3, 40]
    assert "up to 9, nothing can be said" in report.findings[0].text
    assert report.proofs[0].proved == 0


def test_what_is_moved_is_missed_where_it_was_and_found_where_it_is(tmp_path: Path) -> None:
    log = Notarized(tmp_path)
    log.sign(10)
    log.sign(10, partition=1)
    there = log.topic.held[0][4]
    log.topic.held[1][6] = there._replace(partition=1, offset=6)
    del log.topic.held[0][4]
    report = log.verify()
    assert [(one.kind, one.partition, one.first) for one in report.findings] == [(Kind.MISSING, 0, 4), (Kind.CHANGED, 1, 6)]


def test_a_time_key_or_header_counts_as_much_as_a_value(log: Notarized) -> None:
    clean = list(log.topic.held[0])
    for change in ({"at_ms": 1}, {"key": b"kex"}, {"headers": ()}, {"value": None}):
        log.topic.held[0] = list(clean)
        log.topic.held[0][12] = clean[12]._replace(**change)  # type: ignore[arg-type]
        assert [one.first for one in log.verify().findings] == [12]


def test_offsets_that_are_not_there_are_named(log: Notarized) -> None:
    del log.topic.held[0][11:15]
    del log.topic.held[0][58 - 4 :]
    found = [(one.kind, one.first, one.last) for one in log.verify().findings]
    assert found == [(Kind.MISSING, 11, 14), (Kind.CUT, 58, 59)]


def test_a_log_whose_beginning_was_deleted(log: Notarized) -> None:
    del log.topic.held[0][:12]
    report = log.verify()
    assert [(one.kind, one.first, one.last) for one in report.findings] == [(Kind.CUT, 0, 11)]
    assert report.proofs[0].proved == 0


def test_a_topic_made_anew_is_another_one(log: Notarized) -> None:
    log.topic.topic_id = UUID(int=10)
    assert [one.kind for one in log.verify().findings] == [Kind.REPLACED]


def test_a_partition_that_is_gone(log: Notarized) -> None:
    del log.topic.held[0]
    assert [(one.kind, one.first, one.last) for one in log.verify().findings] == [(Kind.CUT, 0, 59)]


def test_a_tail_that_nobody_signed_for_long_is_a_finding(log: Notarized) -> None:
    log.now_ms = log.topic.held[0][60].at_ms + OVERDUE_MS + 1
    assert [(one.kind, one.first, one.last) for one in log.verify().findings] == [(Kind.UNSIGNED, 60, 64)]


# -- what can be done to the statements


def faults(log: Notarized) -> list[str]:
    report = log.verify()
    assert {one.kind for one in report.findings} <= {Kind.STATEMENTS}
    return [one.text.partition(": ")[2] for one in report.findings]


def test_a_forged_statement_is_noticed_and_not_believed(log: Notarized) -> None:
    lines = log.lines()
    statement, signature = read_line(lines[1])
    (point,) = statement.points
    chain = Chain(point.topic_id, 0, read_line(lines[0])[0].points[0].link)
    flip(log.topic.held[0], 15)
    for one in log.topic.held[0][10:30]:
        chain.add(one.at_ms, one.key, one.value, one.headers)
    lines[1] = replace(statement, points=(replace(point, h=chain.h),)).line(signature)
    log.keep(lines)
    found = log.verify().findings
    assert [one.text.partition(": ")[2] for one in found if one.kind is Kind.STATEMENTS] == [
        "statement 2 is not signed by this key",
        "statement 2 missing",
    ]
    assert [(one.first, one.last) for one in found if one.kind is Kind.CHANGED] == [(10, 30)]


def test_every_byte_of_a_statement_counts(log: Notarized) -> None:
    lines = log.lines()
    chance = random.Random(1)
    for at in [0, len(lines[1]) - 1, *(chance.randrange(len(lines[1])) for _ in range(60))]:
        changed = bytearray(lines[1])
        changed[at] ^= 1
        log.keep([lines[0], bytes(changed), lines[2]])
        assert len(faults(log)) == 2, at


def test_a_statement_that_was_taken_out_is_missed(log: Notarized) -> None:
    first, second, third = log.lines()
    log.keep([first, third])
    assert faults(log) == ["statement 2 missing"]
    log.keep([second, third])
    assert faults(log) == ["statement 1 missing"]


def test_statements_out_of_order_or_repeated_are_noticed(log: Notarized) -> None:
    first, second, third = log.lines()
    log.keep([first, third, second])
    assert faults(log) == [
        "statement 2 missing",
        "statement 2 stands after statement 3: repeated, or out of order",
    ]
    log.keep([first, second, second, third])
    assert faults(log) == ["statement 2 stands after statement 2: repeated, or out of order"]


def test_a_statement_of_another_series_by_the_same_key_does_not_fit(log: Notarized, tmp_path: Path) -> None:
    other = Notarized(tmp_path / "other", now_ms=NOW_MS + 1)
    other.sign(10, 20, 30)
    first, second, third = log.lines()
    log.keep([first, other.lines()[1], third])
    assert [text.partition(" was")[0] for text in faults(log)] == ["statement 2", "statement 3"]
    log.keep([other.lines()[0], second, third])
    assert [text.partition(" was")[0] for text in faults(log)] == ["statement 2"]


def test_marks_that_fit_do_not_prove_a_record(log: Notarized) -> None:
    """One wrong record in 65,536 has the mark of the right one: the signed h tells, and names the stretch."""
    lines = log.lines()
    flip(log.topic.held[0], 45)
    statement, _ = read_line(lines[2])
    (point,) = statement.points
    chain = Chain(point.topic_id, 0, read_line(lines[1])[0].points[0].link)
    marks = b"".join(chain.add(one.at_ms, one.key, one.value, one.headers)[:2] for one in log.topic.held[0][30:60])
    log.keep([*lines[:2], SIGNER.line(replace(statement, points=(replace(point, marks=marks),)))])
    assert [(one.kind, one.first, one.last) for one in log.verify().findings] == [(Kind.CHANGED, 30, 59)]


def test_the_same_words_in_other_bytes_are_another_line(log: Notarized) -> None:
    first, second, third = log.lines()
    log.keep([first, second.replace(b'"number":2', b'"number": 2'), third])
    assert faults(log)[0] == "this line says the same as a statement, but not in its bytes"


def test_a_directory_that_changes_while_it_is_read_is_not_believed(log: Notarized) -> None:
    signed = log.signed()
    first, second, third = log.lines()
    log.keep([first, second.replace(b'"last":29', b'"last":28'), third])
    with pytest.raises(OSError, match="was changed while it was read"):
        list(signed.points((LIFECYCLE, 0)))


def test_statements_cut_off_at_the_end_are_missed_by_who_noted_one(log: Notarized) -> None:
    lines = log.lines()
    known = Anchor(3, line_hash(lines[2]))
    assert log.verify(known).findings == []
    log.keep(lines[:2])
    assert log.verify().findings == []  # nothing in the directory tells; the tail is longer, and soon overdue
    (found,) = log.verify(known).findings
    assert "statement 3" in found.text and "is not there" in found.text


def test_bytes_that_are_no_statement_are_noticed(log: Notarized) -> None:
    first, second, third = log.lines()
    log.keep([first, b"{}", second, third])
    assert faults(log) == ["this line is no statement: KeyError"]
    log.keep([first, second, third, b"garbage"])
    assert faults(log) == ["this line is no statement: JSONDecodeError"]


def test_without_a_statement_nothing_can_be_said(tmp_path: Path) -> None:
    log = Notarized(tmp_path)
    log.sign(1)
    log.keep([])
    with pytest.raises(NoStatements):
        log.verify()
