"""GET /messages/stream as a whole: what comes on it, in which order, and what acknowledging does."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs
from websockets.exceptions import InvalidStatus

from api.gateway import StreamOptions
from schemas.events import EndReason
from tests.contract.town import Town, town_of
from tests.edge import Edge, Person
from tests.eventually import eventually
from tests.socket_rig import Raw

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def edge(town: Town) -> Edge:
    return town.edge


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
