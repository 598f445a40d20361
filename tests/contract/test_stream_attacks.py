"""GET /messages/stream as a whole, and who has no business there: at the door, in the first frame, and once inside."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest
from websockets.exceptions import InvalidStatus

from api.app import create_app
from schemas.events import EndReason
from tests.contract.town import Listener, Town
from tests.edge import Edge, Person, running
from tests.eventually import eventually
from tests.socket_rig import PING, TEXT, close_of, listening

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def edge(town: Town) -> Edge:
    return town.edge


async def bad_tokens(town: Town, person: Person) -> dict[str, str]:
    """Tokens that let nobody in, by what is said of them. Time passes: log in anew."""
    town.edge.clock.now += 1000
    left = await town.edge.person(person.name, "left")
    await town.edge.client.delete("/tokens/current", headers=left.bearer)
    refresh = (await town.edge.person(person.name)).tokens["refresh_token"]
    return {
        "token_invalid": refresh,
        "token_expired": person.tokens["access_token"],
        "token_revoked": left.tokens["access_token"],
    }


async def refusal(town: Town, query: str = "", **more: Any) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as caught:
        await town.site.client(query, **more)
    answer = caught.value.response
    return answer.status_code, json.loads(answer.body or b"")["code"]


async def first_frame(town: Town, frame: dict[str, Any], query: str = "") -> tuple[int | None, str | None]:
    """How a socket ends that came without a token and says this first."""
    async with town.site.client(query) as client:
        await client.send(json.dumps(frame))
        return await asyncio.wait_for(close_of(client), 20)


async def test_no_bad_token_gets_in_by_the_header_or_the_first_frame(town: Town, bob: Person) -> None:
    for code, token in (await bad_tokens(town, bob)).items():
        assert await refusal(town, token=token) == (401, code)
        assert await first_frame(town, {"type": "authenticate", "token": token}) == (4401, code)
    assert town.edge.service.gateway.sockets == 0


async def test_a_token_in_the_url_is_refused_whatever_its_name(town: Town, bob: Person) -> None:
    for name in ("token", "access_token", "authorization", "Authorization"):
        query = f"?{name}={bob.tokens['access_token']}"
        assert await refusal(town, query) == (422, "invalid_request")
        assert await refusal(town, query, token=bob.tokens["access_token"]) == (422, "invalid_request")


async def test_before_it_has_said_who_it_is_a_socket_gets_and_does_nothing(town: Town, alice: Person, bob: Person) -> None:
    sent = (await alice.send(bob, "for bob")).json()["id"]
    for kind in ("ack", "read", "ping"):
        assert await first_frame(town, {"type": kind, "n": 1, "ids": [sent]}) == (4401, "token_missing")
    assert await bob.bodies() == ["for bob"]
    assert town.ends() == []


async def test_receipts_of_others_are_told_to_nobody(town: Town, alice: Person, bob: Person) -> None:
    cursor = (await alice.get("/receipts")).json()["cursor"]
    query, token = f"?receipts_from={cursor}", bob.tokens["access_token"]
    assert await refusal(town, query, token=token) == (400, "bad_cursor")
    assert await first_frame(town, {"type": "authenticate", "token": token}, query) == (4400, "bad_cursor")


async def renewed(listener: Listener, token: str) -> str:
    """What is said to a token that is to renew a session."""
    await listener.socket.send(json.dumps({"type": "authenticate", "token": token}))
    code: str = (await listener.take("error"))["problem"]["code"]
    return code


async def test_only_its_own_good_token_renews_a_session(town: Town, bob: Person) -> None:
    bad = await bad_tokens(town, bob)
    alice, bob, tablet = [await town.edge.person(*who) for who in (("alice", "phone"), ("bob", "phone"), ("bob", "tablet"))]
    async with town.connect(bob) as listener:
        await listener.begin()
        for code, token in bad.items():
            assert await renewed(listener, token) in (code, "token_invalid"), code
        for other in (alice, tablet):
            assert await renewed(listener, other.tokens["access_token"]) == "token_invalid"
        await alice.send(bob, "still bob's")  # nobody else's session it has become
        assert await listener.bodies(1) == ["still bob's"]
        town.edge.clock.now += 1000  # and no longer one
        assert await listener.ended() == (4401, "token_expired")
    await eventually(lambda: town.ends() == [EndReason.TOKEN_EXPIRED])


async def test_a_token_that_is_ended_in_another_process_ends_its_socket_here(town: Town, alice: Person, bob: Person) -> None:
    async with (
        running(town.edge.database.url, log=town.edge.log, clock=town.edge.clock) as other,
        listening(create_app(other.service)) as there,
    ):
        async with Listener(there, bob, "") as mine, Listener(there, alice, "") as hers:
            await mine.begin()
            await hers.begin()
            assert (await town.edge.client.delete("/tokens/current", headers=bob.bearer)).status_code == 204
            assert await asyncio.wait_for(close_of(mine.socket), 5) == (4401, "token_revoked")
            await hers.say("ping")
            await hers.take("pong")
        await other.service.end_sessions()


async def test_acknowledging_what_is_not_ones_own_changes_nothing_and_tells_nothing(
    town: Town, alice: Person, bob: Person
) -> None:
    sent = (await alice.send(bob, "for bob")).json()["id"]
    nobodys = str(uuid4())
    async with town.connect(await town.edge.person("mallory")) as listener:
        await listener.begin()
        for kind in ("ack", "read"):
            there, nowhere = await listener.ack(sent, kind=kind), await listener.ack(nobodys, kind=kind)
            assert there["unknown"] == [sent]
            assert json.dumps({**there, "n": nowhere["n"]}).replace(sent, nobodys) == json.dumps(nowhere)
    assert await bob.bodies() == ["for bob"]
    assert (await alice.get(f"/messages/{sent}")).json()["status"] in ("Stored", "PendingSync")


@pytest.mark.parametrize(("opcode", "text"), [(PING, b"x"), (TEXT, b'{"type":"ping","n":1}')], ids=["pings", "frames"])
async def test_who_floods_is_let_go_and_others_stay(
    town: Town, alice: Person, bob: Person, opcode: int, text: bytes
) -> None:
    async with town.raw(bob) as raw, town.connect(alice) as listener:
        await listener.begin()
        for _ in range(120):
            raw.say(opcode, text)
        assert await raw.closed() == (4429, "rate_limited")
        await listener.say("ping")
        await listener.take("pong")
    await eventually(lambda: EndReason.PROTOCOL_ERROR in town.ends())


async def test_a_foreign_page_gets_in_with_no_token(town: Town, bob: Person) -> None:
    for origin in ("https://evil.test", "null", f"http://127.0.0.1:{town.site.port}.evil.test"):
        for token in (None, bob.tokens["access_token"]):
            assert await refusal(town, origin=origin, token=token) == (403, "foreign_origin")
    async with town.site.client(origin=f"http://127.0.0.1:{town.site.port}", token=bob.tokens["access_token"]) as own:
        assert json.loads(await own.recv())["type"] == "ready"
