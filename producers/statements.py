"""The notary's directory, read: statements in order, and what is not as a notary leaves it.

`YYYY-MM-DD.jsonl` holds the statements of a day (UTC), a line each, `notary.pub` the public key. Files only grow. The first
statement of each file names every partition, so a file can be read without those before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from producers.log import ProducersError
from producers.signing import KeyRefused, PublicKey
from schemas.statements import FIRST, NoStatement, Point, Statement, line_hash

PUBLIC_KEY: Final = "notary.pub"
_PATTERN: Final = "*.jsonl"
_LONGEST_LINE: Final = 16 * 1024 * 1024


class NoStatements(ProducersError):
    """There is nothing to hold the log against. Give the directory of a notary (RESTANTE_NOTARY_DIR, or `--statements`) that
    has signed something, with its public key."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A place in the directory that is not as a notary leaves it."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.text}"


@dataclass(frozen=True, slots=True)
class Placed:
    """A statement whose signature is good, where it lies, and the hash of its line."""

    statement: Statement
    file: Path
    at: int
    size: int
    hash: bytes


def statement_files(directory: Path) -> list[Path]:
    """The files of a directory, oldest first."""
    return sorted(directory.glob(_PATTERN))


def public_key(directory: Path) -> PublicKey:
    """The key that lies beside the statements. Raises `NoStatements`, `KeyRefused`."""
    file = directory / PUBLIC_KEY
    try:
        return PublicKey.read(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise NoStatements(f"{file} cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, KeyRefused) as error:
        raise KeyRefused(f"{file}: {error}") from error


def read_statements(files: Sequence[Path], key: PublicKey, *, complete: bool) -> Iterator[Placed | Fault]:
    """Every statement, and every fault before the statement that shows it. `complete`: the first file begins with
    statement 1. An unfinished line at the very end is no fault: the notary writes at this moment, or was killed. OSError
    where a file cannot be read."""
    known = _Known(complete)
    strange = _Strange()
    for file in files:
        with file.open("rb") as handle:
            at = 0
            for number, line in enumerate(iter(lambda: handle.readline(_LONGEST_LINE), b""), 1):
                place, at = at, at + len(line)
                try:
                    statement = key.opened(_whole(line))
                except NoStatement as error:
                    strange.add(Fault(file.name, number, str(error)), line)
                    continue
                for text in (*(strange.unless(statement.torn) if known.begun else ()), *known.faults(statement)):
                    yield text if isinstance(text, Fault) else Fault(file.name, number, text)
                strange = _Strange()
                if known.takes(statement):
                    placed = Placed(statement, file, place, len(line), line_hash(_whole(line)))
                    known.add(placed)
                    yield placed
    if strange.finished and strange.first is not None:
        yield strange.first


def _whole(line: bytes) -> bytes:
    if not line.endswith(b"\n"):
        raise NoStatement("this line is unfinished")
    return line[:-1]


@dataclass(slots=True)
class _Strange:
    """Lines since the last statement that are none. A notary that finds such a remnant of a crash signs for it."""

    first: Fault | None = None
    finished: bool = False
    digest: Any = field(default_factory=sha256)

    def add(self, fault: Fault, line: bytes) -> None:
        self.first = self.first or fault
        self.finished = line.endswith(b"\n")
        self.digest.update(line)

    def unless(self, torn: bytes | None) -> list[Fault | str]:
        if self.first is None:
            return ["bytes before this statement are gone that the notary signed for"] if torn else []
        return [] if self.digest.digest() == torn else [self.first]


@dataclass(slots=True)
class _Known:
    """What the statements so far lead to expect of the next one."""

    complete: bool
    last: Placed | None = None
    heads: dict[tuple[str, int], Point] = field(default_factory=dict)

    @property
    def begun(self) -> bool:
        """Whether what lies before the next statement has been read, too."""
        return self.complete or self.last is not None

    def takes(self, statement: Statement) -> bool:
        return self.last is None or statement.number > self.last.statement.number

    def faults(self, statement: Statement) -> Iterator[str]:
        number = self.last.statement.number if self.last else 0
        if not self.begun:
            return
        if statement.number <= number:
            yield f"statement {statement.number} stands after statement {number}: repeated, or out of order"
        elif statement.number > number + 1:
            missing = range(number + 1, statement.number)
            yield f"statement{f's {missing[0]} to' if len(missing) > 1 else ''} {missing[-1]} missing"
        elif statement.previous != (self.last.hash if self.last else FIRST):
            yield f"statement {statement.number} was not made after the statement {number} that stands before it"
        else:
            yield from self._holes(statement)

    def add(self, placed: Placed) -> None:
        self.last = placed
        self.heads |= {point.place: point for point in placed.statement.points}

    def _holes(self, statement: Statement) -> Iterator[str]:
        for point in statement.points:
            before = self.heads.get(point.place)
            if before is not None and before.topic_id != point.topic_id:
                yield f"{point.topic} is another topic than before: {point.topic_id}, not {before.topic_id}"
            elif point.first != (before.last + 1 if before else 0):
                yield f"records of {point.topic}/{point.partition} before offset {point.first} are in no statement"
