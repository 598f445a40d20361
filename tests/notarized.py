"""A log in memory that can be read, signed and tampered with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from uuid import UUID

from api.secrets import make_token_key
from producers.notary import Notary
from producers.register import Register
from producers.signed import Anchor, Signed
from producers.signing import Signer
from producers.statements import public_key, statement_files
from producers.verifying import Report, verify
from schemas.chain import Link
from schemas.raw import RawRecord
from schemas.topics import LIFECYCLE

NOW_MS = 1_760_000_000_000
TOPIC_ID = UUID(int=9)
SIGNER = Signer.read(make_token_key())


def record(partition: int, offset: int, value: bytes | None = None, at_ms: int = NOW_MS) -> RawRecord:
    content = f"value {offset}".encode() if value is None else value
    return RawRecord(partition, offset, at_ms + offset, b"key", content, (("ce_id", str(offset).encode()),))


@dataclass
class MemoryTopic:
    """Records by partition, as somebody who holds the disk may leave them. Reads `at_once` at a time."""

    held: dict[int, list[RawRecord]] = field(default_factory=lambda: {0: [], 1: []})
    topic_id: UUID = TOPIC_ID
    at_once: int = 7

    async def bounds(self) -> Mapping[int, tuple[int, int]]:
        return {
            partition: (held[0].offset, max(one.offset for one in held) + 1) if held else (0, 0)
            for partition, held in self.held.items()
        }

    async def batches(self, partition: int, start: int, end: int) -> AsyncGenerator[Sequence[RawRecord], None]:
        found = [one for one in self.held[partition] if start <= one.offset < end]
        for at in range(0, len(found), self.at_once):
            yield found[at : at + self.at_once]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        return None

    def grow(self, count: int, partition: int = 0) -> None:
        held = self.held[partition]
        held += [record(partition, len(held) + step) for step in range(count)]


@dataclass
class Notarized:
    """A topic, a directory of statements, and the two who work on them."""

    directory: Path
    topic: MemoryTopic = field(default_factory=MemoryTopic)
    projected: dict[tuple[str, int], Link] = field(default_factory=dict)
    now_ms: int = NOW_MS
    most_records: int = 1000

    def register(self) -> Register:
        return Register(self.directory, SIGNER)

    def notary(self, period: float = 0.01) -> Notary:
        async def projected() -> Mapping[tuple[str, int], Link]:
            return dict(self.projected)

        return Notary(
            self.register,
            lambda name: self.topic,
            projected,
            [LIFECYCLE],
            clock=lambda: self.now_ms / 1000,
            period=period,
            most_records=self.most_records,
        )

    def sign(self, *counts: int, partition: int = 0) -> Notary:
        """Let the log grow by each count, and a notary sign it each time."""
        notary = self.notary()

        async def rounds() -> None:
            with self.register() as register:
                for count in counts:
                    self.topic.grow(count, partition)
                    await notary.sign(register)
                    self.now_ms += 60_000

        asyncio.run(rounds())
        return notary

    def signed(self, anchor: Anchor | None = None) -> Signed:
        return Signed(statement_files(self.directory), public_key(self.directory), complete=True, anchor=anchor)

    def verify(self, anchor: Anchor | None = None) -> Report:
        return asyncio.run(verify(lambda name: self.topic, self.signed(anchor), [LIFECYCLE], now_ms=self.now_ms))

    def lines(self) -> list[bytes]:
        """All statements."""
        return [line for file in statement_files(self.directory) for line in file.read_bytes().splitlines()]

    def keep(self, lines: Sequence[bytes]) -> None:
        """Put these in place of all statements."""
        first, *others = statement_files(self.directory)
        for file in others:
            file.unlink()
        first.write_bytes(b"".join(line + b"\n" for line in lines))
