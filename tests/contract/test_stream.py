"""GET /messages/stream as a whole: a real server, gateway, policy and fold in PostgreSQL; only the log is in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from argon2.profiles import CHEAPEST
from structlog.testing import capture_logs
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from api.app import create_app
from api.gateway import StreamOptions
from schemas.events import EndReason, SessionClosed, SessionMarked
from schemas.gateways import GatewayLease
from schemas.topics import GATEWAYS
from tests.edge import Edge, Person, running
from tests.eventually import eventually
from tests.memory_processor import MemoryProcessor
from tests.socket_rig import CLOSE, TEXT, Raw, Site, close_of, listening

pytestmark = pytest.mark.anyio

Frame = dict[str, Any]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


class Town:
    """A service with people in it, and their sockets."""

    def __init__(self, edge: Edge, site: Site, processor: MemoryProcessor) -> None:
        self.edge = edge
        self.site = site
        self.processor = processor

    def connect(self, person: Person, query: str = "") -> Listener:
        return Listener(self.site, person, query)

    def raw(self, person: Person, **more: Any) -> Any:
        return self.site.raw(token=person.tokens["access_token"], **more)

    def ends(self) -> list[EndReason]:
        """Why sessions ended, in their order."""
        facts = [
            recorded.fact for partition in range(self.edge.log.partitions) for recorded in self.edge.log.records(partition)
        ]
        return [fact.reason for fact in facts if isinstance(fact, SessionClosed)]

    def markers(self) -> int:
        """How often a session was marked anew."""
        log = self.edge.log
        return sum(
            isinstance(one.fact, SessionMarked) for partition in range(log.partitions) for one in log.records(partition)
        )


class Listener:
    """One socket of a person."""

    def __init__(self, site: Site, person: Person, query: str) -> None:
        self._connecting = site.client(query, token=person.tokens["access_token"])
        self._number = 0
        self.came: list[Frame] = []

    async def __aenter__(self) -> Listener:
        self.socket: ClientConnection = await self._connecting.__aenter__()
        return self

    async def __aexit__(self, *failure: Any) -> None:
        await self._connecting.__aexit__(*failure)

    async def take(self, kind: str) -> Frame:
        """The next frame, which must be of this kind."""
        frame: Frame = json.loads(await asyncio.wait_for(self.socket.recv(), 20))
        self.came.append(frame)
        assert frame["type"] == kind, frame
        return frame

    async def bodies(self, count: int) -> list[str]:
        """The bodies of so many messages, which come next."""
        return [(await self.take("message"))["body"] for _ in range(count)]

    async def begin(self, backlog: int = 0) -> list[str]:
        """Take what comes until the mailbox is empty; the bodies."""
        await self.take("ready")
        bodies = await self.bodies(backlog)
        await self.take("caught_up")
        return bodies

    async def say(self, kind: str, **more: Any) -> int:
        """Send a frame; its number."""
        self._number += 1
        await self.socket.send(json.dumps({"type": kind, "n": self._number, **more}))
        return self._number

    async def ack(self, *ids: str, kind: str = "ack") -> Frame:
        """Acknowledge, and take the answer."""
        number = await self.say(kind, ids=list(ids))
        answer = await self.take("acked")
        assert answer["n"] == number
        return answer

    async def ended(self) -> tuple[int | None, str | None]:
        """Code and reason with which the server closes."""
        return await asyncio.wait_for(close_of(self.socket), 20)


@asynccontextmanager
async def town_of(database_url: str, **settings: Any) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        edge = await stack.enter_async_context(running(database_url, **settings))
        processor = await stack.enter_async_context(MemoryProcessor(edge.log))
        site = await stack.enter_async_context(listening(create_app(edge.service)))
        yield Town(edge, site, processor)
        await edge.service.end_sessions()


@pytest.fixture(autouse=True)
def _cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.passwords.RFC_9106_LOW_MEMORY", CHEAPEST)


@pytest.fixture
async def town(database_url: str) -> AsyncIterator[Town]:
    async with town_of(database_url) as made:
        yield made


@pytest.fixture
async def alice(town: Town) -> Person:
    return await town.edge.person("alice")


@pytest.fixture
async def bob(town: Town) -> Person:
    return await town.edge.person("bob")


def facts(message: dict[str, Any]) -> dict[str, Any]:
    """What does not change while the processor decides, and is the same in a frame and in a page."""
    return {name: value for name, value in message.items() if name not in ("type", "cursor", "status")}


async def test_the_whole_mailbox_then_what_comes_then_receipts(town: Town, alice: Person, bob: Person) -> None:
    for n in range(5):
        await alice.send(bob, f"old {n}")
    waiting = (await bob.sync())["messages"]
    async with town.connect(alice) as sender, town.connect(bob) as listener:
        await sender.begin()
        ready = await listener.take("ready")
        assert set(ready) == {"type", "session", "window", "heartbeat_seconds", "ack_timeout_seconds", "expires_at"}
        assert (ready["window"], ready["heartbeat_seconds"], ready["ack_timeout_seconds"]) == (256, 25, 15)
        messages = [await listener.take("message") for _ in range(5)]
        caught_up = await listener.take("caught_up")
        assert [facts(one) for one in messages] == [facts(one) for one in waiting]
        after_three = (await bob.sync(cursor=messages[2]["cursor"]))["messages"]
        assert [facts(one) for one in after_three] == [facts(one) for one in waiting[3:]]
        assert (await bob.sync(cursor=caught_up["cursor"]))["messages"] == []

        sent = (await alice.send(bob, "new")).json()
        live = await listener.take("message")
        assert (live["id"], live["body"], live["from"], live["status"]) == (sent["id"], "new", "alice", "DeliveryAttempted")
        assert live["stored_at"] == sent["stored_at"]
        assert live["position"] > messages[-1]["position"]

        answer = await listener.ack(*[one["id"] for one in (*messages, live)])
        assert (len(answer["acknowledged"]), answer["already"], answer["unknown"]) == (6, [], [])
        assert (await bob.sync())["messages"] == []
        receipts = [await sender.take("receipt") for _ in range(6)]
    assert {(one["to"], one["status"]) for one in receipts} == {("bob", "Delivered")}
    assert [one["message_id"] for one in receipts] == [*[one["id"] for one in messages], live["id"]]
    told = (await alice.get("/receipts")).json()["receipts"]
    assert [{k: v for k, v in one.items() if k != "type"} for one in receipts] == told
    await eventually(lambda: town.ends() == [EndReason.CLIENT_CLOSED] * 2)


async def test_what_is_not_acknowledged_comes_again(town: Town, alice: Person, bob: Person) -> None:
    for n in range(3):
        await alice.send(bob, f"m{n}")
    async with town.connect(bob) as first:
        await first.begin(3)
        await first.ack(first.came[2]["id"])
    async with town.connect(bob) as second:
        assert await second.begin(2) == ["m0", "m2"]


async def test_binary_bodies_come_as_in_a_sync(town: Town, alice: Person, bob: Person) -> None:
    async with town.connect(bob) as listener:
        await listener.begin()
        message = {"to": "bob", "body_base64": "AAH/", "content_type": "image/png"}
        assert (await alice.post("/messages", message)).status_code == 202
        live = await listener.take("message")
        assert (live["body_base64"], live["content_type"]) == ("AAH/", "image/png")
        assert "body" not in live


async def test_acknowledging_says_what_was_known(town: Town, alice: Person, bob: Person) -> None:
    mine = (await bob.send(alice, "not yours to ack")).json()["id"]
    await alice.send(bob, "a")
    await alice.send(bob, "b")
    nobodys = str(uuid4())
    async with town.connect(bob) as listener:
        await listener.begin(2)
        a, b = (frame["id"] for frame in listener.came if frame["type"] == "message")
        assert (await bob.post("/messages/ack", {"ids": [a]})).json()["acknowledged"] == [a]
        answer = await listener.ack(b, a, mine, nobodys, b)
        assert (answer["acknowledged"], answer["already"], answer["unknown"]) == ([b], [a], [mine, nobodys])
        answer = await listener.ack(a, b, kind="read")
        assert (answer["acknowledged"], answer["already"]) == ([a, b], [])
        assert (await listener.ack(b, kind="read"))["already"] == [b]
    assert await alice.bodies() == ["not yours to ack"]
    assert (await bob.get(f"/messages/{a}")).json()["status"] == "Read"
    assert (await alice.get(f"/messages/{mine}")).json()["status"] in ("Stored", "PendingSync")


async def test_an_error_frame_says_no_more_than_an_answer_would(town: Town, bob: Person) -> None:
    async with town.connect(bob) as listener:
        await listener.begin()
        await listener.say("ack", ids=["nonsense"])
        error = await listener.take("error")
        assert (error["n"], error["problem"]["code"], error["problem"]["status"]) == (1, "invalid_request", 422)
        assert error["problem"]["request_id"] == listener.came[0]["session"]
        assert set(error["problem"]) == {"type", "title", "status", "detail", "code", "request_id", "errors"}
        await listener.say("ping")
        assert (await listener.take("pong"))["n"] == 2


@pytest.mark.parametrize(
    ("said", "code", "reason"),
    [(b"\x00", 1003, "unsupported_media_type"), ("hello", 4400, "malformed"), ("[]", 4400, "malformed")],
)
async def test_what_is_no_frame_ends_the_session(town: Town, bob: Person, said: Any, code: int, reason: str) -> None:
    async with town.connect(bob) as listener:
        await listener.begin()
        await listener.socket.send(said)
        assert await listener.ended() == (code, reason)
    await eventually(lambda: town.ends() == [EndReason.PROTOCOL_ERROR])


async def test_a_newer_session_of_the_device_ends_the_older(town: Town, alice: Person, bob: Person) -> None:
    tablet = await town.edge.person("bob", "tablet")
    async with town.connect(bob) as first, town.connect(tablet) as other:
        await first.begin()
        await other.begin()
        async with town.connect(bob) as second:
            await second.begin()
            assert await first.ended() == (4409, "replaced")
            await alice.send(bob, "for both devices")
            assert await second.bodies(1) == await other.bodies(1)


async def test_the_window_waits_for_acknowledgements(database_url: str) -> None:
    async with town_of(database_url, stream=StreamOptions(window=3)) as town:
        alice, bob = await town.edge.person("alice"), await town.edge.person("bob")
        for n in range(5):
            await alice.send(bob, f"m{n}")
        async with town.connect(bob) as listener:
            assert (await listener.take("ready"))["window"] == 3
            assert await listener.bodies(3) == ["m0", "m1", "m2"]
            await listener.say("ping")
            await listener.take("pong")  # no message came before it
            await listener.say("ack", ids=[listener.came[2]["id"], listener.came[1]["id"]])
            await listener.take("acked")
            assert await listener.bodies(2) == ["m3", "m4"]
            await listener.take("caught_up")
            await alice.send(bob, "m5")
            await listener.ack(listener.came[3]["id"])
            assert await listener.bodies(1) == ["m5"]


async def test_who_does_not_acknowledge_is_let_go(database_url: str) -> None:
    async with town_of(database_url, stream=StreamOptions(ack_timeout=0.3)) as town:
        alice, bob = await town.edge.person("alice"), await town.edge.person("bob")
        message = (await alice.send(bob, "hello")).json()["id"]
        async with town.connect(bob) as listener:
            await listener.begin(1)
            assert await listener.ended() == (4408, "ack_timeout")
        await eventually(lambda: town.ends() == [EndReason.ACK_TIMEOUT])
        async with town.connect(bob) as listener:
            await listener.begin(1)
            await listener.ack(message)


async def test_who_gives_no_sign_of_life_is_let_go(database_url: str) -> None:
    async with town_of(database_url, stream=StreamOptions(heartbeat=0.2)) as town:
        bob = await town.edge.person("bob")
        async with town.connect(bob) as alive, town.raw(await town.edge.person("bob", "tablet")) as half_open:
            await alive.begin()
            assert await half_open.closed() == (4408, "heartbeat_timeout")
            await alive.say("ping")
            await alive.take("pong")
        await eventually(lambda: sorted(town.ends()) == [EndReason.CLIENT_CLOSED, EndReason.HEARTBEAT_TIMEOUT])


async def test_who_takes_nothing_is_let_go_and_nothing_is_lost(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.conversation.STUCK_SECONDS", 0.3)
    monkeypatch.setattr("api.sockets.CLOSE_SECONDS", 0.1)
    async with town_of(database_url) as town:
        alice, bob = await town.edge.person("alice"), await town.edge.person("bob")
        for n in range(20):
            assert (await alice.send(bob, f"{n:02}".ljust(60_000, "x"))).status_code == 202
        async with town.raw(bob, receive_buffer=4096):
            await eventually(lambda: town.ends() == [EndReason.TOO_SLOW])
        assert [body[:2] for body in await bob.bodies()] == [f"{n:02}" for n in range(17)]
        async with town.connect(bob) as listener:
            seen: list[str] = []
            while len(seen) < 20:
                frame = json.loads(await listener.socket.recv())
                if frame["type"] == "message":
                    seen.append(frame["body"][:2])
                    await listener.say("ack", ids=[frame["id"]])
        assert seen == [f"{n:02}" for n in range(20)]


async def test_a_token_ends_the_session_unless_it_is_renewed(town: Town, bob: Person) -> None:
    tablet = await town.edge.person("bob", "tablet")
    async with town.connect(bob) as listener, town.connect(tablet) as other:
        await listener.begin()
        await other.begin()
        town.edge.clock.now += 600
        fresh = (await town.edge.client.post("/tokens/refresh", json={"refresh_token": bob.tokens["refresh_token"]})).json()
        await listener.socket.send(json.dumps({"type": "authenticate", "token": fresh["access_token"]}))
        assert (await listener.take("authenticated"))["expires_at"] > listener.came[0]["expires_at"]
        for token, code in ((tablet.tokens["access_token"], "token_invalid"), ("x.y.z", "token_invalid")):
            await listener.socket.send(json.dumps({"type": "authenticate", "token": token}))
            assert (await listener.take("error"))["problem"]["code"] == code
        town.edge.clock.now += 600
        assert await other.ended() == (4401, "token_expired")
        await listener.say("ping")
        await listener.take("pong")
    await eventually(lambda: town.ends() == [EndReason.TOKEN_EXPIRED, EndReason.CLIENT_CLOSED])


async def test_logging_out_and_removing_a_device_end_their_sessions(town: Town, bob: Person) -> None:
    tablet = await town.edge.person("bob", "tablet")
    async with town.connect(bob) as mine, town.connect(tablet) as other:
        await mine.begin()
        await other.begin()
        assert (await town.edge.client.delete("/tokens/current", headers=bob.bearer)).status_code == 204
        assert await mine.ended() == (4401, "token_revoked")
        await other.say("ping")
        await other.take("pong")
        gone = await town.edge.client.delete(f"/devices/{tablet.tokens['device_id']}", headers=tablet.bearer)
        assert gone.status_code == 204
        assert await other.ended() == (4401, "token_revoked")
    with pytest.raises(InvalidStatus) as refused:
        await town.site.client(token=bob.tokens["access_token"])
    assert refused.value.response.status_code == 401


async def test_an_account_has_so_many_sockets_and_no_more(database_url: str) -> None:
    async with town_of(database_url, stream=StreamOptions(sockets=2)) as town:
        devices = [await town.edge.person("bob", label) for label in ("a", "b", "c")]
        async with town.connect(devices[0]) as one, town.connect(devices[1]) as two, town.connect(devices[2]) as three:
            await one.begin()
            await two.begin()
            assert await three.ended() == (4429, "rate_limited")
        await eventually(lambda: town.edge.service.gateway.sockets == 0)
        async with town.connect(devices[2]) as three:
            await three.begin()


async def test_while_the_log_is_away_sessions_stay_and_acknowledgements_wait(town: Town, alice: Person, bob: Person) -> None:
    await alice.send(bob, "hello")
    async with town.connect(bob) as listener:
        await listener.begin(1)
        town.edge.log.away = True
        number = await listener.say("ack", ids=[listener.came[1]["id"]])
        await listener.say("ping")
        await listener.take("pong")
        town.edge.log.away = False
        assert (await listener.take("acked"))["n"] == number
        assert await bob.bodies() == []


async def test_while_the_projection_stands_still_live_messages_go_on(town: Town, alice: Person, bob: Person) -> None:
    async with town.connect(bob) as listener:
        await listener.begin()
        await alice.send(bob, "one")
        assert await listener.bodies(1) == ["one"]
        await town.edge.fold.stop()
        await alice.send(bob, "two")
        assert await listener.bodies(1) == ["two"]
        async with town.connect(await town.edge.person("bob", "phone")) as again:
            await again.take("ready")
            assert await listener.ended() == (4409, "replaced")
            town.edge.fold.start()
            assert await again.bodies(2) == ["one", "two"]
            await again.take("caught_up")


async def test_a_new_processor_costs_a_marker_and_no_message(town: Town, alice: Person, bob: Person) -> None:
    async with town.connect(bob) as listener:
        await listener.begin()
        await town.processor.stop()
        await alice.send(bob, "while it was away")
        town.processor.start()
        assert await listener.bodies(1) == ["while it was away"]
        await alice.send(bob, "and after")
        assert await listener.bodies(1) == ["and after"]
        await listener.say("ping")
        await listener.take("pong")
    assert town.markers() == 1


async def test_receipts_go_on_from_a_cursor(town: Town, alice: Person, bob: Person) -> None:
    for n in range(3):
        await alice.send(bob, f"m{n}")
    ids = [message["id"] for message in (await bob.sync())["messages"]]
    await bob.post("/messages/ack", {"ids": ids})
    told = (await alice.get("/receipts")).json()["receipts"]
    assert len(told) == 3
    async with town.connect(alice, f"?receipts_from={told[0]['cursor']}") as listener:
        await listener.take("ready")
        came = [json.loads(await listener.socket.recv()) for _ in range(3)]
        receipts = [frame for frame in came if frame["type"] == "receipt"]
    assert [one["message_id"] for one in receipts] == ids[1:]
    with pytest.raises(InvalidStatus) as refused:
        await town.site.client(f"?receipts_from={told[0]['cursor']}", token=bob.tokens["access_token"])
    assert refused.value.response.status_code == 400


async def test_a_process_that_stops_ends_its_sessions_in_order(town: Town, bob: Person) -> None:
    async with town.connect(bob) as listener:
        await listener.begin()
        await town.edge.service.end_sessions()
        assert await listener.ended() == (1012, "gateway_restart")
    assert town.ends() == [EndReason.GATEWAY_RESTART]
    leases = [held.record for held in town.edge.log.held(GATEWAYS, 0)]
    assert [isinstance(one, GatewayLease) and one.ended for one in leases][-1]
    with pytest.raises(InvalidStatus) as refused:
        await town.site.client(token=bob.tokens["access_token"])
    assert refused.value.response.status_code == 503


async def test_a_connection_that_breaks_in_the_middle_of_it_loses_nothing(town: Town, alice: Person, bob: Person) -> None:
    for n in range(3):
        await alice.send(bob, f"m{n}")
    async with town.raw(bob) as raw:
        while json.loads((await raw.hear())[1])["type"] != "caught_up":
            pass
    await eventually(lambda: town.ends() == [EndReason.CONNECTION_LOST])
    async with town.connect(bob) as listener:
        assert await listener.begin(3) == ["m0", "m1", "m2"]


async def test_the_last_acknowledgement_counts_though_nobody_waits_for_its_answer(
    town: Town, alice: Person, bob: Person
) -> None:
    await alice.send(bob, "hello")
    async with town.raw(bob) as raw:
        frames = [json.loads((await raw.hear())[1]) for _ in range(3)]
        raw.say(TEXT, json.dumps({"type": "ack", "n": 1, "ids": [frames[1]["id"]]}).encode())
        raw.say(CLOSE, b"\x03\xe8")
        assert await raw.ended()
    await eventually(lambda: town.ends() == [EndReason.CLIENT_CLOSED])
    assert await bob.bodies() == []


async def test_no_text_of_anybody_is_logged(town: Town, alice: Person, bob: Person) -> None:
    with capture_logs() as lines:
        async with town.connect(bob) as listener:
            await listener.begin()
            await alice.send(bob, "s3cret")
            await listener.take("message")
            await listener.say("s3cret", token="s3cret")
            await listener.take("error")
            await listener.socket.send("s3cret")
            await listener.ended()
    said = json.dumps(lines, default=str)
    for secret in ("s3cret", bob.tokens["access_token"], alice.name):
        assert secret not in said


async def test_without_an_upgrade_it_is_426(town: Town) -> None:
    answer = await town.edge.client.get("/messages/stream")
    assert (answer.status_code, answer.json()["code"]) == (426, "upgrade_required")
    assert answer.headers["Upgrade"] == "websocket"
    async with Raw(town.site.port) as raw:
        assert (await raw.upgrade(path="/messages/sync")).startswith(b"HTTP/1.1 404 ")


async def test_frames_are_described(town: Town, alice: Person, bob: Person) -> None:
    said = (await town.edge.client.get("/openapi.json")).json()
    stream = said["paths"]["/messages/stream"]["get"]
    assert stream["x-websocket"]["subprotocol"] == "restante.v1"
    assert {"101", "400", "401", "403", "422", "426", "429", "503"} <= set(stream["responses"])
    assert set(stream["x-websocket"]["closeCodes"]) >= {"1011", "1012", "4400", "4401", "4408", "4409", "4413", "4429"}
    schemas = said["components"]["schemas"]
    for union, kinds in (
        ("ClientFrame", {"authenticate", "ack", "read", "ping"}),
        ("ServerFrame", {"ready", "message", "caught_up", "acked", "receipt", "authenticated", "pong", "error"}),
    ):
        assert set(schemas[union]["discriminator"]["mapping"]) == kinds
    await validate_what_comes(town, alice, bob, said)


async def validate_what_comes(town: Town, alice: Person, bob: Person, said: Any) -> None:
    import jsonschema

    async with town.connect(bob) as listener:
        await listener.begin()
        await alice.send(bob, "hello")
        await listener.ack((await listener.take("message"))["id"])
        await listener.say("nothing")
        await listener.take("error")
    shape = {**said["components"]["schemas"]["ServerFrame"], "components": said["components"]}
    for frame in listener.came:
        jsonschema.validate(frame, shape)
