"""A gateway and the ends of its sessions, on a virtual clock."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from api.frames import SocketClosed
from producers.log import LogUnavailable
from schemas.events import EndReason, Entry, MessagesDelivered, SessionOpened
from schemas.push import PushKind
from tests.builders import ALICE, PHONE, an_id, delivered
from tests.gateways import ME, World, ids, now, on_a_gateway, someone_else, until

# Clocks


@on_a_gateway
async def test_a_message_that_is_not_acknowledged_in_time_ends_the_session(world: World) -> None:
    await world.store(1)
    socket = await world.connected()
    await until(lambda: socket.closed, 17)
    assert socket.closed == (4408, "ack_timeout")
    await until(lambda: world.ends())
    assert world.ends() == [EndReason.ACK_TIMEOUT]


@on_a_gateway
async def test_acknowledging_one_after_the_other_keeps_the_session(world: World) -> None:
    for number in (1, 2, 3):
        await world.store(number)
    socket = await world.connected()
    for number in (1, 2, 3):
        await asyncio.sleep(12)
        socket.say(type="ack", n=number, ids=ids(number))
    await asyncio.sleep(12)
    assert socket.is_open


@on_a_gateway
async def test_what_was_acknowledged_by_http_is_not_held_against_the_socket(world: World) -> None:
    position = await world.store(1)
    socket = await world.connected()
    await world.log.append(delivered(Entry(message_id=an_id("msg", 1), position=position, sender=ALICE)))
    await asyncio.sleep(40)
    assert socket.is_open


@on_a_gateway
async def test_acknowledgements_by_http_make_room(world: World) -> None:
    for number in range(6):
        await world.store(number)
    socket = world.connect()
    await until(lambda: len(socket.positions) == 4)
    entries = [Entry(message_id=an_id("msg", number), position=number + 1, sender=ALICE) for number in range(4)]
    await world.log.append(delivered(*entries))
    await until(lambda: len(socket.positions) == 6, 5)


@on_a_gateway
async def test_a_client_that_waits_for_an_answer_is_not_overdue_while_the_log_is_away(world: World) -> None:
    await world.store(1)
    await world.store(2)
    socket = await world.connected()
    world.log.away = True
    socket.say(type="ack", n=1, ids=ids(1))
    await asyncio.sleep(60)
    world.log.away = False
    await until(lambda: socket.of("acked"))
    await asyncio.sleep(10)
    assert socket.is_open
    await until(lambda: socket.closed, 10)
    assert socket.closed == (4408, "ack_timeout")


@on_a_gateway
async def test_nor_while_the_log_takes_nothing_but_says_where_it_ends(world: World) -> None:
    await world.store(1)
    await world.store(2)
    socket = await world.connected()
    append = world.log.append

    async def refuse(record, *, partition=None):  # type: ignore[no-untyped-def]
        if isinstance(record, MessagesDelivered):
            raise LogUnavailable("rejected", "full")
        return await append(record, partition=partition)

    world.log.append = refuse  # type: ignore[method-assign]
    socket.say(type="ack", n=1, ids=ids(1))
    await asyncio.sleep(60)
    assert socket.is_open


@on_a_gateway
async def test_nobody_is_judged_while_nobody_can_tell(world: World) -> None:
    await world.store(1)
    socket = await world.connected()
    world.reads.away = True
    await asyncio.sleep(80)
    assert socket.is_open


@on_a_gateway
async def test_a_peer_of_which_nothing_is_heard_is_given_up(world: World) -> None:
    socket = await world.connected()
    socket.deaf = True
    await until(lambda: socket.closed, 60)
    assert socket.closed == (4408, "heartbeat_timeout")
    assert socket.pings == 1
    assert asyncio.get_running_loop().time() >= 50


@on_a_gateway
async def test_any_sign_of_life_keeps_the_session(world: World) -> None:
    socket = await world.connected()
    await asyncio.sleep(201)
    assert socket.is_open
    assert socket.pings == 8


@on_a_gateway
async def test_a_peer_that_takes_nothing_is_sent_to_http(world: World) -> None:
    socket = await world.connected()
    socket.stuck_since = asyncio.get_running_loop().time()
    await until(lambda: socket.closed, 32)
    assert socket.closed == (4413, "too_slow")


@on_a_gateway
async def test_a_token_that_expires_ends_the_session(world: World) -> None:
    socket = await world.connected(replace(ME, expires_at=int(now()) + 20))
    await until(lambda: socket.closed, 22)
    assert socket.closed == (4401, "token_expired")


@on_a_gateway
async def test_a_renewed_token_keeps_it(world: World) -> None:
    world.tokens = {"new": ME}
    socket = await world.connected(replace(ME, expires_at=int(now()) + 20))
    socket.say(type="authenticate", token="new")
    await until(lambda: socket.of("authenticated"))
    await asyncio.sleep(30)
    assert socket.is_open


@on_a_gateway
async def test_a_token_of_another_device_renews_nothing(world: World) -> None:
    world.tokens = {"other": someone_else(5)}
    socket = await world.connected()
    socket.say(type="authenticate", token="other")
    socket.say(type="authenticate", token="rubbish")
    await until(lambda: len(socket.of("error")) == 2)
    assert {frame["problem"]["code"] for frame in socket.of("error")} == {"token_invalid"}
    assert socket.is_open


# Who stays


@on_a_gateway
async def test_a_newer_session_of_the_device_replaces_the_older(world: World) -> None:
    old = await world.connected()
    new = await world.connected()
    assert (old.closed, new.closed) == ((4409, "replaced"), None)
    await until(lambda: world.ends())
    assert world.all(SessionOpened)[0].session_id != world.all(SessionOpened)[1].session_id


@on_a_gateway
async def test_another_device_replaces_nobody(world: World) -> None:
    one, other = await world.connected(), await world.connected(someone_else(5))
    assert one.closed is other.closed is None


@on_a_gateway
async def test_the_processor_says_that_it_is_over(world: World) -> None:
    socket = await world.connected()
    await world.order(PushKind.CLOSE, reason="replaced")
    await until(lambda: socket.closed)
    assert socket.closed == (4409, "replaced")


@on_a_gateway
async def test_a_removed_device_is_told_so(world: World) -> None:
    socket = await world.connected()
    await world.order(PushKind.CLOSE, reason="device_removed")
    await until(lambda: world.ends())
    assert socket.closed == (4401, "token_revoked")
    assert world.ends() == [EndReason.DEVICE_REMOVED]


@on_a_gateway
async def test_who_was_taken_for_lost_connects_anew(world: World) -> None:
    socket = await world.connected()
    await world.order(PushKind.CLOSE, reason="gateway_lost")
    await until(lambda: socket.closed)
    assert socket.closed == (1012, "gateway_restart")


@on_a_gateway
async def test_an_order_for_a_session_that_is_not_here_is_answered_by_its_end(world: World) -> None:
    await world.connected()
    unknown = an_id("sess", 77)
    await world.order(PushKind.REMARK, session=unknown)
    await world.order(PushKind.REMARK, session=unknown)
    await until(lambda: world.ends())
    await asyncio.sleep(1)
    assert world.ends() == [EndReason.UNKNOWN_SESSION]


@on_a_gateway
async def test_orders_for_another_gateway_are_not_ours(world: World) -> None:
    socket = await world.connected()
    await world.order(PushKind.REMARK, session=an_id("sess", 77), gateway="gateway/2")
    await world.order(PushKind.CLOSE, gateway="gateway/2")
    await asyncio.sleep(1)
    assert socket.is_open
    assert world.ends() == []


@on_a_gateway
async def test_orders_from_before_an_end_are_no_news(world: World) -> None:
    socket = await world.connected()
    socket.breaks(SocketClosed(1000))
    await until(lambda: world.ends())
    await world.order(PushKind.REMARK)
    await asyncio.sleep(1)
    assert world.ends() == [EndReason.CLIENT_CLOSED]


@on_a_gateway
async def test_ended_tokens_end_their_sockets(world: World) -> None:
    socket = await world.connected()
    world.gateway.revoke(PHONE, ME.generation)
    assert socket.is_open
    world.gateway.revoke(PHONE, ME.generation + 1)
    await until(lambda: socket.closed)
    assert socket.closed == (4401, "token_revoked")
    late = world.connect()
    await until(lambda: late.closed)
    assert late.closed == (4401, "token_revoked")
    assert (await world.connected(replace(ME, generation=ME.generation + 1))).closed is None


@on_a_gateway
async def test_an_account_has_so_many_sockets(world: World) -> None:
    for number in range(3):
        await world.connected(someone_else(number))
    socket = world.connect(someone_else(9))
    await until(lambda: socket.closed)
    assert socket.closed == (4429, "rate_limited")


@on_a_gateway
async def test_an_account_that_is_erased_has_no_session(world: World) -> None:
    socket = world.connect(replace(ME, user=ALICE))
    await until(lambda: socket.closed)
    assert socket.closed == (4401, "token_revoked")


@on_a_gateway
async def test_without_a_log_no_session_begins(world: World) -> None:
    world.log.away = True
    socket = world.connect()
    await until(lambda: socket.closed)
    world.log.away = False
    assert socket.closed == (1011, "log_unavailable")
    assert socket.frames == []
    await asyncio.sleep(10)
    assert world.ends() == []


@on_a_gateway
async def test_a_session_whose_beginning_is_uncertain_is_ended(world: World) -> None:
    append = world.log.append

    async def lose(record, *, partition=None):  # type: ignore[no-untyped-def]
        appended = await append(record, partition=partition)
        if isinstance(record, SessionOpened):
            raise LogUnavailable("unknown", "no answer")
        return appended

    world.log.append = lose  # type: ignore[method-assign]
    socket = world.connect()
    await until(lambda: world.ends())
    assert socket.closed == (1011, "log_unavailable")
    assert world.ends() == [EndReason.FAULT]
