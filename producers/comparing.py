"""One partition, record by record, held against what was signed of it. Pure: records and points in, findings out.

A signature under h proves every record up to it. Where h is not what was signed, the marks name the first record that is not
as it was; the ones after it, up to the next signed h, cannot be judged (their h depends on it). From that h on all is
judged again, so each signed stretch that was touched is named on its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from schemas.chain import Chain, Link
from schemas.raw import RawRecord
from schemas.statements import MARK_BYTES, Point


class Kind(StrEnum):
    """What can be wrong."""

    CHANGED = "changed"
    MISSING = "missing"
    DAMAGED = "damaged"
    CUT = "cut"
    REPLACED = "replaced"
    UNSIGNED = "unsigned"
    STATEMENTS = "statements"
    FILES = "files"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be. `first` to `last` are offsets; of CHANGED the first that is known to differ."""

    kind: Kind
    text: str
    topic: str | None = None
    partition: int | None = None
    first: int | None = None
    last: int | None = None


class Comparison:
    """`points` are the partition's parts of the statements, in order; `start` is the offset that it must begin with."""

    def __init__(self, place: tuple[str, int], topic_id: UUID, points: Iterator[Point], start: int) -> None:
        self._place = place
        self._topic_id = topic_id
        self._points = points
        self._point = next(points, None)
        self._next = self._since = start
        self._chain: Chain | None = self._from(Link()) if start == 0 else None
        self.findings: list[Finding] = []
        self.start = start
        self.proved = start
        """The offset after the last record that is proved, with all records before it."""
        self.signed = start
        """The offset after the last record that was signed."""
        self.tail_since_ms: int | None = None
        """When the first record was appended that is not signed."""
        self._reach(start)
        if self._chain is None:
            self._find(Kind.MISSING, start, start, "no statement ends before this record, where the files begin")

    def take(self, record: RawRecord) -> None:
        """The next record that the log gives."""
        offset = record.offset
        if offset != self._next:
            if offset < self._next:
                self._find(Kind.CHANGED, offset, offset, f"offset {offset} comes again after {self._next - 1}")
                return
            self.skip(offset, Kind.MISSING, "the log has no record there")
        self._next = offset + 1
        point = self._point
        if point is None:
            if self.tail_since_ms is None:
                self.tail_since_ms = record.at_ms
            return
        if self._chain is not None:
            h = self._chain.add(record.at_ms, record.key, record.value, record.headers)
            at = MARK_BYTES * (offset - point.first)
            if offset >= point.first and h[:MARK_BYTES] != point.marks[at : at + MARK_BYTES]:
                self._differs(offset if self._since >= point.first else self._since, offset, point.last)
            elif offset == point.last and h != point.h:
                self._differs(self._since, offset, point.last)
        if offset == point.last:
            self._pass(point)

    def skip(self, to: int, kind: Kind, why: str) -> None:
        """The records before `to` cannot be had."""
        self._find(kind, self._next, to - 1, why)
        self._chain = None
        self._next = to
        self._reach(to)

    def finish(self, end: int) -> None:
        """The log ends at this offset."""
        if self._next < end:
            self.skip(end, Kind.MISSING, "the log has no record there")
        lost = self._point
        while self._point is not None:
            lost = self._point
            self.signed = max(self.signed, lost.last + 1)
            self._point = next(self._points, None)
        if lost is not None and lost.last >= end:
            self._find(Kind.CUT, end, lost.last, "they were signed, and the log ends before them")

    def _reach(self, offset: int) -> None:
        """Pass the points that end before this offset; the chain goes on from one that ends just there."""
        while self._point is not None and self._point.last < offset:
            here = self._point
            self.signed = max(self.signed, here.last + 1)
            if here.last == offset - 1:
                self._chain, self._since = self._from(here.link), offset
            self._point = next(self._points, None)

    def _pass(self, point: Point) -> None:
        """The last record of a point has been seen."""
        self.signed = self._since = point.last + 1
        if self._chain is None:
            self._chain = self._from(point.link)
        elif not self.findings:
            self.proved = self.signed
        self._point = next(self._points, None)
        self._reach(self._next)

    def _differs(self, first: int, offset: int, last: int) -> None:
        """A record between `first` and `offset` is another one; up to `last` nothing is known about those after it."""
        self._chain = None
        which = "this record" if first == offset else f"one of the records up to {offset}"
        rest = f". About those after it, up to {last}, nothing can be said" if offset < last else ""
        self._find(
            Kind.CHANGED,
            first,
            offset,
            f"{which} is not what was signed: it was changed, or another one stands in its place (inserted, moved, or one"
            f" before it was dropped){rest}",
        )

    def _find(self, kind: Kind, first: int, last: int, text: str) -> None:
        topic, partition = self._place
        where = f"offset {first}" if first == last else f"offsets {first} to {last}"
        self.findings.append(
            Finding(
                kind=kind,
                topic=topic,
                partition=partition,
                first=first,
                last=last,
                text=f"{topic}/{partition}, {where}: {text}",
            )
        )

    def _from(self, link: Link) -> Chain:
        return Chain(self._topic_id, self._place[1], link)
