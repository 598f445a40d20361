"""Frames of a peer that does as it likes, at a real server: what is one, what is told, what ends the socket."""

from __future__ import annotations

import asyncio
import json
import logging
import struct
from random import Random
from typing import Any

import pytest
from structlog.testing import capture_logs

from api.stream import CHATTER
from schemas.metrics import REGISTRY
from tests.contract.stream_rig import PING_FRAME, Rig
from tests.eventually import eventually
from tests.socket_rig import BINARY, CLOSE, CONT, PING, PONG, TEXT, close_of, frame

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


async def test_frames_in_pieces_are_one_frame(rig: Rig) -> None:
    text = '{"type":"ping","n":1, "ü":1}'.encode()
    middle = text.index("ü".encode()) + 1
    async with rig.site.raw(token="good") as raw:
        raw.say(TEXT, text[:middle], fin=False)
        raw.say(PING, b"between")
        raw.say(CONT, b"", fin=False)
        raw.say(CONT, text[middle:])
        assert await raw.hear() == (PONG, b"between")
        opcode, said = await raw.hear()
    assert (opcode, json.loads(said)["problem"]["errors"][0]["field"]) == (TEXT, "ü")


async def test_every_byte_may_come_alone(rig: Rig) -> None:
    async with rig.site.raw(token="good") as raw:
        for byte in frame(TEXT, PING_FRAME):
            raw.writer.write(bytes([byte]))
            await raw.writer.drain()
            await asyncio.sleep(0)
        assert json.loads((await raw.hear())[1]) == {"type": "pong", "n": 1}


async def test_many_frames_may_come_at_once(rig: Rig) -> None:
    async with rig.site.client(token="good") as client:
        ack = '{"type":"ack","n":%d,"ids":["00000000-0000-0000-0000-000000000000"]}'
        for n in range(3000):
            await client.send(ack % n)
        assert [json.loads(await client.recv())["n"] for _ in range(3000)] == list(range(3000))


async def test_64_kib_are_a_frame_and_no_byte_more(rig: Rig) -> None:
    async with rig.site.client(token="good") as client:
        await client.send(PING_FRAME.decode().ljust(65_536))
        assert json.loads(await client.recv())["n"] == 1
        await client.send(PING_FRAME.decode().ljust(65_537))
        assert await close_of(client) == (1009, "body_too_large")


@pytest.mark.parametrize("pieces", [[b" " * 40_000, b" " * 40_000], [b""] * 3000], ids=["too large", "too many"])
async def test_pieces_are_counted_together(rig: Rig, pieces: list[bytes]) -> None:
    async with rig.site.raw(token="good") as raw:
        for index, piece in enumerate(pieces):
            raw.say(CONT if index else TEXT, piece, fin=False)
        assert await raw.closed() == (1009, "body_too_large")


async def test_who_sends_megabytes_can_still_read_why_not(rig: Rig) -> None:
    async with rig.site.raw(token="good") as raw:
        raw.writer.write(b"\x81\xff" + struct.pack("!Q", 30_000_000) + bytes(4) + b"x" * 30_000_000)
        assert await raw.closed() == (1009, "body_too_large")
        while await raw.reader.read(65_536):  # a reset would raise
            pass


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        (frame(BINARY, PING_FRAME), 1003, "unsupported_media_type"),
        (frame(TEXT, b"\xc3("), 1007, "malformed"),
        (frame(TEXT, b'"\xed\xa0\x80"'), 1007, "malformed"),
        (frame(TEXT, PING_FRAME, masked=False), 1002, "malformed"),
        (frame(CONT, PING_FRAME), 1002, "malformed"),
        (frame(0x3, b""), 1002, "malformed"),
        (frame(PING, b"x" * 126), 1002, "malformed"),
        (frame(CLOSE, b"\x03"), 1002, "malformed"),
        (frame(CLOSE, b"\x03\xe8\xff"), 1007, "malformed"),
        (frame(TEXT, b"[1]"), 4400, "malformed"),
        (b"GET / HTTP/1.1\r\n\r\n", 1002, "malformed"),
    ],
    ids=[
        "binary",
        "half a letter",
        "a surrogate",
        "not masked",
        "no beginning",
        "unknown kind",
        "long ping",
        "half a code",
        "a bad reason",
        "no object",
        "http",
    ],
)
async def test_what_is_no_frame_ends_it(rig: Rig, sent: bytes, code: int, reason: str) -> None:
    async with rig.site.raw(token="good") as raw:
        raw.say(TEXT, PING_FRAME)
        assert json.loads((await raw.hear())[1]) == {"type": "pong", "n": 1}
        raw.writer.write(sent + frame(TEXT, PING_FRAME))
        assert await raw.closed() == (code, reason)
        assert await raw.ended()
    assert len(rig.gateway.seen) == 1


@pytest.mark.parametrize(
    ("text", "field", "n"),
    [
        ('{"type":"nothing","n":4}', "type", 4),
        ('{"type":"ping"}', "n", None),
        ('{"type":"ping","n":-1}', "n", None),
        ('{"type":"ping","n":1e3}', "n", None),
        ('{"type":"ping","n":9007199254740992}', "n", None),
        ('{"type":"ping","n":true}', "n", None),
        ('{"type":"ping","n":5,"x":1}', "x", 5),
        ('{"type":"ack","n":6,"ids":[]}', "ids", 6),
        ('{"type":"ack","n":6,"ids":["x"]}', "ids[0]", 6),
        ('{"type":"read","n":6,"ids":"x"}', "ids", 6),
        ('{"type":"authenticate","token":7}', "token", None),
        ('{"type":"message","id":"x"}', "type", None),
    ],
)
async def test_a_frame_that_says_nothing_valid_is_told_so_and_it_goes_on(
    rig: Rig, text: str, field: str, n: int | None
) -> None:
    async with rig.site.client(token="good") as client:
        await client.send(text)
        said = json.loads(await client.recv())
        assert (said["type"], said.get("n"), said["problem"]["code"]) == ("error", n, "invalid_request")
        assert [error["field"] for error in said["problem"]["errors"]] == [field]
        await client.send(PING_FRAME.decode())
        assert json.loads(await client.recv())["type"] == "pong"


@pytest.mark.parametrize("text", ['{"type":"ping","n":1}', '{"type":"authenticate","token":"good"}', '{"type":"nothing"}'])
async def test_a_flood_of_frames_that_move_nothing_ends_it(rig: Rig, text: str) -> None:
    async with rig.site.raw(token="good") as raw:
        raw.writer.write(frame(TEXT, text.encode()) * (CHATTER + 1))
        assert await raw.closed() == (4429, "rate_limited")
    assert len(rig.gateway.seen) in (CHATTER, 0)


async def test_nothing_that_is_sent_is_logged(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for text in ('{"type":"authenticate","token":"s3cret"}', '{"type":"s3cret"}', "s3cret"):
            async with rig.site.raw(token="good") as raw:
                raw.say(TEXT, text.encode())
                raw.say(TEXT, b"s3cret\xff")
                raw.say(CLOSE, b"\x0f\xa1s3cret")
                assert await raw.ended()
    assert "s3cret" not in caplog.text


def anything(random: Random) -> bytes:
    """Something that is almost a frame, or not at all."""
    size = random.choice((0, 1, 2, 125, 126, 300))
    match random.randrange(5):
        case 0:
            return random.randbytes(size)
        case 1:
            return frame(TEXT, random.choice((b"{", b"null", b'{"type":"ack","n":', b"\xf0\x9f", b"[" * 5000, PING_FRAME)))
        case 2:
            return frame(random.randrange(16), random.randbytes(size), fin=random.random() < 0.7)
        case 3:
            return frame(random.choice((PING, PONG, CLOSE)), random.randbytes(size % 126))
        case _:
            return frame(TEXT, PING_FRAME, fin=False) + frame(CONT, b"", fin=random.random() < 0.5)


async def test_whatever_is_sent_it_ends_and_nobody_else_notices(rig: Rig) -> None:
    with capture_logs() as lines:
        for seed in range(100):
            random = Random(seed)
            async with rig.site.raw(token="good") as raw:
                for _ in range(random.randrange(1, 30)):
                    raw.writer.write(anything(random))
                raw.writer.write_eof()
                assert await asyncio.wait_for(raw.ended(), 20), seed
        await eventually(lambda: REGISTRY.get_sample_value("restante_sockets") == 0)
        async with rig.site.client(token="good") as client:
            await client.send(PING_FRAME.decode())
            assert json.loads(await client.recv())["type"] == "pong"
    assert lines == []
