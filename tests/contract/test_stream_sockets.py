"""Sockets as the gateway uses them, between a real server and a peer that does as it likes."""

from __future__ import annotations

import asyncio
import json
import logging
import struct
from collections.abc import AsyncIterator
from random import Random
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from api.frames import SocketClosed
from api.sockets import PINGS, Connection
from api.stream import CHATTER
from schemas.metrics import REGISTRY
from tests.contract.stream_rig import Rig, Socket, streaming
from tests.eventually import eventually
from tests.socket_rig import BINARY, CLOSE, CONT, PING, PONG, TEXT, Raw, close_of, frame

pytestmark = pytest.mark.anyio

PING_FRAME = b'{"type":"ping","n":1}'


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with streaming() as made:
        yield made


def connection(rig: Rig) -> Connection:
    """The server's side of the latest socket."""
    found: Connection = rig.gateway.sockets[-1]._connection
    return found


async def idle(socket: Socket, seen: Any) -> None:
    """A gateway that looks at nothing until the connection is gone."""
    await cast(Any, socket)._connection._gone.wait()


async def reading(socket: Socket, seen: list[Any]) -> None:
    """A gateway that says nothing."""
    while True:
        seen.append(await socket.receive())


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


async def test_what_came_before_the_end_counts(rig: Rig) -> None:
    rig.gateway.play = reading
    async with rig.site.raw(token="good") as raw:
        raw.writer.write(frame(TEXT, PING_FRAME) * 50 + frame(CLOSE, b"\x0f\xa1bye"))
        assert await raw.closed() == (4001, "bye")
        assert await raw.ended()
    assert len(rig.gateway.seen) == 50
    await eventually(lambda: rig.gateway.ends == [4001])


@pytest.mark.parametrize("said", [b"", b"\x03\xe8"], ids=["1005", "1000"])
async def test_the_peers_code_is_known(rig: Rig, said: bytes) -> None:
    async with rig.site.raw(token="good") as raw:
        raw.say(CLOSE, said)
        assert await raw.hear() == (CLOSE, said)
        assert await raw.ended()
    await eventually(lambda: rig.gateway.ends == [1000 if said else 1005])


@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_a_connection_that_just_ends_is_1006(rig: Rig, how: str) -> None:
    rig.gateway.play = reading
    async with rig.site.raw(token="good") as raw:
        raw.writer.write(frame(TEXT, PING_FRAME) * 50 + frame(TEXT, PING_FRAME)[:5])
        if how == "fin":
            raw.writer.write_eof()
            await eventually(lambda: len(rig.gateway.seen) == 50)
        else:
            await eventually(lambda: rig.gateway.seen)
            raw.writer.transport.abort()
        await eventually(lambda: rig.gateway.ends == [1006])


async def test_pings_are_answered_by_the_latest_pong(rig: Rig) -> None:
    async with rig.site.raw(token="good") as raw:
        raw.writer.write(b"".join(frame(PING, b"%d" % n) for n in range(20)))
        heard = [await raw.hear()]
        while heard[-1] != (PONG, b"19"):
            heard.append(await raw.hear())
    assert {opcode for opcode, _ in heard} == {PONG}


async def test_a_flood_of_pings_ends_it(rig: Rig) -> None:
    async with rig.site.raw(token="good") as raw:
        raw.writer.write(frame(PING, b"x" * 100) * (PINGS + 1))
        assert await raw.closed() == (4429, "rate_limited")


@pytest.mark.parametrize("text", ['{"type":"ping","n":1}', '{"type":"authenticate","token":"good"}', '{"type":"nothing"}'])
async def test_a_flood_of_frames_that_move_nothing_ends_it(rig: Rig, text: str) -> None:
    async with rig.site.raw(token="good") as raw:
        raw.writer.write(frame(TEXT, text.encode()) * (CHATTER + 1))
        assert await raw.closed() == (4429, "rate_limited")
    assert len(rig.gateway.seen) in (CHATTER, 0)


async def test_who_never_reads_costs_no_memory(rig: Rig) -> None:
    async def talk(socket: Socket, seen: Any) -> None:
        while True:
            await socket.send(b'"%s"' % (b"x" * 90_000))

    rig.gateway.play = talk
    async with rig.site.raw(token="good", receive_buffer=4096) as raw:
        await eventually(lambda: connection(rig).stuck_since is not None)
        raw.writer.write(frame(PING, b"x" * 100) * PINGS)
        await eventually(lambda: connection(rig).conn.pong is not None or connection(rig).conn.writes)
        assert connection(rig).transport.get_write_buffer_size() < 300_000
        rig.gateway.sockets[-1].ping()
        assert connection(rig).transport.get_write_buffer_size() < 300_000


async def test_who_is_not_read_is_held_back(rig: Rig) -> None:
    rig.gateway.play = idle
    async with rig.site.raw(token="good") as raw:
        await eventually(lambda: rig.gateway.sockets)
        flood = frame(TEXT, PING_FRAME) * 2000
        while raw.writer.transport.get_write_buffer_size() < 1_000_000:  # until the kernel takes no more
            raw.writer.write(flood)
            await asyncio.sleep(0)
        await eventually(lambda: connection(rig).read_paused)
        held = connection(rig)
        assert len(held._unparsed) < 400_000
        assert len(held._received) < 400


async def test_who_sends_much_at_once_does_not_keep_others_waiting(rig: Rig) -> None:
    turns = [0]

    async def others() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    async def read(socket: Socket, seen: list[Any]) -> None:
        await eventually(lambda: len(connection(rig)._unparsed) > 4000)
        waiting = asyncio.create_task(others())
        seen += [await connection(rig).receive_text() for _ in range(320)]
        waiting.cancel()

    rig.gateway.play = read
    async with rig.site.raw(token="good") as raw:
        await eventually(lambda: rig.gateway.sockets)
        raw.writer.write(frame(TEXT, PING_FRAME) * 320)
        await eventually(lambda: len(rig.gateway.seen) == 320)
    assert turns[0] >= 19


async def test_any_byte_is_life(rig: Rig) -> None:
    rig.gateway.play = idle
    async with rig.site.raw(token="good") as raw:
        await eventually(lambda: rig.gateway.sockets)
        for sent in (frame(PONG, b""), frame(TEXT, PING_FRAME)[:3]):
            connection(rig).heard = 0.0
            raw.writer.write(sent)
            await eventually(lambda: rig.gateway.sockets[0].heard > 0)


async def test_the_gateway_may_ping(rig: Rig) -> None:
    rig.gateway.play = idle
    async with rig.site.raw(token="good") as raw:
        await eventually(lambda: rig.gateway.sockets)
        rig.gateway.sockets[0].ping()
        opcode, payload = await raw.hear()
        assert opcode == PING
        connection(rig).heard = 0.0
        raw.say(PONG, payload)
        await eventually(lambda: rig.gateway.sockets[0].heard > 0)
        assert not rig.gateway.seen


async def test_stuck_is_whose_peer_takes_nothing_until_it_takes_something(rig: Rig) -> None:
    sent: list[int] = []

    async def talk(socket: Socket, seen: Any) -> None:
        for n in range(40):
            await socket.send(b'"%s"' % (b"x" * 60_000))
            sent.append(n)
        await idle(socket, seen)

    rig.gateway.play = talk
    async with rig.site.raw(token="good", receive_buffer=4096) as raw:
        since = await eventually(lambda: connection(rig).stuck_since)
        stalled = len(sent)
        assert stalled < 40
        assert connection(rig).stuck_since == since  # nothing was taken meanwhile
        for _ in range(40):
            await raw.hear()
        await eventually(lambda: len(sent) == 40)
        await eventually(lambda: connection(rig).stuck_since is None)


async def test_closing_waits_for_the_peers_answer(rig: Rig) -> None:
    async def leave(socket: Socket, seen: Any) -> None:
        await asyncio.gather(*(socket.close(4408, "ack_timeout") for _ in range(3)))
        await socket.close(1011, "internal_error")
        with pytest.raises(SocketClosed) as closed:
            await socket.receive()
        assert closed.value.code == 4408
        with pytest.raises(SocketClosed):
            await socket.send(b"{}")
        socket.ping()
        rig.gateway.ends.append(closed.value.code)

    rig.gateway.play = leave
    async with rig.site.raw(token="good") as raw:
        assert await raw.closed(answer=False) == (4408, "ack_timeout")
        assert not rig.gateway.ends
        raw.say(TEXT, PING_FRAME)
        raw.say(CLOSE, b"\x0f\xa0")
        assert await raw.ended()
    await eventually(lambda: rig.gateway.ends == [4408])


@pytest.mark.parametrize("stuck", [False, True])
async def test_closing_does_not_wait_for_ever(rig: Rig, monkeypatch: pytest.MonkeyPatch, stuck: bool) -> None:
    monkeypatch.setattr("api.sockets.CLOSE_SECONDS", 0.05)

    async def leave(socket: Socket, seen: Any) -> None:
        talking = asyncio.create_task(talk(socket))
        await eventually(lambda: connection(rig).stuck_since is not None or not stuck)
        await socket.close(4413, "too_slow")
        with pytest.raises(SocketClosed):
            await talking
        rig.gateway.ends.append(4413)

    async def talk(socket: Socket) -> None:
        while True:
            await socket.send(b'"%s"' % (b"x" * (90_000 if stuck else 10)))
            if not stuck:
                await asyncio.sleep(0.01)

    rig.gateway.play = leave
    async with rig.site.raw(token="good", receive_buffer=4096):
        await eventually(lambda: rig.gateway.ends == [4413])


async def test_a_read_that_waits_ends_when_we_close(rig: Rig) -> None:
    async def leave(socket: Socket, seen: Any) -> None:
        reading = asyncio.create_task(socket.receive())
        await asyncio.sleep(0)
        await socket.close(4401, "token_revoked")
        with pytest.raises(SocketClosed) as closed:
            await reading
        rig.gateway.ends.append(closed.value.code)

    rig.gateway.play = leave
    async with rig.site.client(token="good") as client:
        assert await close_of(client) == (4401, "token_revoked")
    await eventually(lambda: rig.gateway.ends == [4401])


async def test_a_server_that_stops_says_restart(rig: Rig) -> None:
    async with streaming() as other:
        client = await other.site.client(token="good")
        waiting = await other.site.client()
        await eventually(lambda: other.gateway.sockets)
    for one in (client, waiting):
        assert await close_of(one) == (1012, "gateway_restart")
        await one.close()
    assert other.gateway.ends == [1012]


async def test_a_half_shaken_hand_does_not_hold_up_the_stop(rig: Rig) -> None:
    async with Raw(rig.site.port) as raw:
        raw.writer.write(b"GET /messages/stream HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        await raw.writer.drain()


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
