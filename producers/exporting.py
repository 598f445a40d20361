"""A period of the log as files that outlive it: containers of records, the statements over them, and the public key.

    DIR/<topic>/<partition>.avro   the records (`schemas.containers`)
    DIR/statements/*.jsonl         the notary's statements from before the first record to after the last
    DIR/notary.pub                 the key that verifies them
    DIR/manifest.json              what belongs together: offsets, and the SHA-256 of each file

A period begins and ends with a statement, so that everything in it can be proved: it is widened to the last statement before
and the first one after. Where there is none after, the export ends with a tail that is not proved. The directory gets its
name when it is complete and on the disk, and never before.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from producers.log import ProducersError
from producers.readable import Readable
from producers.signing import PublicKey
from producers.statements import PUBLIC_KEY, Fault, NoStatements, Placed, read_statements
from schemas.containers import ContainerWriter

Place = tuple[str, int]
MANIFEST: Final = "manifest.json"
STATEMENTS: Final = "statements"
VERSION: Final = 1
_COPIED_BYTES: Final = 1024 * 1024


class ExportRefused(ProducersError):
    """Nothing was exported; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Span:
    """From one statement (None: from the first record) to another, and the offsets that this comes to."""

    opening: Placed
    closing: Placed
    starts: Mapping[Place, int]
    ends: Mapping[Place, int]


Progress = Callable[[str, int, int, int], None]
"""Told topic, partition, the offset reached and where the partition's export ends."""


def widened(files: Sequence[Path], key: PublicKey, since: Mapping[Place, int], until: Mapping[Place, int]) -> Span:
    """The smallest span between statements that holds the offsets from `since` to `until`. Raises `ExportRefused` where the
    statements are damaged, `NoStatements`, OSError."""
    heads: dict[Place, int] = {}
    starts: Mapping[Place, int] = {}
    opening = closing = None
    before = True
    for found in read_statements(files, key, complete=True):
        if isinstance(found, Fault):
            raise ExportRefused(f"the statements are damaged ({found}). See `restante verify` first")
        heads |= {point.place: point.last + 1 for point in found.statement.points}
        before = before and all(heads.get(place, 0) <= offset for place, offset in since.items())
        if opening is None or (before and opening.file != found.file):
            opening = found
        if before:
            starts = dict(heads)
        closing = found
        if all(heads.get(place, 0) >= offset for place, offset in until.items()):
            break
    if opening is None or closing is None:
        raise NoStatements("no statement of this key was found")
    ends = {place: max(heads.get(place, 0), offset) for place, offset in until.items()}
    return Span(opening, closing, {place: starts.get(place, 0) for place in until}, ends)


async def export(
    target: Path,
    readers: Mapping[str, Readable],
    span: Span,
    files: Sequence[Path],
    key: PublicKey,
    about: Mapping[str, Any],
    progress: Progress,
) -> None:
    """Write the directory `target` (see above) from open readers. Raises `ExportRefused`, `LogUnavailable`, OSError, and
    what `Readable.batches` raises where the log is not as it was; nothing is left behind then."""
    with _whole_directory(target) as unfinished:
        hashes: dict[str, str] = {}
        topics = []
        for topic, reader in readers.items():
            partitions = []
            for place in sorted(place for place in span.ends if place[0] == topic):
                name = f"{topic}/{place[1]}.avro"
                with _hashed(unfinished, name, hashes) as file:
                    await _write(file, reader, place, span, progress)
                partitions.append(
                    {"partition": place[1], "file": name, "first": span.starts[place], "end": span.ends[place]}
                )
            topics.append({"topic": topic, "topic_id": str(reader.topic_id), "partitions": partitions})
        _copy_statements(unfinished, span, files, hashes)
        with _hashed(unfinished, PUBLIC_KEY, hashes) as file:
            file.write(key.pem.encode())
        document = {**about, "version": VERSION, "topics": topics, "statements": _closing(span), "sha256": hashes}
        with _hashed(unfinished, MANIFEST, {}) as file:
            file.write(json.dumps(document, indent=2).encode() + b"\n")


async def _write(file: IO[bytes], reader: Readable, place: Place, span: Span, progress: Progress) -> None:
    topic, partition = place
    about = {"restante.topic": topic, "restante.topic_id": str(reader.topic_id), "restante.partition": str(partition)}
    writer = ContainerWriter(file, topic, about)
    async with aclosing(reader.batches(partition, span.starts[place], span.ends[place])) as batches:
        async for batch in batches:
            for record in batch:
                writer.write(record)
            progress(topic, partition, batch[-1].offset + 1, span.ends[place])
    writer.flush()


def _copy_statements(unfinished: Path, span: Span, files: Sequence[Path], hashes: dict[str, str]) -> None:
    """The bytes from the opening statement to the closing one, with all that lies between."""
    first, last = files.index(span.opening.file), files.index(span.closing.file)
    for source in files[first : last + 1]:
        start = span.opening.at if source == span.opening.file else 0
        end = span.closing.at + span.closing.size if source == span.closing.file else source.stat().st_size
        with source.open("rb") as read, _hashed(unfinished, f"{STATEMENTS}/{source.name}", hashes) as file:
            read.seek(start)
            for at in range(start, end, _COPIED_BYTES):
                file.write(read.read(min(_COPIED_BYTES, end - at)))


def _closing(span: Span) -> dict[str, Any]:
    statement = span.closing.statement
    at = datetime.fromtimestamp(statement.at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "first": span.opening.statement.number,
        "last": statement.number,
        "last_hash": span.closing.hash.hex(),
        "last_at": at,
    }


@contextmanager
def _whole_directory(target: Path) -> Iterator[Path]:
    """A directory that gets its name when all in it is on the disk."""
    unfinished = target.with_name(target.name + ".unfinished")
    if target.exists():
        raise ExportRefused(f"{target} is there already. Give a directory that is not")
    try:
        unfinished.mkdir(parents=True)
    except FileExistsError as error:
        raise ExportRefused(
            f"{unfinished} is there: an export to {target} runs, or one was killed. If none runs, delete it"
        ) from error
    try:
        yield unfinished
        for directory in [*(path for path in unfinished.rglob("*") if path.is_dir()), unfinished]:
            _sync(directory)
        unfinished.rename(target)
        _sync(target.parent)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


class _Hashing:
    """A file to write to, and the hash of what was written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.flush = file.flush

    def seekable(self) -> bool:
        """No: what was written stays."""
        return False

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return self._file.write(content)


@contextmanager
def _hashed(directory: Path, name: str, hashes: dict[str, str]) -> Iterator[Any]:
    file = directory / name
    file.parent.mkdir(exist_ok=True)
    with file.open("xb") as handle:
        hashing = _Hashing(handle)
        yield hashing
        handle.flush()
        os.fsync(handle.fileno())
    hashes[name] = hashing.digest.hexdigest()


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
