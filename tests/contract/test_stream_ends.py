"""GET /messages/stream as a whole: why sessions end, with which code, and what is not lost by it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from api.gateway import StreamOptions
from schemas.events import EndReason
from schemas.gateways import GatewayLease
from schemas.topics import GATEWAYS
from tests.contract.town import Town, town_of
from tests.edge import Edge, Person
from tests.eventually import eventually
from tests.socket_rig import CLOSE, TEXT

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def edge(town: Town) -> Edge:
    return town.edge


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
