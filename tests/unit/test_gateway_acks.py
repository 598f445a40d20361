"""A gateway and acknowledgements, on a virtual clock."""

from __future__ import annotations

import asyncio
from unittest.mock import patch

from api import conversation
from api.frames import SocketClosed
from producers.log import LogUnavailable
from schemas.events import EndReason, Entry, MessagesDelivered, MessagesRead, SessionOpened, Via
from tests.builders import ALICE, PHONE, an_id, delivered
from tests.gateways import World, ids, on_a_gateway, until


@on_a_gateway
async def test_an_acknowledgement_is_answered_once_the_log_has_it(world: World) -> None:
    await world.store(1)
    await world.store(2)
    socket = await world.connected()
    socket.say(type="ack", n=7, ids=ids(2, 1))
    await until(lambda: socket.of("acked"))
    assert socket.of("acked") == [{"type": "acked", "n": 7, "acknowledged": ids(2, 1), "already": [], "unknown": []}]
    (fact,) = world.all(MessagesDelivered)
    assert [entry.position for entry in fact.entries] == [1, 2]
    assert (fact.device_id, fact.via, fact.session_id) == (PHONE, Via.STREAM, world.all(SessionOpened)[0].session_id)


@on_a_gateway
async def test_what_comes_together_becomes_one_fact(world: World) -> None:
    for number in (1, 2, 3):
        await world.store(number)
    socket = await world.connected()
    world.log.away = True
    for n in (1, 2, 3):
        socket.say(type="ack", n=n, ids=ids(n))
    await asyncio.sleep(3)
    world.log.away = False
    await until(lambda: len(socket.of("acked")) == 3)
    assert [len(fact.entries) for fact in world.all(MessagesDelivered)] == [3]


@on_a_gateway
async def test_an_append_is_tried_again_as_the_same_event(world: World) -> None:
    await world.store(1)
    socket = await world.connected()
    append, lost = world.log.append, list[object]()

    async def lose(record, *, partition=None):  # type: ignore[no-untyped-def]
        appended = await append(record, partition=partition)
        if isinstance(record, MessagesDelivered) and not lost:
            lost.append(record)
            raise LogUnavailable("unknown", "no answer")
        return appended

    world.log.append = lose  # type: ignore[method-assign]
    socket.say(type="ack", n=1, ids=ids(1))
    await until(lambda: socket.of("acked"))
    first, second = world.all(MessagesDelivered)
    assert first == second


@on_a_gateway
async def test_reading_acknowledges(world: World) -> None:
    await world.store(1)
    socket = await world.connected()
    socket.say(type="read", n=1, ids=ids(1))
    await until(lambda: socket.of("acked"))
    assert [entry.message_id for entry in world.all(MessagesRead)[0].entries] == [an_id("msg", 1)]
    assert not world.all(MessagesDelivered)


@on_a_gateway
async def test_ids_of_others_and_repeats_are_told_apart(world: World) -> None:
    await world.store(1)
    socket = await world.connected()
    socket.say(type="ack", n=1, ids=ids(1))
    await until(lambda: socket.of("acked"))
    socket.say(type="ack", n=2, ids=ids(1, 99))
    await until(lambda: len(socket.of("acked")) == 2)
    assert socket.of("acked")[1] == {"type": "acked", "n": 2, "acknowledged": [], "already": ids(1), "unknown": ids(99)}
    assert len(world.all(MessagesDelivered)) == 1


@on_a_gateway
async def test_what_nobody_can_look_up_now_is_an_error_and_the_rest_goes_on(world: World) -> None:
    await world.store(1)
    socket = await world.connected()
    world.reads.away = True
    socket.say(type="ack", n=1, ids=ids(1, 99))
    socket.say(type="ack", n=2, ids=ids(1))
    await until(lambda: socket.of("error"))
    assert (socket.of("error")[0]["n"], socket.of("error")[0]["problem"]["code"]) == (1, "projection_behind")
    assert len(world.all(MessagesDelivered)) == 1


@on_a_gateway
async def test_a_client_that_acknowledges_and_goes_is_heard(world: World) -> None:
    await world.store(1)
    socket = await world.connected()
    socket.say(type="ack", n=1, ids=ids(1))
    socket.breaks(SocketClosed(1000))
    await until(lambda: world.ends())
    assert len(world.all(MessagesDelivered)) == 1
    assert world.ends() == [EndReason.CLIENT_CLOSED]


@on_a_gateway
async def test_a_client_that_acknowledges_without_a_log_and_goes_is_heard_later(world: World) -> None:
    await world.store(1)
    socket = await world.connected()
    world.log.away = True
    socket.say(type="ack", n=1, ids=ids(1))
    await asyncio.sleep(5)
    socket.breaks(SocketClosed(1006))
    await asyncio.sleep(60)
    world.log.away = False
    await until(lambda: world.ends())
    assert isinstance(world.facts()[-2], MessagesDelivered)
    assert world.ends() == [EndReason.CONNECTION_LOST]


@on_a_gateway
async def test_more_than_may_wait_stays_with_the_client_until_the_log_is_back(world: World) -> None:
    await world.store(1)
    socket = await world.connected()
    world.log.away = True
    for n in range(700):
        socket.say(type="ack", n=n, ids=ids(1))
    await asyncio.sleep(100)
    assert socket.unread > 100
    assert socket.is_open
    world.log.away = False
    await until(lambda: len(socket.of("acked")) == 700)
    assert [frame["n"] for frame in socket.of("acked")] == list(range(700))
    assert sum(len(frame["acknowledged"]) for frame in socket.of("acked")) == 1


@on_a_gateway
async def test_a_flood_of_questions_about_foreign_ids_ends_the_session(world: World) -> None:
    socket = await world.connected()
    for n in range(300):
        socket.say(type="ack", n=n, ids=ids(9000 + n, 9500))
        await asyncio.sleep(0.01)
    assert socket.closed == (4429, "rate_limited")


@on_a_gateway
async def test_reading_each_message_after_its_acknowledgement_is_no_flood(world: World) -> None:
    for number in range(30):
        await world.store(number)
    with patch.object(conversation, "STRANGE_ACKS", 20):
        socket = world.connect()
        for number in range(30):
            await until(lambda number=number: len(socket.positions) > number)  # type: ignore[misc]
            socket.say(type="ack", n=number, ids=ids(number))
            socket.say(type="read", n=number, ids=ids(number))
        await until(lambda: len(socket.of("acked")) == 60 or socket.closed)
        assert socket.is_open
        assert [len(frame["acknowledged"]) for frame in socket.of("acked")] == [1] * 60
        for n in range(30):
            socket.say(type="read", n=n, ids=ids(n))
            await asyncio.sleep(0.01)
        assert socket.closed == (4429, "rate_limited")  # for each message once


@on_a_gateway
async def test_a_client_that_goes_while_foreign_ids_are_looked_up_is_heard(world: World) -> None:
    await world.store(1)
    socket = await world.connected()
    never = asyncio.get_running_loop().create_future()
    world.reads.outstanding = lambda *_, **__: never  # type: ignore[assignment,method-assign]
    socket.say(type="ack", n=1, ids=ids(1, 99))
    await asyncio.sleep(0.1)
    socket.breaks(SocketClosed(1000))
    await until(lambda: world.ends())
    assert [entry.message_id for fact in world.all(MessagesDelivered) for entry in fact.entries] == [an_id("msg", 1)]


@on_a_gateway
async def test_what_this_process_acknowledged_by_http_is_acknowledged_already(world: World) -> None:
    for number in range(6):
        await world.store(number)
    socket = world.connect()
    await until(lambda: len(socket.positions) == 4)
    entries = [Entry(message_id=an_id("msg", number), position=number + 1, sender=ALICE) for number in range(4)]
    await world.log.append(delivered(*entries))
    world.gateway.acknowledged(PHONE, [entry.message_id for entry in entries])
    socket.say(type="ack", n=1, ids=ids(0, 1))
    await until(lambda: socket.of("acked"))
    assert (socket.of("acked")[0]["acknowledged"], socket.of("acked")[0]["already"]) == ([], ids(0, 1))
    await until(lambda: socket.of("caught_up"), 1)
    assert socket.positions == [1, 2, 3, 4, 5, 6]
    world.gateway.acknowledged(an_id("dev", 1), [an_id("msg", 5)])  # a device without a socket
