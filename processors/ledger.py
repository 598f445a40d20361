"""Which runs of records are read, and up to where all of them are done. Nothing else ever moves a committed offset.

A run is what one fetch brought of one partition. Runs are handed out without gap or overlap, and `committable` is the end of
the finished runs that follow on each other from where reading began: a run that is not finished holds it absolutely, also at
offset 0, also on a partition without a commit, also when later ones are finished (Faust's own bookkeeping does not).
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

MAX_RUNS = 64
MAX_BYTES = 16 * 1024 * 1024
"""What may be in memory, read and not finished, of all partitions together; at most one fetch goes over it."""


@dataclass(slots=True, eq=False)
class Run:
    """Consecutive records of one partition: offsets `first` to `next - 1`. `turn` tells runs read before a seek from those
    after it."""

    partition: int
    first: int
    next: int
    turn: int
    records: Sequence[Any]
    size: int
    begun: bool = False
    finished: bool = False


class Refused(Enum):
    """Why fetched records became no run. SEEN: all of them were handed out before. GAP: records before them were not; seek
    to `Ledger.wanted`. UNKNOWN: the partition is not ours now."""

    SEEN = "seen"
    GAP = "gap"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class _Page:
    turn: int
    done: int
    read: int
    moved: bool = False
    begun: bool = False
    runs: deque[Run] = field(default_factory=deque)


class Ledger:
    """The runs of all partitions that this process reads. For one event loop; not thread-safe."""

    def __init__(self, *, max_runs: int = MAX_RUNS, max_bytes: int = MAX_BYTES) -> None:
        self._max_runs = max_runs
        self._max_bytes = max_bytes
        self._pages: dict[int, _Page] = {}
        self._turns = 0
        self._runs = 0
        self._bytes = 0

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that are being read."""
        return frozenset(self._pages)

    @property
    def has_room(self) -> bool:
        """False while so much is unfinished that no more should be fetched."""
        return self._runs < self._max_runs and self._bytes < self._max_bytes

    def restart(self, partition: int, offset: int) -> None:
        """Reading begins (again) at this offset; what was handed out before no longer counts."""
        self.drop([partition])
        self._turns += 1
        self._pages[partition] = _Page(turn=self._turns, done=offset, read=offset)

    def drop(self, partitions: Iterable[int]) -> None:
        """These partitions are no longer ours, or are about to start anew."""
        for partition in partitions:
            page = self._pages.pop(partition, None)
            for run in page.runs if page else ():
                self._release(run)

    def offer(self, partition: int, records: Sequence[Any]) -> Run | Refused:
        """Hand out fetched records (with `offset` and `value`) as a run, without those that were handed out before."""
        page = self._pages.get(partition)
        if page is None:
            return Refused.UNKNOWN
        if records[0].offset > page.read:
            return Refused.GAP
        if records[0].offset < page.read:
            records = [record for record in records if record.offset >= page.read]
            if not records:
                return Refused.SEEN
        size = sum(len(record.value or b"") for record in records)
        run = Run(partition, page.read, records[-1].offset + 1, page.turn, records, size)
        page.read = run.next
        page.runs.append(run)
        self._runs += 1
        self._bytes += size
        return run

    def wanted(self, partition: int) -> int | None:
        """The offset that is to be fetched next."""
        page = self._pages.get(partition)
        return None if page is None else page.read

    def untouched(self) -> dict[int, int]:
        """The partitions of which no run was taken up since reading began, and the offset at which the first one begins."""
        return {partition: page.done for partition, page in self._pages.items() if not page.begun}

    def stale(self, run: Run) -> bool:
        """True for a run from before the last (re)start of its partition: ignore it, its records come again."""
        page = self._pages.get(run.partition)
        return page is None or page.turn != run.turn

    def begin(self, run: Run) -> bool:
        """Take a run up. False where a run before it was handed out and never came: restart the partition at `done`."""
        page = self._pages[run.partition]
        waiting = next(known for known in page.runs if not known.begun)
        if waiting is not run:
            return False
        run.begun = page.begun = True
        return True

    def finish(self, run: Run) -> None:
        """All that this run asked for is in the log. Ignored for a stale run."""
        if self.stale(run):
            return
        run.finished = True
        page = self._pages[run.partition]
        while page.runs and page.runs[0].finished:
            done = page.runs.popleft()
            self._release(done)
            page.done = done.next
            page.moved = True

    def done(self, partition: int) -> int | None:
        """The offset up to which everything is finished."""
        page = self._pages.get(partition)
        return None if page is None else page.done

    def committable(self, partition: int) -> int | None:
        """The offset to commit, or None where nothing was finished since reading began."""
        page = self._pages.get(partition)
        return page.done if page and page.moved else None

    def _release(self, run: Run) -> None:
        self._runs -= 1
        self._bytes -= run.size
