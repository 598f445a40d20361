"""A gateway's promises one by one, on a virtual clock. (tests/simulation has them all at once.)"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import wraps
from unittest.mock import patch

from api import conversation
from api.frames import BadFrame, ReceiptFrame, SocketClosed
from api.problems import Problem
from producers.log import LogUnavailable
from schemas.events import EndReason, Entry, MessagesDelivered, MessagesRead, SessionMarked, SessionOpened, Via
from schemas.gateways import GatewayLease
from schemas.push import PushKind
from schemas.topics import GATEWAYS
from tests.builders import ALICE, PHONE, an_id, delivered, stored
from tests.gateways import ME, NAME, World, now, running, someone_else, until
from tests.simulation.loop import run


def on_a_gateway(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    """Run a test with a gateway at work."""

    @wraps(test)
    def played() -> None:
        async def work() -> None:
            async with running() as world:
                await test(world)

        run(work())

    del played.__wrapped__  # its argument is no fixture
    return played


def ids(*numbers: int) -> list[str]:
    return [str(an_id("msg", number)) for number in numbers]


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


# Acknowledgements


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
