"""An export, read back: the log that its files hold, and whether they are the ones that were written."""

import hashlib
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from uuid import UUID

from producers.comparing import Finding, Kind
from producers.exporting import MANIFEST, STATEMENTS, VERSION
from producers.log import ProducersError
from producers.recorded import LogDamaged
from producers.statements import statement_files
from schemas.containers import ContainerDamaged, read_container
from schemas.raw import RawRecord

_BATCH_RECORDS: Final = 1000
_NO_ID: Final = str(UUID(int=0))


class NoExport(ProducersError):
    """This directory holds no export, or not all of one. Give the directory that `restante export` made."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One partition's file: it holds `first` to `end - 1`."""

    file: Path
    first: int
    end: int


class Export:
    """A directory as `restante export` made it."""

    def __init__(self, directory: Path) -> None:
        """Reads the manifest. Raises `NoExport`."""
        self.directory = directory
        try:
            manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
            if manifest["version"] != VERSION:
                raise NoExport(f"{directory} is an export of version {manifest['version']}: a newer Restante reads it")
            self._hashes: dict[str, str] = dict(manifest["sha256"])
            self.topics = {row["topic"]: ExportedTopic(directory, row) for row in manifest["topics"]}
        except OSError as error:
            raise NoExport(f"{directory / MANIFEST} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NoExport(f"{directory / MANIFEST} is no manifest: {error!r}") from error

    def topic(self, name: str) -> "ExportedTopic":
        """One topic; of one that a statement names and the manifest does not, nothing is there."""
        return self.topics.get(name) or ExportedTopic(self.directory, {"topic": name, "topic_id": _NO_ID, "partitions": []})

    @property
    def statements(self) -> list[Path]:
        """The files with the notary's statements."""
        return statement_files(self.directory / STATEMENTS)

    @property
    def starts(self) -> Mapping[tuple[str, int], int]:
        """Where each partition begins."""
        return {(name, number): part.first for name, topic in self.topics.items() for number, part in topic.parts.items()}

    def changed_files(self) -> list[Finding]:
        """What is not the file that was written."""
        found = []
        for name, expected in sorted(self._hashes.items()):
            try:
                with (self.directory / name).open("rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() == expected:
                        continue
                    text = f"{name} is not the file that the manifest names"
            except OSError as error:
                text = f"{name} cannot be read: {error.strerror}"
            found.append(Finding(kind=Kind.FILES, text=text))
        return found


class ExportedTopic:
    """The records of one topic (`producers.readable.Readable`). `untrue` are findings about entries that are not
    what fact or manifest say."""

    def __init__(self, directory: Path, row: Mapping[str, Any]) -> None:
        self._topic: str = row["topic"]
        self.topic_id = UUID(row["topic_id"])
        self.untrue: list[Finding] = []
        self.parts = {
            int(part["partition"]): _Part(directory / part["file"], int(part["first"]), int(part["end"]))
            for part in row["partitions"]
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        return None

    async def bounds(self) -> Mapping[int, tuple[int, int]]:
        return {number: (part.first, part.end) for number, part in self.parts.items()}

    async def batches(self, partition: int, start: int, end: int) -> AsyncGenerator[Sequence[RawRecord], None]:
        batch: list[RawRecord] = []
        reached = start
        try:
            with self.parts[partition].file.open("rb") as file:
                for record, true in read_container(file, self._topic, partition):
                    if not true:
                        self._note(record, "the fact is not what its bytes say")
                    if not self.parts[partition].first <= record.offset < self.parts[partition].end:
                        self._note(record, "the manifest knows nothing of this record")
                    if record.offset >= start:
                        reached = record.offset + 1
                        batch.append(record)
                    if len(batch) == _BATCH_RECORDS:
                        yield batch
                        batch = []
        except (ContainerDamaged, OSError) as error:
            if batch:
                yield batch
            raise LogDamaged(self._topic, partition, reached, max(reached + 1, end)) from error
        if batch:
            yield batch

    def _note(self, record: RawRecord, text: str) -> None:
        self.untrue.append(
            Finding(
                kind=Kind.FILES,
                topic=self._topic,
                partition=record.partition,
                first=record.offset,
                last=record.offset,
                text=f"{self._topic}/{record.partition}, offset {record.offset}: {text}",
            )
        )
