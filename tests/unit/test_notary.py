"""The notary: signs what is new, goes on after any crash, and says what does not agree."""

from __future__ import annotations

import asyncio
import json
import subprocess
from base64 import b64decode
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from api.secrets import make_token_key
from producers import register as registers
from producers.log import LogUnavailable
from producers.notary import Notary
from producers.register import Register, RegisterDamaged, RegisterForeign, RegisterTaken
from producers.signing import KeyRefused, PublicKey, Signer
from producers.statements import PUBLIC_KEY, statement_files
from schemas.chain import Chain, Link
from schemas.raw import RawRecord
from schemas.statements import read_line
from schemas.topics import LIFECYCLE
from tests.eventually import eventually
from tests.notarized import SIGNER, MemoryTopic, Notarized

DAY_MS = 86_400_000


def chain_of(log: Notarized, partition: int = 0) -> Chain:
    chain = Chain(log.topic.topic_id, partition)
    for one in log.topic.held[partition]:
        chain.add(one.at_ms, one.key, one.value, one.headers)
    return chain


def resign(log: Notarized) -> Notary:
    """Another process, with the same directory."""
    return log.sign(0)


def test_it_signs_what_is_new_and_nothing_where_nothing_is(tmp_path: Path) -> None:
    log = Notarized(tmp_path)
    log.sign(5, 0, 2)
    one, two = (read_line(line)[0] for line in log.lines())
    assert [(point.partition, point.first, point.last) for point in one.points] == [(0, 0, 4), (1, 0, -1)]
    assert [(point.partition, point.first, point.last) for point in two.points] == [(0, 5, 6)]
    assert two.points[0].h == chain_of(log).h
    assert (one.number, two.number) == (1, 2)


def test_it_goes_on_after_its_last_statement_also_on_another_day(tmp_path: Path) -> None:
    log = Notarized(tmp_path)
    log.sign(5)
    log.now_ms += DAY_MS
    log.sign(5)
    log.sign(5)
    assert [len(file.read_bytes().splitlines()) for file in statement_files(tmp_path)] == [1, 2]
    third = read_line(log.lines()[1])[0]
    assert [point.partition for point in third.points] == [0, 1]  # the first of a file names all
    statement_files(tmp_path)[0].unlink()
    with pytest.raises(RegisterDamaged, match="statement 1 missing"):
        resign(log)


def test_a_clock_that_goes_back_does_not_open_an_older_file(tmp_path: Path) -> None:
    log = Notarized(tmp_path)
    log.sign(5)
    log.now_ms -= 2 * DAY_MS
    log.sign(5)
    assert len(statement_files(tmp_path)) == 1
    log.now_ms += 3 * DAY_MS
    assert log.verify().findings == []


def test_much_at_once_becomes_several_statements(tmp_path: Path) -> None:
    log = Notarized(tmp_path, most_records=10)
    log.topic.grow(25, 1)
    log.sign(25)
    found = [read_line(line)[0] for line in log.lines()]
    assert [sum(point.last + 1 - point.first for point in one.points) for one in found] == [10, 10, 15, 10, 5]
    assert log.verify().findings == []


@pytest.mark.parametrize("days", [0, 1])
@pytest.mark.parametrize("before", [0, 1])
def test_a_crash_at_any_byte_of_a_statement_loses_that_statement_and_nothing_else(
    tmp_path: Path, before: int, days: int
) -> None:
    """Whatever part of the line reached the disk: the next notary goes on, and who verifies sees nothing wrong."""
    whole = Notarized(tmp_path / "whole")
    whole.sign(*[3] * before, 3)
    file = statement_files(whole.directory)[0]
    end = file.read_bytes()
    start = 0 if not before else end.index(b"\n") + 1
    for cut in (start, start + 1, (start + len(end)) // 2, len(end) - 1):
        log = Notarized(tmp_path / f"cut-{cut}", topic=whole.topic, now_ms=whole.now_ms + days * DAY_MS)
        log.directory.mkdir()
        (log.directory / PUBLIC_KEY).write_text(SIGNER.public.pem)
        (log.directory / file.name).write_bytes(end[:cut])
        resign(log)
        report = log.verify()
        assert report.findings == []
        assert report.proofs[0].tail == 0
        assert log.signed().last.statement.number == before + 1
        resign(log)
        if cut > start:  # a remnant that was signed for is as fixed as a statement
            changed = bytearray((log.directory / file.name).read_bytes())
            changed[start] ^= 1
            (log.directory / file.name).write_bytes(changed)
            assert len(log.verify().findings) == 1


def test_two_crashes_after_each_other(tmp_path: Path) -> None:
    log = Notarized(tmp_path)
    log.sign(3)
    file = statement_files(tmp_path)[0]
    for remnant in (b'{"signa', b'{"signature":"'):
        file.write_bytes(file.read_bytes() + remnant)
        if remnant == b'{"signa':
            file.write_bytes(file.read_bytes() + b"\n")  # the newline that the next one began with, and then it died, too
    log.sign(3)
    assert log.verify().findings == []
    whole = file.read_bytes()
    for left in (b'{"signa\n', b'{"signature":"!\n', b'{"signa\n{"signature":"!\n'):
        file.write_bytes(whole.replace(left, b""))
        assert len(log.verify().findings) == 1, left


def test_the_first_statement_of_a_file_names_all_also_after_a_remnant(tmp_path: Path) -> None:
    log = Notarized(tmp_path)
    log.sign(3)
    log.now_ms += DAY_MS
    (tmp_path / f"{datetime.fromtimestamp(log.now_ms / 1000, UTC).date()}.jsonl").write_bytes(b'{"signa')
    log.sign(3)
    assert [point.partition for point in read_line(log.lines()[-1])[0].points] == [0, 1]
    assert log.verify().findings == []


def test_a_statement_counts_only_once_it_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Notarized(tmp_path)
    log.sign(3)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    async def scenario() -> None:
        stop = asyncio.Event()
        notary = log.notary()
        log.topic.grow(2)
        with monkeypatch.context() as patched:
            patched.setattr(registers.os, "fsync", full)
            running = asyncio.create_task(notary.run(stop))
            await eventually(lambda: "No space" in notary.away)
        stop.set()
        await running

    asyncio.run(scenario())
    log.sign(1)
    assert log.verify().findings == []


def test_one_notary_a_directory(tmp_path: Path) -> None:
    log = Notarized(tmp_path)
    with log.register(), pytest.raises(RegisterTaken):
        log.register().open()


def test_another_key_does_not_go_on_with_a_series(tmp_path: Path) -> None:
    log = Notarized(tmp_path)
    log.sign(1)
    with pytest.raises(RegisterForeign):
        Register(tmp_path, Signer.read(make_token_key())).open()


@pytest.mark.parametrize("damage", ["flipped", "key gone", "emptied in the middle"])
def test_damaged_statements_are_said_and_not_continued(tmp_path: Path, damage: str) -> None:
    log = Notarized(tmp_path)
    log.sign(3, 3, 3)
    first, second, third = log.lines()
    if damage == "flipped":
        log.keep([first, second.replace(b'"number":2', b'"number":7'), third])
    elif damage == "key gone":
        (tmp_path / PUBLIC_KEY).unlink()
    else:
        log.keep([first, third])
    before = log.lines()

    async def scenario() -> None:
        stop, notary = asyncio.Event(), log.notary()
        running = asyncio.create_task(notary.run(stop))
        await eventually(lambda: notary.findings)
        assert "are not as it left them" in notary.findings[0]
        assert notary.away == ""  # the service need not wait for it
        stop.set()
        await running

    log.topic.grow(1)
    asyncio.run(scenario())
    assert log.lines() == before


# -- what does not agree


def test_a_projector_whose_chain_differs_is_found_and_forgotten_once_it_agrees(tmp_path: Path) -> None:
    log = Notarized(tmp_path)
    notary = log.notary()
    log.topic.grow(4)
    good = chain_of(log).link

    async def scenario() -> None:
        with log.register() as register:
            log.projected[LIFECYCLE, 0] = Link(4, bytes(31) + b"\1")
            await notary.sign(register)
            assert "partition 0 of restante.lifecycle: up to offset 3" in notary.findings[0]
            log.projected[LIFECYCLE, 0] = Link(3, bytes(32))  # where the two do not meet nothing is known
            await notary.sign(register)
            assert len(notary.findings) == 1
            log.projected[LIFECYCLE, 0] = good
            await notary.sign(register)
            assert notary.findings == []

    asyncio.run(scenario())
    assert len(log.lines()) == 1  # the log's own h is signed all the same


def test_they_are_compared_where_they_meet_on_the_way(tmp_path: Path) -> None:
    log = Notarized(tmp_path)
    log.topic.grow(4)
    log.projected[LIFECYCLE, 0] = replace(chain_of(log).link, h=bytes(32))
    assert len(log.sign(3).findings) == 1


def test_a_log_that_does_not_go_on_from_what_was_signed(tmp_path: Path) -> None:
    log = Notarized(tmp_path)
    log.sign(5)
    kept = list(log.topic.held[0])
    del log.topic.held[0][3:]
    assert "ends at offset 3, but was signed up to 4" in resign(log).findings[0]
    log.topic.held[0] = [one._replace(offset=one.offset + 9) for one in kept]
    assert "begins at offset 9" in resign(log).findings[0]
    log.topic.held[0] = [*kept, kept[0]._replace(offset=7)]
    assert "the records 5 to 6 are missing" in resign(log).findings[0]
    log.topic.held[0] = kept
    log.topic.topic_id = UUID(int=77)
    assert "another topic" in resign(log).findings[0]
    assert len(log.lines()) == 1


class Away(MemoryTopic):
    """Kafka is away until it is back."""

    away = True

    async def batches(self, partition: int, start: int, end: int) -> AsyncGenerator[Sequence[RawRecord], None]:
        if self.away:
            raise LogUnavailable("rejected", "away")
        async for batch in super().batches(partition, start, end):
            yield batch


def test_while_the_log_is_away_it_waits_and_then_signs_and_once_more_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producers.notary.RETRY_SECONDS", 0.01)
    topic = Away()
    log = Notarized(tmp_path, topic=topic)
    topic.grow(3)

    async def scenario() -> None:
        stop, notary = asyncio.Event(), log.notary(period=3600)
        running = asyncio.create_task(notary.run(stop))
        await eventually(lambda: "away" in notary.away)
        topic.away = False
        await eventually(lambda: not notary.away)
        topic.grow(2)
        stop.set()
        await running

    asyncio.run(scenario())
    assert [point.last for line in log.lines() for point in read_line(line)[0].points] == [2, -1, 4]


# -- what others can do with it


def test_a_statement_is_verified_with_nothing_of_ours(tmp_path: Path) -> None:
    log = Notarized(tmp_path)
    log.sign(5)
    document: Mapping[str, object] = json.loads(log.lines()[0])
    signed = json.dumps(document["statement"], sort_keys=True, separators=(",", ":"))
    (tmp_path / "signed").write_text(signed)
    (tmp_path / "signature").write_bytes(b64decode(str(document["signature"])))
    openssl = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", PUBLIC_KEY, "-rawin", "-in", "signed"]
    done = subprocess.run([*openssl, "-sigfile", "signature"], cwd=tmp_path, capture_output=True, check=False)
    assert b"Verified Successfully" in done.stdout, done.stderr


def test_keys_that_will_not_do_are_refused() -> None:
    for text in ("", "x", SIGNER.public.pem):
        with pytest.raises(KeyRefused):
            Signer.read(text)
    with pytest.raises(KeyRefused):
        PublicKey.read(make_token_key())
    assert "PRIVATE" not in repr(SIGNER)
