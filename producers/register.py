"""The notary's directory, written: one that only grows, and that a crash at any point leaves readable.

A statement counts when its line is whole, newline included, and is on the disk (fsync) before anybody is told. A crash in
between leaves an unfinished line; nothing is taken back, the next statement holds the hash of the remnant instead.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import IO, Final, Self

from producers.log import ProducersError
from producers.signing import Signer
from producers.statements import PUBLIC_KEY, Fault, Placed, public_key, read_statements, statement_files
from schemas.statements import FIRST, Point, Statement, line_hash

_BROKEN_OFF: Final = b"!\n"
"""Ends a remnant. Of a line that lacks nothing but its newline it makes no statement either: nobody was told of it."""


class RegisterTaken(ProducersError):
    """Another notary writes to this directory. One is enough; stop one of the two, or give this one another directory."""


class RegisterDamaged(ProducersError):
    """The last statements in the notary's directory are not as it left them, so nothing is signed after them. `restante
    verify` says what is wrong with all of them. Restore the directory from a copy, or keep it as evidence and give the
    notary a new one, where it begins with the first record."""


class RegisterForeign(ProducersError):
    """The directory belongs to another key. Give the notary its old key (RESTANTE_NOTARY_KEY), or a new directory."""


class Register:
    """The directory of one notary. `with` takes it, verifies the last file and goes on after its last statement. Blocks."""

    def __init__(self, directory: Path, signer: Signer) -> None:
        self._directory = directory
        self._signer = signer
        self._lock: IO[str] | None = None
        self._number = 0
        self._previous = FIRST
        self._file: Path | None = None
        self._full: Path | None = None
        self._remnant: bytes | None = None
        self.heads: Mapping[tuple[str, int], Point] = {}
        """The last point of each partition."""

    def open(self) -> None:
        """Raises `RegisterTaken`, `RegisterForeign`, `RegisterDamaged`, OSError."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._lock = (self._directory / "lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._show_key()
            self._resume()
        except BaseException as error:
            self._lock.close()
            if isinstance(error, BlockingIOError):
                raise RegisterTaken(f"another notary writes to {self._directory}") from error
            raise

    def close(self) -> None:
        """Let another one have it."""
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def append(self, at_ms: int, points: Iterable[Point]) -> Statement:
        """Sign and keep; when this returns it is on the disk. After an OSError leave the register and enter it anew."""
        last = self._file.stem if self._file else ""
        file = self._directory / f"{max(last, datetime.fromtimestamp(at_ms / 1000, UTC).date().isoformat())}.jsonl"
        new = {point.place: point for point in points}
        named = new if file == self._full else {place: _unchanged(head) for place, head in self.heads.items()} | new
        glue = _BROKEN_OFF if self._remnant is not None and file == self._file else b""
        statement = Statement(
            number=self._number + 1,
            at_ms=at_ms,
            previous=self._previous,
            torn=None if self._remnant is None else sha256(self._remnant + glue).digest(),
            points=tuple(named[place] for place in sorted(named)),
        )
        line = self._signer.line(statement)
        _append(file, glue + line + b"\n")
        self._number, self._previous, self._file, self._remnant = statement.number, line_hash(line), file, None
        self._full = file
        self.heads = {**self.heads, **named}
        return statement

    def _show_key(self) -> None:
        file = self._directory / PUBLIC_KEY
        if not file.exists():
            if statement_files(self._directory):
                raise RegisterDamaged(f"{file} is gone")
            _write_whole(file, self._signer.public.pem)
        if public_key(self._directory).fingerprint != self._signer.public.fingerprint:
            raise RegisterForeign(f"{file} is not the public part of this notary's key")

    def _resume(self) -> None:
        """Read backwards to a file that holds a statement; there is only a remnant after it."""
        files = statement_files(self._directory)
        for at in range(len(files) - 1, -1, -1):
            last: Placed | None = None
            heads: dict[tuple[str, int], Point] = {}
            for found in read_statements(files[at:], self._signer.public, complete=at == 0):
                if isinstance(found, Fault):
                    raise RegisterDamaged(str(found))
                last = found
                heads |= {point.place: point for point in found.statement.points}
            if last is not None:
                self._number, self._previous, self._file = last.statement.number, last.hash, files[-1]
                self._full = last.file
                self._remnant = _after(last, files[at:])
                self.heads = heads
                return
        if files:
            self._file, self._remnant = files[-1], b"".join(file.read_bytes() for file in files) or None


def _after(last: Placed, files: list[Path]) -> bytes | None:
    with last.file.open("rb") as handle:
        handle.seek(last.at + last.size)
        rest = handle.read()
    later = files[files.index(last.file) + 1 :]
    return rest + b"".join(file.read_bytes() for file in later) or None


def _unchanged(head: Point) -> Point:
    return Point(
        topic=head.topic,
        topic_id=head.topic_id,
        partition=head.partition,
        first=head.last + 1,
        last=head.last,
        h=head.h,
        marks=b"",
    )


def _append(file: Path, line: bytes) -> None:
    new = not file.exists()
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        left = memoryview(line)
        while left:
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    if new:
        _sync_directory(file.parent)


def _write_whole(file: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(text)
        os.fchmod(out.fileno(), 0o644)
        out.flush()
        os.fsync(out.fileno())
    Path(name).replace(file)
    _sync_directory(file.parent)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
