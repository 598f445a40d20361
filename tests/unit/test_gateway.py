"""A gateway's promises one by one, on a virtual clock: what comes, and the gateway itself."""

from __future__ import annotations

import asyncio
from unittest.mock import patch

from api.frames import BadFrame, ReceiptFrame
from api.problems import Problem
from schemas.events import EndReason, SessionMarked, SessionOpened
from schemas.gateways import GatewayLease
from schemas.push import PushKind
from schemas.topics import GATEWAYS
from tests.builders import ALICE, PHONE, an_id, stored
from tests.gateways import NAME, World, ids, on_a_gateway, running, someone_else, until
from tests.simulation.loop import run

# The order of a session


@on_a_gateway
async def test_ready_then_the_mailbox_then_caught_up_then_live(world: World) -> None:
    await world.store(1)
    await world.store(2)
    socket = await world.connected()
    last = await world.send(3, before=world.epoch())
    await until(lambda: len(socket.frames) == 5)
    assert [frame["type"] for frame in socket.frames] == ["ready", "message", "message", "caught_up", "message"]
    assert socket.positions == [1, 2, last]
    assert socket.frames[0]["session"] == str(world.all(SessionOpened)[0].session_id)
    assert (socket.frames[1]["status"], socket.frames[4]["status"]) == ("Stored", "DeliveryAttempted")
    assert socket.frames[4]["from"] == "alice"


@on_a_gateway
async def test_a_window_that_is_full_waits_for_acknowledgements(world: World) -> None:
    for number in range(6):
        await world.store(number)
    socket = world.connect()
    await until(lambda: len(socket.positions) == 4)
    socket.say(type="ack", n=1, ids=ids(0, 1, 2, 3))
    await until(lambda: socket.of("caught_up"))
    assert socket.positions == [1, 2, 3, 4, 5, 6]


@on_a_gateway
async def test_a_lost_push_is_read_from_the_mailbox_without_a_marker(world: World) -> None:
    socket = await world.connected()
    lost = await world.store(1)
    await world.send(2, before=lost)
    await until(lambda: len(socket.positions) == 2)
    assert not world.all(SessionMarked)


@on_a_gateway
async def test_a_remark_is_answered_by_a_marker(world: World) -> None:
    socket = await world.connected()
    await world.store(1)
    await world.order(PushKind.REMARK)
    await until(lambda: socket.positions)
    assert len(world.all(SessionMarked)) == 1


@on_a_gateway
async def test_the_net_finds_what_nobody_pushed(world: World) -> None:
    socket = await world.connected()
    await world.store(1)
    await until(lambda: socket.positions, 120)
    assert len(world.all(SessionMarked)) == 1


@on_a_gateway
async def test_without_the_projection_live_messages_go_on(world: World) -> None:
    await world.store(1)
    socket = await world.connected()
    world.reads.away = True
    await world.send(2, before=world.epoch())
    await until(lambda: len(socket.positions) == 2)


@on_a_gateway
async def test_the_backlog_waits_for_a_projection_that_is_away(world: World) -> None:
    await world.store(1)
    world.reads.away = True
    socket = world.connect()
    await until(lambda: world.reads.asked > 3)
    assert [frame["type"] for frame in socket.frames] == ["ready"]
    world.reads.away = False
    await until(lambda: socket.of("caught_up"))
    assert socket.positions == [1]


# Frames


@on_a_gateway
async def test_a_ping_is_answered(world: World) -> None:
    socket = await world.connected()
    socket.say(type="ping", n=3)
    await until(lambda: socket.of("pong"))
    assert socket.of("pong") == [{"type": "pong", "n": 3}]


@on_a_gateway
async def test_what_is_not_valid_is_refused_and_the_session_goes_on(world: World) -> None:
    socket = await world.connected()
    socket.breaks(BadFrame(None, Problem("invalid_request", "no"), 5))
    await until(lambda: socket.of("error"))
    (error,) = socket.of("error")
    assert (error["n"], error["problem"]["code"]) == (5, "invalid_request")
    assert error["problem"]["request_id"] == socket.frames[0]["session"]
    assert socket.is_open


@on_a_gateway
async def test_what_is_no_frame_ends_the_session(world: World) -> None:
    socket = await world.connected()
    socket.breaks(BadFrame(4400, Problem("malformed", "no")))
    await until(lambda: world.ends())
    assert socket.closed == (4400, "malformed")
    assert world.ends() == [EndReason.PROTOCOL_ERROR]


@on_a_gateway
async def test_a_client_that_takes_no_answers_is_not_heard_any_more(world: World) -> None:
    socket = await world.connected()
    socket.blocked.set()
    for n in range(500):
        socket.say(type="ping", n=n)
    await asyncio.sleep(10)
    assert socket.unread > 400


# Receipts


def receipt(number: int) -> ReceiptFrame:
    return ReceiptFrame(an_id("msg", number), "carol", "Delivered", "2026-11-23T12:00:00.000Z", f"c{number}")


@on_a_gateway
async def test_receipts_come_live(world: World) -> None:
    world.receipts.put(receipt(1))
    socket = await world.connected()
    world.receipts.put(receipt(2))
    world.receipts.put(receipt(3))
    await until(lambda: len(socket.of("receipt")) == 2)
    assert [frame["cursor"] for frame in socket.of("receipt")] == ["c2", "c3"]


@on_a_gateway
async def test_without_a_position_there_is_no_session_before_it_is_known_where_receipts_begin(world: World) -> None:
    world.receipts.silent = True
    socket = world.connect()
    await until(lambda: socket.closed)
    assert (socket.closed, world.facts()[1:]) == ((1011, "log_unavailable"), [])
    world.receipts.silent = False
    ended = world.connect()
    await asyncio.sleep(0)
    world.gateway.revoke(PHONE, 2)
    await until(lambda: ended.closed)
    assert (ended.closed, world.facts()[1:]) == ((4401, "token_revoked"), [])


@on_a_gateway
async def test_receipts_come_from_a_position_on(world: World) -> None:
    for number in range(250):
        world.receipts.put(receipt(number))
    socket = await world.connected(receipts_from=9)
    world.receipts.put(receipt(250))
    await until(lambda: len(socket.of("receipt")) == 241)
    assert [frame["cursor"] for frame in socket.of("receipt")] == [f"c{number}" for number in range(10, 251)]


# The gateway itself


def leases(world: World) -> list[GatewayLease]:
    return [held.record for held in world.log.held(GATEWAYS, 0)]  # type: ignore[misc]


def test_a_start_that_is_given_up_closes_the_tail() -> None:
    async def scenario() -> None:
        world = World()
        never, closed = asyncio.get_running_loop().create_future(), list[object]()

        async def close(*failure: object) -> None:
            closed.append(failure)

        world.log.append = lambda *_, **__: never  # type: ignore[assignment,method-assign]
        world.gateway._pushes.__aexit__ = close  # type: ignore[method-assign]
        try:
            async with asyncio.timeout(1):
                await world.gateway.__aenter__()
        except TimeoutError:
            pass
        assert len(closed) == 1

    run(scenario())


def test_leaving_ends_every_session_and_then_the_lease() -> None:
    async def work() -> None:
        async with running() as world:
            one, other = await world.connected(), await world.connected(someone_else(5))
            world.gateway.drain()
            late = world.connect(someone_else(6))
            await until(lambda: late.closed)
        assert one.closed == other.closed == late.closed == (1012, "gateway_restart")
        assert world.ends() == [EndReason.GATEWAY_RESTART] * 2
        assert [lease.ended for lease in leases(world)] == [False, True]
        assert asyncio.get_running_loop().time() < 1

    run(work())


def test_leaving_takes_seconds_even_without_a_log() -> None:
    async def work() -> None:
        async with running() as world:
            socket = await world.connected()
            world.log.away = True
        assert socket.closed == (1012, "gateway_restart")
        assert asyncio.get_running_loop().time() < 4

    run(work())


@on_a_gateway
async def test_the_lease_is_renewed_three_times_in_its_time(world: World) -> None:
    await asyncio.sleep(31)
    assert len(leases(world)) == 7
    lease = leases(world)[-1]
    assert (lease.gateway, lease.push_partition, lease.lease_ms, lease.ended) == (NAME, 0, 15_000, False)


@on_a_gateway
async def test_who_cannot_renew_for_two_minutes_ends_its_sockets(world: World) -> None:
    socket = await world.connected()
    world.log.away = True
    await asyncio.sleep(115)
    assert socket.is_open
    await asyncio.sleep(16)
    assert socket.closed == (1012, "gateway_restart")
    world.log.away = False
    await until(lambda: world.ends())


@on_a_gateway
async def test_a_fault_ends_one_session_only(world: World) -> None:
    await world.store(1)
    with patch("api.conversation.message_frame", side_effect=RuntimeError("a fault of ours")):
        broken = world.connect()
        await until(lambda: broken.closed)
    assert broken.closed == (1011, "internal_error")
    assert not world.gateway.working.done()


@on_a_gateway
async def test_a_body_that_does_not_open_holds_up_nothing(world: World) -> None:
    await world.store(1)
    await world.log.append(stored(2, sealed=b"changed by somebody"))
    await world.store(3)
    socket = await world.connected()
    first, second, third = socket.of("message")
    assert (first["body"], third["body"], second["id"]) == ("hello", "hello", str(an_id("msg", 2)))
    assert second["problem"]["code"] == "body_unreadable"
    assert second.keys().isdisjoint({"body", "body_base64", "content_type"})
    last = await world.store(4)
    await world.push(4, last, world.epoch())
    await until(lambda: len(socket.of("message")) == 4)
    socket.say(type="ack", n=1, ids=ids(2))
    await until(lambda: socket.of("acked"))
    assert socket.of("acked")[0]["acknowledged"] == ids(2)


@on_a_gateway
async def test_who_is_erased_has_no_name_on_what_waits_to_be_sent(world: World) -> None:
    socket = await world.connected()
    position = await world.store(1)
    world.gateway.forget(ALICE)
    await world.push(1, position, world.epoch())
    await until(lambda: socket.of("message"))
    assert socket.of("message")[0]["from"] is None
