"""`verify` and `export`: the log, the notary's statements and an export's files, brought together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from deploy.errors import DeployError, Misconfigured, Refused
from deploy.foundation import connection
from deploy.settings import Settings
from producers.connection import KafkaConnection
from producers.exported import Export
from producers.exporting import ExportRefused, Span, export, widened
from producers.log import ProducersError
from producers.recorded import LogReader
from producers.signed import Anchor, Signed
from producers.signing import KeyRefused, PublicKey
from producers.statements import public_key, statement_files
from producers.verifying import Report, verify
from schemas.topics import SIGNED

Progress = Callable[[str, int, int, int], None]
"""Told topic, partition, the offset reached and the end."""


@dataclass(frozen=True, slots=True)
class Trusted:
    """What is believed: the public key, and where it came from."""

    key: PublicKey
    source: str


async def verify_log(
    settings: Settings, statements: Path | None, key_file: Path | None, anchor: str | None, progress: Progress
) -> dict[str, Any]:
    """Hold the live log against the notary's statements. DeployError (3) where it cannot look."""
    directory = statements or settings.notary_dir
    kafka = _kafka(settings)
    trusted = _trusted(key_file, directory)
    began = time.monotonic()
    try:
        signed = Signed(statement_files(directory), trusted.key, complete=True, anchor=_anchor(anchor))
        report = await verify(
            lambda topic: LogReader(kafka, topic), signed, SIGNED, now_ms=int(time.time() * 1000), progress=progress
        )
    except (ProducersError, OSError) as error:
        raise DeployError(_told(error)) from error
    return _document(report, signed, trusted, time.monotonic() - began)


async def verify_export(directory: Path, key_file: Path | None, anchor: str | None, progress: Progress) -> dict[str, Any]:
    """The same for the files of an export; nothing but the files is asked."""
    began = time.monotonic()
    try:
        files = Export(directory)
        trusted = _trusted(key_file, directory)
        signed = Signed(files.statements, trusted.key, complete=False, anchor=_anchor(anchor))
        report = await verify(
            lambda topic: files.topic(topic), signed, list(files.topics), now_ms=None, starts=files.starts, progress=progress
        )
    except (ProducersError, OSError) as error:
        raise DeployError(_told(error)) from error
    report.findings += files.changed_files() + [found for topic in files.topics.values() for found in topic.untrue]
    return _document(report, signed, trusted, time.monotonic() - began)


async def export_log(
    settings: Settings,
    target: Path,
    statements: Path | None,
    key_file: Path | None,
    since_ms: int | None,
    until_ms: int | None,
    progress: Progress,
) -> dict[str, Any]:
    """Write a period as files; gives the manifest's main words. Refused (1) where it may not, DeployError (3) where it
    cannot."""
    directory = statements or settings.notary_dir
    kafka = _kafka(settings)
    trusted = _trusted(key_file, directory)
    files = statement_files(directory)
    about = {
        "made_by": f"restante {version('restante')}",
        "made_at": _time(int(time.time() * 1000)),
        "since": None if since_ms is None else _time(since_ms),
        "until": None if until_ms is None else _time(until_ms),
        "key_fingerprint": trusted.key.fingerprint,
    }
    try:
        async with AsyncExitStack() as stack:
            readers = {topic: await stack.enter_async_context(LogReader(kafka, topic)) for topic in SIGNED}
            since, until = await _offsets(readers, since_ms, until_ms)
            span = widened(files, trusted.key, since, until)
            await export(target, readers, span, files, trusted.key, about, progress)
    except ExportRefused as error:
        raise Refused(str(error)) from error
    except (ProducersError, OSError) as error:
        raise DeployError(_told(error)) from error
    return {"directory": str(target), **about, **_extent(span)}


async def _offsets(
    readers: Mapping[str, LogReader], since_ms: int | None, until_ms: int | None
) -> tuple[dict[tuple[str, int], int], dict[tuple[str, int], int]]:
    since, until = {}, {}
    for topic, reader in readers.items():
        for partition, (first, end) in (await reader.bounds()).items():
            place = (topic, partition)
            since[place] = first if since_ms is None else await reader.offset_at(partition, since_ms)
            until[place] = end if until_ms is None else max(since[place], await reader.offset_at(partition, until_ms))
    return since, until


def _extent(span: Span) -> dict[str, Any]:
    return {
        "records": sum(end - span.starts[place] for place, end in span.ends.items()),
        "statements": [span.opening.statement.number, span.closing.statement.number],
    }


def _kafka(settings: Settings) -> KafkaConnection:
    if settings.kafka is None:
        raise Misconfigured("no Kafka is known. Set RESTANTE_KAFKA, or start `restante up` in the data directory")
    return connection(settings)


def _trusted(key_file: Path | None, beside: Path) -> Trusted:
    try:
        if key_file is None:
            return Trusted(public_key(beside), f"found in {beside}")
        return Trusted(PublicKey.read(key_file.read_text(encoding="utf-8")), f"given as {key_file}")
    except KeyRefused as error:
        raise Misconfigured(f"{error}. Give the notary's public key, an Ed25519 key in PEM") from error
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{key_file} cannot be read: {error}") from error
    except ProducersError as error:
        raise DeployError(_told(error)) from error


def _anchor(text: str | None) -> Anchor | None:
    if text is None:
        return None
    number, _, digest = text.partition(":")
    try:
        return Anchor(int(number), bytes.fromhex(digest))
    except ValueError as error:
        raise Misconfigured(f"{text!r} is no anchor. Give NUMBER:HASH as `restante verify` printed it") from error


def _document(report: Report, signed: Signed, trusted: Trusted, seconds: float) -> dict[str, Any]:
    last = signed.last.statement
    return {
        "clean": not report.findings,
        "records": report.records,
        "seconds": round(seconds, 3),
        "key": {"fingerprint": trusted.key.fingerprint, "source": trusted.source},
        "last_statement": {
            "number": last.number,
            "at": _time(last.at_ms),
            "anchor": f"{last.number}:{signed.last.hash.hex()}",
        },
        "partitions": [
            {
                **{name: value for name, value in asdict(proof).items() if name != "tail_since_ms"},
                "tail": proof.tail,
                "tail_since": None if proof.tail_since_ms is None else _time(proof.tail_since_ms),
            }
            for proof in report.proofs
        ],
        "findings": [
            {name: value for name, value in asdict(found).items() if value is not None} for found in report.findings
        ],
    }


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _told(error: Exception) -> str:
    """An error's text, with the remedy that its kind has."""
    remedy = " ".join((type(error).__doc__ or "").split()) if isinstance(error, ProducersError) else ""
    return f"{error}. {remedy}" if remedy else str(error)
