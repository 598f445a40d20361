"""Somebody with the broker's disk edits a segment and mends the checksum: Kafka serves it, `restante verify` names it."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c

from api.secrets import make_token_key
from deploy import cli
from deploy.local import kafka_jars, ports
from deploy.local.kafka import LocalKafka
from deploy.local.server import launch
from deploy.settings import machine_environment
from producers.connection import KafkaConnection
from producers.notary import Notary
from producers.recorded import LogReader
from producers.register import Register
from producers.signing import Signer
from producers.topics import create_topics
from schemas.topics import LIFECYCLE, SIGNED

WITHIN = 90.0
_LENGTH, _CRC, _CHECKED = 8, 17, 21
"""Where a batch (record format v2) holds its length, its checksum, and what that is of."""


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="restante-test-") as name:
        yield Path(name)


def test_a_record_that_was_edited_on_disk_is_named_by_its_offset(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = machine_environment()
    cache = kafka_jars.cache_directory(environment, directory / "cache")
    broker = LocalKafka(directory / "kafka", directory / "kafka.log", cache, ports.any_free(), ports.any_free(), environment)
    monkeypatch.setenv("RESTANTE_KAFKA", broker.address)
    monkeypatch.setenv("RESTANTE_NOTARY_DIR", str(directory / "notary"))

    def verified() -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = cli.run(["verify", "--json"])
        return code, json.loads(capsys.readouterr().out)

    async def scenario() -> None:
        child = await launch(broker, WITHIN)
        connection = KafkaConnection(bootstrap=broker.address)
        await create_topics(connection, partitions=2)
        await fill(connection, 40)
        await sign(connection, directory / "notary")
        await fill(connection, 3)
        code, report = await asyncio.to_thread(verified)
        assert (code, report["findings"]) == (0, [])
        assert [(row["proved"], row["tail"]) for row in report["partitions"] if row["end"]] == [(40, 3)]
        await child.stop(within=30)

        (segment,) = (directory / "kafka").rglob(f"{LIFECYCLE}-1/*.log")
        edit(segment, b"value 17!", b"value 71!", mend=True)
        edit(segment, b"value 23!", b"value 32!", mend=False)
        child = await launch(broker, WITHIN)
        try:
            code, report = await asyncio.to_thread(verified)
        finally:
            await child.stop(within=30)
        assert code == 1
        assert [(one["kind"], one["partition"], one["first"], one["last"]) for one in report["findings"]] == [
            ("changed", 1, 17, 17),
            ("damaged", 1, 23, 23),
        ]

    asyncio.run(scenario())


async def fill(connection: KafkaConnection, count: int) -> None:
    """A batch a record, so that one is damaged alone."""
    async with AIOKafkaProducer(**connection.client_options(), acks="all") as producer:
        for number in range(count):
            await producer.send_and_wait(LIFECYCLE, f"value {number}!".encode(), key=b"key", partition=1)


async def sign(connection: KafkaConnection, directory: Path) -> None:
    async def nothing() -> dict[Any, Any]:
        return {}

    signer = Signer.read(make_token_key())
    notary = Notary(
        lambda: Register(directory, signer), lambda topic: LogReader(connection, topic), nothing, SIGNED, clock=time.time
    )
    with Register(directory, signer) as register:
        await notary.sign(register)


def edit(segment: Path, before: bytes, after: bytes, *, mend: bool) -> None:
    """Replace bytes in the one batch that holds them, and mend its checksum or not."""
    content = bytearray(segment.read_bytes())
    at = content.index(before)
    content[at : at + len(before)] = after
    start = 0
    while (end := start + 12 + int.from_bytes(content[start + _LENGTH : start + 12])) <= at:
        start = end
    if mend:
        content[start + _CRC : start + _CHECKED] = calc_crc32c(bytes(content[start + _CHECKED : end])).to_bytes(4)
    segment.write_bytes(content)
