"""`restante audit`: every record of the log judged by the ones before it, partition by partition, in constant memory."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Final

from deploy.evidence.reading import Pages, Progress, Stretch, stretches
from processors.audit.findings import MEANINGS, Findings, Kind
from processors.audit.latency import Latency
from processors.audit.notes import LATENCIES, Counts, Notes
from processors.audit.partition import PartitionAudit
from processors.audit.shelves import Disk
from producers.recorded import LogReader
from schemas.codec import DecodeError, decode
from schemas.lifecycle import Status
from schemas.quarantined import Quarantined, Replayed
from schemas.topics import LIFECYCLE

MOST_FINDINGS: Final = 100
_NEW_OBJECTS: Final = 50_000
_SUMMED: Final = tuple(field.name for field in fields(Counts) if field.type is int and field.name != "clock_back_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be audited. `only`: the record keys of the accounts that are looked at (None: all). `aside`: see
    `set_aside`."""

    only: frozenset[bytes] | None
    now_ms: int
    stuck_after_ms: int
    aside: Mapping[int, Mapping[int, bool]]


async def set_aside(quarantine: LogReader) -> dict[int, dict[int, bool]]:
    """By partition the offsets of the log's records that are in quarantine, and whether each was put back at another
    place."""
    found: dict[int, dict[int, bool]] = {}
    for stretch in await stretches(quarantine):
        async for records in quarantine.batches(stretch.partition, stretch.start, stretch.end):
            for raw in records:
                try:
                    one = decode(raw.value)
                except DecodeError:
                    continue
                if isinstance(one, Quarantined | Replayed) and one.topic == LIFECYCLE:
                    places = found.setdefault(one.partition, {})
                    places[one.offset] = places.get(one.offset, False) or isinstance(one, Replayed)
    return found


@contextmanager
def few_collections() -> Iterator[None]:
    """The garbage collector looks seldom: an audit makes many objects and hardly a cycle."""
    before = gc.get_threshold()
    gc.set_threshold(_NEW_OBJECTS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


async def audit(
    reader: LogReader, partitions: int, todo: Sequence[Stretch], asked: Asked, progress: Progress
) -> list[tuple[Stretch, Notes]]:
    """What there is to say of each stretch."""
    pages = Pages(reader, todo, progress)
    done = []
    for stretch in todo:
        with Disk() as disk:
            one = PartitionAudit(
                stretch.partition,
                partitions,
                disk,
                start=stretch.start,
                only=asked.only,
                aside=asked.aside.get(stretch.partition),
                most_findings=MOST_FINDINGS,
            )
            if stretch.first and stretch.start == stretch.first:
                text = f"the records before offset {stretch.first} are gone"
                one.notes.find(Kind.GAP, 0, text, end=stretch.first)
            async for records in pages.of(stretch, lambda damage, one=one: one.damaged(damage.first, damage.end)):  # type: ignore[misc]
                for record in records:
                    one.read(record)
            one.close(stretch.end, asked.now_ms, asked.stuck_after_ms)
            done.append((stretch, one.notes))
    return done


def document(reader: LogReader, done: Sequence[tuple[Stretch, Notes]], seconds: float) -> dict[str, Any]:
    """The report, for programs; `deploy.commands.evidence` makes tables of it."""
    findings, latencies = Findings(MOST_FINDINGS), {name: Latency() for name in LATENCIES}
    counts: Counter[str] = Counter()
    states: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for _, notes in done:
        findings.include(notes.findings.kept, notes.findings.counts)
        counts.update({name: getattr(notes.counts, name) for name in _SUMMED})
        states.update(notes.counts.states)
        kinds.update(notes.counts.kinds)
        for name, latency in notes.latencies.items():
            latencies[name].include(latency)
    return {
        "clean": not findings.counts,
        "topic_id": str(reader.topic_id),
        "records": counts["records"],
        "facts": dict(sorted(kinds.items())),
        "messages": {status.label: states[status.label] for status in Status if status is not Status.CREATED},
        "conservation": [_conserved(stretch, notes.counts) for stretch, notes in done],
        "allowed": {
            **{name: counts[name] for name in ("late", "redecided", "again", "came_back", "earlier", "other_policy")},
            "clock_back_ms": max((notes.counts.clock_back_ms for _, notes in done), default=0),
        },
        "latencies_ms": {
            name: {"count": one.count, "p50": one.percentile(50), "p99": one.percentile(99)}
            for name, one in latencies.items()
        },
        "findings": {
            kind.value: {"count": findings.counts[kind], "means": MEANINGS[kind][0], "do": MEANINGS[kind][1]}
            for kind in Kind
            if findings.counts[kind]
        },
        "examples": [
            {
                "kind": one.kind.value,
                "log": {"partition": one.partition, "offset": one.offset}
                | ({"end": one.end} if one.end is not None else {}),
                **({"message_id": one.message_id} if one.message_id else {}),
                "text": one.text,
            }
            for one in findings.kept
        ],
        "seconds": round(seconds, 3),
    }


def _conserved(stretch: Stretch, counts: Counts) -> dict[str, Any]:
    """The equation of one partition, at one offset."""
    return {
        "partition": stretch.partition,
        "start": stretch.start,
        "end": stretch.end,
        "stored": counts.stored,
        "distinct": counts.distinct,
        "repeats": counts.repeats,
        "states": dict(counts.states),
    }


def now_ms() -> int:
    """The clock that says how long something has been stuck."""
    return time.time_ns() // 1_000_000
