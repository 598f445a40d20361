"""Holding a log against what the notary signed: neither the projector nor PostgreSQL is asked, nor believed.

What is proved: each record up to a signed offset is the one that the notary saw there, and none was in between. What is not:
the tail after the last signature, and what a record says. Whoever has valid credentials may append one: that is the audit's.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from producers.comparing import Comparison, Finding, Kind
from producers.readable import Readable
from producers.recorded import LogCut, LogDamaged, LogReplaced
from producers.signed import Signed

Place = tuple[str, int]
OVERDUE_MS: Final = 600_000
"""A record that is older and not signed is a finding: the notary was away for ten rounds, or statements were taken away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One partition. It holds the offsets `first` to `end - 1`; all below `proved` is proved, all below `signed` was signed.
    `tail_since_ms`: when the first unsigned record was appended."""

    topic: str
    partition: int
    first: int
    proved: int
    signed: int
    end: int
    tail_since_ms: int | None

    @property
    def tail(self) -> int:
        """How many records are not signed."""
        return max(0, self.end - self.signed)


@dataclass(slots=True)
class Report:
    """What came of it."""

    proofs: list[Proof] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def records(self) -> int:
        """How many were looked at."""
        return sum(proof.end - proof.first for proof in self.proofs)


Progress = Callable[[str, int, int, int], None]
"""Told topic, partition, the offset reached and the partition's end."""


async def verify(
    reader: Callable[[str], Readable],
    signed: Signed,
    topics: Sequence[str],
    *,
    now_ms: int | None,
    starts: Mapping[Place, int] | None = None,
    progress: Progress = lambda topic, partition, offset, end: None,
) -> Report:
    """Compare every record. `starts` says where partitions begin that need not begin at 0. `now_ms` None: the log is an old
    copy, whose tail nobody will sign any more. Raises `LogUnavailable` and OSError where it cannot look."""
    report = Report()
    report.findings += [Finding(kind=Kind.STATEMENTS, text=fault) for fault in signed.faults]
    named = [*topics, *sorted({topic for topic, _ in signed.heads} - set(topics))]
    for topic in named:
        async with reader(topic) as log:
            bounds = dict(await log.bounds())
            for partition in sorted({*bounds, *(number for name, number in signed.heads if name == topic)}):
                place = (topic, partition)
                head = signed.heads.get(place)
                if head is not None and head.topic_id != log.topic_id:
                    report.findings.append(_replaced(topic, f"id {log.topic_id}, not {head.topic_id}"))
                    break
                start = (starts or {}).get(place, 0)
                comparison = Comparison(place, log.topic_id, signed.points(place), start)
                first, end = bounds.get(partition, (start, start))
                try:
                    end = await _compare(log, place, comparison, first, end, progress)
                except LogReplaced as error:
                    report.findings.append(_replaced(topic, str(error)))
                    break
                _conclude(report, place, comparison, first, end, now_ms)
    return report


async def _compare(log: Readable, place: Place, comparison: Comparison, first: int, end: int, progress: Progress) -> int:
    """Read it to its end, which may have come nearer meanwhile; gives the end."""
    if first > comparison.start:
        comparison.skip(first, Kind.CUT, "the log begins after them: they were deleted")
    at = max(first, comparison.start)
    while at < end:
        try:
            async with aclosing(log.batches(place[1], at, end)) as batches:
                async for batch in batches:
                    for record in batch:
                        comparison.take(record)
                    progress(*place, batch[-1].offset + 1, end)
            at = end
        except LogDamaged as error:
            comparison.skip(error.end, Kind.DAMAGED, "they do not fit their checksum")
            at = error.end
        except LogCut as error:
            end = min(end, max(at, error.end))
            if error.first <= at:
                break
            comparison.skip(min(error.first, end), Kind.CUT, "the log lost them while it was read")
            at = error.first
    comparison.finish(end)
    return end


def _conclude(report: Report, place: Place, comparison: Comparison, first: int, end: int, now_ms: int | None) -> None:
    topic, partition = place
    since = comparison.tail_since_ms
    report.findings += comparison.findings
    report.proofs.append(
        Proof(
            topic=topic,
            partition=partition,
            first=first,
            proved=comparison.proved,
            signed=comparison.signed,
            end=end,
            tail_since_ms=since,
        )
    )
    if since is not None and now_ms is not None and now_ms - since > OVERDUE_MS:
        when = datetime.fromtimestamp(since / 1000, UTC).isoformat(timespec="seconds")
        report.findings.append(
            Finding(
                kind=Kind.UNSIGNED,
                topic=topic,
                partition=partition,
                first=comparison.signed,
                last=end - 1,
                text=f"{topic}/{partition}, from offset {comparison.signed} on: records since {when} are not signed: the"
                " notary was away, or statements were taken away",
            )
        )


def _replaced(topic: str, text: str) -> Finding:
    return Finding(kind=Kind.REPLACED, topic=topic, text=f"{topic} is another topic than the one that was signed: {text}")
