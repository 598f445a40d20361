"""A period as files: proved by themselves, whole or not there at all."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncGenerator, Callable, Sequence
from hashlib import sha256
from pathlib import Path

import fastavro
import pytest

from deploy import cli
from producers.comparing import Kind
from producers.exported import Export, NoExport
from producers.exporting import ExportRefused, export, widened
from producers.log import LogUnavailable
from producers.signed import Signed
from producers.statements import public_key, statement_files
from producers.verifying import Report, verify
from schemas.codec import encode
from schemas.containers import container_schema
from schemas.raw import RawRecord
from schemas.topics import LIFECYCLE
from tests.builders import stored
from tests.notarized import MemoryTopic, Notarized

DAY_MS = 86_400_000


@pytest.fixture
def log(tmp_path: Path) -> Notarized:
    """Partition 0: signed at 5, 15, next day 25 and 35, and 4 more. Partition 1: 3 signed with the third."""
    made = Notarized(tmp_path / "notary")
    made.sign(5, 10)
    made.now_ms += DAY_MS
    made.topic.grow(3, 1)
    made.sign(10, 10)
    made.topic.grow(4)
    return made


def exported(log: Notarized, target: Path, since: int = 0, until: int | None = None) -> None:
    """From this offset of partition 0 to another (None: to its end); partition 1 wholly."""
    files, key = statement_files(log.directory), public_key(log.directory)
    end = len(log.topic.held[0]) if until is None else until
    starts = {(LIFECYCLE, 0): since, (LIFECYCLE, 1): 3 if since > 15 else 0}
    span = widened(files, key, starts, {(LIFECYCLE, 0): end, (LIFECYCLE, 1): 3 if end > 15 else 0})
    topics = {LIFECYCLE: log.topic}
    asyncio.run(export(target, topics, span, files, key, {}, lambda topic, partition, offset, last: None))


def verified(target: Path) -> Report:
    files = Export(target)
    signed = Signed(files.statements, public_key(target), complete=False)
    report = asyncio.run(verify(files.topic, signed, list(files.topics), now_ms=None, starts=files.starts))
    report.findings += files.changed_files() + [found for topic in files.topics.values() for found in topic.untrue]
    return report


@pytest.mark.parametrize(
    ("since", "until", "first", "end", "proved"),
    [
        (0, None, 0, 39, 35),
        (0, 3, 0, 5, 5),
        (3, 12, 0, 15, 15),
        (15, 25, 15, 25, 25),
        (16, None, 15, 39, 35),
        (26, 35, 25, 35, 35),
        (36, None, 35, 39, 35),
    ],
)
def test_a_period_is_widened_to_statements_and_proved_by_itself(
    log: Notarized, tmp_path: Path, since: int, until: int | None, first: int, end: int, proved: int
) -> None:
    exported(log, tmp_path / "export", since, until)
    shutil.rmtree(log.directory)
    report = verified(tmp_path / "export")
    assert report.findings == []
    proof = report.proofs[0]
    assert (proof.first, proof.end, proof.proved) == (first, end, proved)


def test_the_command_needs_nothing_but_the_files(log: Notarized, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "export"
    exported(log, target)
    assert cli.run(["verify", "--export", str(target), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["clean"] and report["records"] == 42
    anchor = report["last_statement"]["anchor"]
    assert cli.run(["verify", "--export", str(target), "--anchor", anchor]) == 0
    assert cli.run(["verify", "--export", str(target), "--anchor", f"3:{'0' * 64}"]) == 1
    assert cli.run(["verify", "--export", str(target), "--anchor", "yesterday"]) == 2
    assert cli.run(["verify", "--export", str(target), "--public-key", str(target / "manifest.json")]) == 2
    assert cli.run(["verify", "--export", str(tmp_path)]) == 3
    changed = target / LIFECYCLE / "0.avro"
    changed.write_bytes(changed.read_bytes()[:-1])
    capsys.readouterr()
    assert cli.run(["verify", "--export", str(target)]) == 1
    assert "restante.lifecycle/0.avro is not the file" in capsys.readouterr().out


def test_any_byte_of_any_file_counts(log: Notarized, tmp_path: Path) -> None:
    """Also where the manifest's hash was mended after it: of the records and statements the signatures tell."""
    whole = tmp_path / "export"
    exported(log, whole)
    for file in sorted(path for path in whole.rglob("*") if path.is_file() and path.name != "manifest.json"):
        content = file.read_bytes()
        for at in range(0, len(content), max(1, len(content) // 12)):
            changed = bytearray(content)
            changed[at] ^= 16
            file.write_bytes(changed)
            try:
                assert verified(whole).findings, (file, at)
            except Exception as error:
                assert type(error).__module__.startswith("producers"), (file, at)
        file.write_bytes(content)
    assert verified(whole).findings == []


def rewritten(target: Path, change: Callable[[dict[str, object]], None]) -> None:
    manifest = json.loads((target / "manifest.json").read_text())
    change(manifest)
    (target / "manifest.json").write_text(json.dumps(manifest))


def test_a_manifest_that_leaves_something_out_is_noticed(log: Notarized, tmp_path: Path) -> None:
    target = tmp_path / "export"
    exported(log, target)

    def cut(manifest: dict[str, object]) -> None:
        manifest["topics"][0]["partitions"][0]["end"] = 25  # type: ignore[index]
        manifest["sha256"] = {}

    def forget(manifest: dict[str, object]) -> None:
        del manifest["topics"][0]["partitions"][1]  # type: ignore[index]

    def begin_later(manifest: dict[str, object]) -> None:
        manifest["topics"][0]["partitions"][0]["first"] = 7  # type: ignore[index]

    def rename(manifest: dict[str, object]) -> None:
        manifest["topics"] = []

    kept = (target / "manifest.json").read_text()
    for change, kind in ((cut, Kind.FILES), (forget, Kind.CUT), (begin_later, Kind.MISSING), (rename, Kind.REPLACED)):
        rewritten(target, change)
        assert kind in {found.kind for found in verified(target).findings}, change
        (target / "manifest.json").write_text(kept)
    for text in ("", "[]", "{}", '{"version": 2}', '{"version": 1, "sha256": {}, "topics": [{}]}'):
        (target / "manifest.json").write_text(text)
        with pytest.raises(NoExport):
            verified(target)


def test_a_fact_that_its_bytes_do_not_say_is_noticed_whatever_the_manifest_says(log: Notarized, tmp_path: Path) -> None:
    target = tmp_path / "export"
    encoded = encode(stored(1))
    log.topic.held[0][37] = RawRecord(0, 37, 5, encoded.key, encoded.value, tuple(encoded.headers))
    exported(log, target)
    file = target / LIFECYCLE / "0.avro"
    with file.open("rb") as handle:
        rows = list(fastavro.reader(handle, return_record_name=True))
    rows[37]["fact"][1]["keyed"] = True
    with file.open("wb") as handle:
        fastavro.writer(handle, container_schema(LIFECYCLE), rows)

    def mend(manifest: dict[str, object]) -> None:
        manifest["sha256"][f"{LIFECYCLE}/0.avro"] = sha256(file.read_bytes()).hexdigest()  # type: ignore[index]

    rewritten(target, mend)
    assert [(one.kind, one.first) for one in verified(target).findings] == [(Kind.FILES, 37)]


class Failing(MemoryTopic):
    """Goes away in the middle."""

    async def batches(self, partition: int, start: int, end: int) -> AsyncGenerator[Sequence[RawRecord], None]:
        yield self.held[partition][:2]
        raise LogUnavailable("rejected", "away")


def test_what_is_not_whole_is_not_there(log: Notarized, tmp_path: Path) -> None:
    target = tmp_path / "export"
    log.topic = Failing(log.topic.held)
    with pytest.raises(LogUnavailable):
        exported(log, target)
    assert [path.name for path in tmp_path.iterdir()] == ["notary"]
    log.topic = MemoryTopic(log.topic.held)
    (tmp_path / "export.unfinished").mkdir()  # killed
    with pytest.raises(ExportRefused, match="delete it"):
        exported(log, target)
    (tmp_path / "export.unfinished").rmdir()
    exported(log, target)
    with pytest.raises(ExportRefused, match="there already"):
        exported(log, target)


def test_damaged_statements_are_not_handed_on(log: Notarized, tmp_path: Path) -> None:
    lines = log.lines()
    log.keep([lines[0], *lines[2:]])
    with pytest.raises(ExportRefused, match="statement 2 missing"):
        exported(log, tmp_path / "export")
