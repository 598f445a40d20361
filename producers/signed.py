"""What was signed, partition by partition: an index of the statements in memory, 20 bytes a statement and partition."""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from producers.signing import PublicKey
from producers.statements import Fault, NoStatements, Placed, read_statements
from schemas.statements import Point, line_hash, point_in

Place = tuple[str, int]
_CHECK_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Anchor:
    """A statement that somebody noted elsewhere: its number and the hash of its line."""

    number: int
    hash: bytes


@dataclass(slots=True)
class _Lines:
    """Where the statements are that have a part for one partition, and how each line begins to hash."""

    files: "array[int]" = field(default_factory=lambda: array("H"))
    places: "array[int]" = field(default_factory=lambda: array("q"))
    checks: "array[int]" = field(default_factory=lambda: array("Q"))


class Signed:
    """Statements in order, verified once. `faults` tells what is wrong with them."""

    def __init__(self, files: Sequence[Path], key: PublicKey, *, complete: bool, anchor: Anchor | None = None) -> None:
        """Reads all files. Raises `NoStatements` where none holds a statement, OSError."""
        self._files = list(files)
        self._numbers = {file: number for number, file in enumerate(self._files)}
        self._lines: dict[Place, _Lines] = {}
        self.faults: list[str] = []
        self.heads: Mapping[Place, Point] = {}
        """The last point of each partition."""
        self.last: Placed
        heads: dict[Place, Point] = {}
        last, known = None, anchor
        for found in read_statements(files, key, complete=complete):
            if isinstance(found, Fault):
                self.faults.append(str(found))
                continue
            last = found
            if known is not None and found.statement.number == known.number and found.hash == known.hash:
                known = None
            for point in found.statement.points:
                heads[point.place] = point
                self._note(found, point.place)
        if last is None:
            raise NoStatements("no statement of this key was found" + (f": {self.faults[0]}" if self.faults else ""))
        if known is not None:
            self.faults.append(f"statement {known.number} ({known.hash.hex()}), which was known, is not there")
        self.heads, self.last = heads, last

    def points(self, place: Place) -> Iterator[Point]:
        """The parts of one partition, in order. OSError where a file changed since it was verified."""
        lines = self._lines.get(place, _Lines())
        opened, handle = -1, None
        try:
            for file, at, check in zip(lines.files, lines.places, lines.checks, strict=True):
                if file != opened:
                    if handle is not None:
                        handle.close()
                    opened, handle = file, self._files[file].open("rb")
                assert handle is not None
                handle.seek(at)
                line = handle.readline().removesuffix(b"\n")
                if _check(line_hash(line)) != check:
                    raise OSError(f"{self._files[file]} was changed while it was read. Begin again")
                yield point_in(line, place)
        finally:
            if handle is not None:
                handle.close()

    def _note(self, found: Placed, place: Place) -> None:
        lines = self._lines.setdefault(place, _Lines())
        lines.files.append(self._numbers[found.file])
        lines.places.append(found.at)
        lines.checks.append(_check(found.hash))


def _check(digest: bytes) -> int:
    return int.from_bytes(digest[:_CHECK_BYTES])
