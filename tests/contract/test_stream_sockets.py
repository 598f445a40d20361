"""Sockets as the gateway uses them, between a real server and a peer that does as it likes."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from api.frames import SocketClosed
from api.sockets import PINGS, Connection
from tests.contract.stream_rig import PING_FRAME, Rig, Socket, streaming
from tests.eventually import eventually
from tests.socket_rig import CLOSE, PING, PONG, TEXT, Raw, close_of, frame

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


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
