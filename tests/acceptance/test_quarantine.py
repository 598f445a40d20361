"""Records that nobody understands: what an operator sees of them, and how one comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from aiokafka import AIOKafkaProducer

from deploy import cli
from schemas.codec import encode
from schemas.events import MessagesDelivered
from schemas.partitions import partition_for
from schemas.topics import LIFECYCLE
from tests.acceptance.log import lifecycle, record_at
from tests.acceptance.people import ids, phone_of
from tests.acceptance.service import Service
from tests.builders import an_id
from tests.eventually import soon

pytestmark = pytest.mark.timeout(300)


Command = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def quarantine(quick: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process, which saves its start: exit code, answer, complaint."""
    for name, value in quick.environment.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[int, Any, str]:
        capsys.readouterr()
        code = cli.run(["quarantine", *arguments, "--json"])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else None, said.err

    return run


def write(service: Service, key: bytes, value: bytes, partition: int) -> str:
    """Append what nobody of ours would; its name."""

    async def send() -> str:
        async with AIOKafkaProducer(bootstrap_servers=service.kafka, acks="all") as producer:
            at = await producer.send_and_wait(LIFECYCLE, value, key=key, partition=partition)
        return f"{LIFECYCLE}/{partition}/{at.offset}"

    return asyncio.run(send())


def listed(quarantine: Command, name: str) -> dict[str, Any] | None:
    code, document, _ = quarantine("list")
    assert code == 0
    return next((one for one in document["set_aside"] if one["record"] == name and len(one["reasons"]) == 2), None)


def test_what_is_set_aside_is_shown_and_comes_back_once_it_is_understood(quick: Service, quarantine: Command) -> None:
    alice, bob = phone_of(quick, "alice"), phone_of(quick, "bob")
    kept = alice.send(bob, "hello")
    assert ids(bob.mailbox()) == [kept]
    bob.ack([kept])
    again = alice.send(bob, "again")
    acknowledged = next(
        one.said
        for one in lifecycle(quick)
        if isinstance(one.said, MessagesDelivered) and one.said.entries[0].message_id == UUID(kept)
    )
    position = bob.mailbox()[0]["position"]
    entry = replace(acknowledged.entries[0], message_id=UUID(again), position=position)
    astray = encode(replace(acknowledged, event_id=an_id("ev", 1), entries=(entry,)))
    home = partition_for(acknowledged.recipient, 8)

    junk = write(quick, b"nobody", b"\x00junk", home)
    lost = write(quick, astray.key, astray.value, (home + 1) % 8)
    one = soon(lambda: listed(quarantine, junk), within=30)
    assert (one["understood_as"], set(one["reasons"])) == (None, {"processor", "projector"})
    other = soon(lambda: listed(quarantine, lost), within=30)
    assert (other["understood_as"], other["replayed_as"]) == ("MessagesDelivered", None)
    assert ids(bob.mailbox()) == [again], "what stands elsewhere counts for nothing"
    code, shown, _ = quarantine("show", junk)
    assert (code, shown["key"], shown["bytes"]) == (0, "nobody", b"\x00junk".hex())

    code, _, said = quarantine("replay", junk)
    assert code == 1 and "not understood" in said
    code, _, said = quarantine("replay", f"{LIFECYCLE}/0/999999")
    assert code == 1 and "list" in said
    assert quarantine("replay")[0] == 2
    code, document, _ = quarantine("replay", "--all")
    assert code == 0 and [done["record"] for done in document["replayed"]] == [lost]
    topic, partition, offset = document["replayed"][0]["replayed_as"].split("/")
    assert int(partition) == home
    assert record_at(quick, {"topic": topic, "partition": home, "offset": int(offset)}).said == replace(
        acknowledged, event_id=an_id("ev", 1), entries=(entry,)
    )
    assert bob.mailbox() == []
    code, _, said = quarantine("replay", lost)
    assert code == 1 and "already back" in said
    assert quarantine("replay", "--all")[1] == {"replayed": []}
