"""Accounts that a real OpenID provider keeps: its tokens over HTTP and over the WebSocket."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import jwt
import pytest

from api.app import create_app
from api.outside import names_for
from api.provider import Outside
from deploy.examination import Check, examine
from deploy.settings import read_settings
from schemas.events import DeviceRegistered
from tests.edge import Clock, Edge, Person, running
from tests.openid import OpenId, provider
from tests.socket_rig import close_of, listening

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def openid() -> Iterator[OpenId]:
    with provider() as running_one:
        yield running_one


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@asynccontextmanager
async def relying(openid: OpenId, database_url: str, **more: Any) -> AsyncIterator[Edge]:
    """An edge whose accounts the provider keeps. Its clock is the provider's."""
    clock = Clock()
    clock.now = time.time()
    async with running(
        database_url, clock=clock, outside=Outside(issuer=openid.issuer, audience="restante"), **more
    ) as edge:
        yield edge


@pytest.fixture
async def edge(openid: OpenId, database_url: str) -> AsyncIterator[Edge]:
    async with relying(openid, database_url) as made:
        yield made


class Visitor(Person):
    """Somebody with a token of the provider."""

    @property
    def bearer(self) -> dict[str, str]:
        return {**super().bearer, "Restante-Device": self.tokens["device"]}

    async def me(self) -> dict[str, Any]:
        answer = await self.get("/accounts/me")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


async def visitor(edge: Edge, openid: OpenId, subject: str, device: str = "phone", **claims: Any) -> Visitor:
    """Somebody logs in there and comes here."""
    token = await openid.token(subject, **claims)
    return Visitor(edge, claims.get("preferred_username", subject), {"access_token": token, "device": device})


def on(person: Visitor, edge: Edge | None = None, **changes: str) -> Visitor:
    """The same with another device, token or process."""
    return Visitor(edge or person.edge, person.name, person.tokens | changes)


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def registrations(edge: Edge) -> set[UUID]:
    found = [recorded.fact for partition in range(edge.log.partitions) for recorded in edge.log.records(partition)]
    return {fact.device_id for fact in found if isinstance(fact, DeviceRegistered)}


async def later(edge: Edge, openid: OpenId, person: Visitor) -> Visitor:
    """The same person with a token of a later second of the provider's clock."""
    old = jwt.decode(person.tokens["access_token"], options={"verify_signature": False})
    while True:
        token = await openid.token(old["sub"], preferred_username=person.name)
        if jwt.decode(token, options={"verify_signature": False})["iat"] > old["iat"]:
            edge.clock.now = max(edge.clock.now, time.time())
            return on(person, access_token=token)


async def test_an_account_and_its_device_are_made_when_somebody_first_comes(edge: Edge, openid: OpenId) -> None:
    alice = await visitor(edge, openid, "s-1", preferred_username="Alice")
    bob = await visitor(edge, openid, "s-2", preferred_username="bob")
    me = await alice.me()
    assert me["name"] == "alice"
    assert UUID(me["device_id"]) in registrations(edge), "in the log before the first answer"
    assert await alice.me() == me
    other = await on(alice, device="laptop").me()
    assert (other["user_id"], other["device_id"] != me["device_id"]) == (me["user_id"], True)
    await bob.me()
    assert (await bob.post("/messages", {"to": "alice", "body": "hello"})).status_code == 202
    assert [await each.bodies() for each in (alice, on(alice, device="laptop"))] == [["hello"], ["hello"]]
    labels = {device["label"] for device in (await alice.get("/devices")).json()["devices"]}
    assert labels == {"phone", "laptop"}


async def test_who_comes_twenty_times_at_once_is_one_account_with_one_device(edge: Edge, openid: OpenId) -> None:
    carol = await visitor(edge, openid, "s-3", preferred_username="carol")
    found = await asyncio.gather(*(carol.me() for _ in range(20)))
    assert len({(me["user_id"], me["device_id"], me["name"]) for me in found}) == 1


async def test_a_known_token_asks_neither_provider_nor_database(
    edge: Edge, openid: OpenId, monkeypatch: pytest.MonkeyPatch
) -> None:
    dave = await visitor(edge, openid, "s-4", preferred_username="dave")
    await dave.me()
    tokens = edge.service.tokens
    monkeypatch.setattr(tokens, "_provider", None)
    monkeypatch.setattr(tokens, "_accounts", None)
    assert (await dave.get("/messages/sync")).status_code == 200
    with pytest.raises(AttributeError):
        await tokens.recognise(dave.tokens["access_token"], lambda: "laptop")


@pytest.mark.parametrize("device", [None, "", "x" * 65, "a\tb", b"\xff"], ids=["none", "empty", "long", "tab", "no UTF-8"])
async def test_a_call_must_say_its_device(edge: Edge, openid: OpenId, device: str | bytes | None) -> None:
    eve = await visitor(edge, openid, "s-5", preferred_username="eve")
    headers: Any = {"Authorization": eve.bearer["Authorization"]} | ({} if device is None else {"Restante-Device": device})
    answer = await edge.client.get("/messages/sync", headers=headers)
    assert code(answer) == (422, "invalid_request")
    assert [fault["field"] for fault in answer.json()["errors"]] == ["Restante-Device"]


async def test_own_logins_are_elsewhere(edge: Edge, openid: OpenId) -> None:
    login = {"name": "alice", "password": "correct horse"}
    for path, body in (
        ("/accounts", login), ("/tokens", {**login, "device": "phone"}), ("/tokens/refresh", {"refresh_token": "x"})
    ):  # fmt: skip
        answer = await edge.client.post(path, json=body)
        assert code(answer) == (403, "accounts_elsewhere")
        assert openid.issuer in answer.json()["detail"]
    await (await visitor(edge, openid, "s-6", preferred_username="frank")).me()
    (key,) = (await edge.client.get("/.well-known/jwks.json")).json()["keys"]
    assert key["kty"] == "RSA"


async def test_names_are_given_once_whoever_claims_them(edge: Edge, openid: OpenId) -> None:
    names = []
    for subject, claims in (
        ("n-1", {"preferred_username": "grace"}), ("n-2", {"preferred_username": "GRACE"}), ("n-3", {}),
        ("n-4", {"preferred_username": "no name at all!"}), ("n-5", {"preferred_username": "x" * 63}),
        ("n-6", {"preferred_username": "x" * 63}),
    ):  # fmt: skip
        names.append((await (await visitor(edge, openid, subject, **claims)).me())["name"])
    assert (names[0], names[4]) == ("grace", "x" * 63)
    assert [names[1][:6], names[2][:5], names[3][:5], names[5][:5]] == ["grace-", "user-", "user-", "xxxxx"]
    assert len(set(names)) == 6
    assert all(len(name) <= 63 for name in names)


def test_every_name_that_is_tried_follows_the_rule() -> None:
    assert names_for("a" * 63, b"\0" * 32)[1:] == ["a" * 54 + "-00000000", "a" * 30 + "-" + "0" * 32]
    assert names_for("a\n", b"\0" * 32) == names_for(None, b"\0" * 32) == ["user-00000000", "user-" + "0" * 32]


async def test_an_erased_subject_does_not_come_back_and_nobody_gets_the_name(edge: Edge, openid: OpenId) -> None:
    heidi = await visitor(edge, openid, "s-7", preferred_username="heidi")
    await heidi.me()
    assert (await edge.client.delete("/accounts/me", headers=heidi.bearer)).status_code == 204
    assert code(await heidi.get("/messages/sync")) == (401, "token_revoked")
    edge.clock.now += 900
    assert code(await heidi.get("/messages/sync")) == (401, "token_revoked")
    refused = await (await later(edge, openid, heidi)).get("/accounts/me")
    assert code(refused) == (401, "token_revoked")
    assert "erased" in refused.json()["detail"]
    assert code(await on(heidi, device="another").get("/accounts/me")) == (401, "token_revoked")
    other = await visitor(edge, openid, "s-8", preferred_username="heidi")
    assert (await other.me())["name"].startswith("heidi-")


async def test_closed_sign_up_lets_in_only_who_has_an_account(openid: OpenId, database_url: str) -> None:
    async with relying(openid, database_url) as open_one:
        ivan = await visitor(open_one, openid, "s-9", preferred_username="ivan")
        await ivan.me()
        async with relying(openid, database_url, signup=False, log=open_one.log) as closed:
            assert (await on(ivan, closed).me())["name"] == "ivan"
            judy = await visitor(closed, openid, "s-10", preferred_username="judy")
            assert code(await judy.get("/messages/sync")) == (403, "signup_closed")


async def test_logging_out_ends_the_tokens_of_this_device_in_every_process_until_the_next_login(
    openid: OpenId, database_url: str
) -> None:
    async with relying(openid, database_url) as one, relying(openid, database_url, log=one.log) as other:
        kim = await visitor(one, openid, "s-11", preferred_username="kim")
        laptop = on(kim, device="laptop")
        for edge in (one, other):
            await on(kim, edge).me()
            await on(laptop, edge).me()
        assert (await one.client.delete("/tokens/current", headers=kim.bearer)).status_code == 204
        assert code(await kim.get("/messages/sync")) == (401, "token_revoked")
        one.clock.now += 900
        assert code(await kim.get("/messages/sync")) == (401, "token_revoked"), "also when it is looked at anew"
        async with relying(openid, database_url, log=one.log) as third:
            assert code(await on(kim, third).get("/messages/sync")) == (401, "token_revoked")
            assert (await on(laptop, third).get("/messages/sync")).status_code == 200
        again = await later(one, openid, kim)
        assert (await again.me())["name"] == "kim"
        assert (await on(again, other).get("/messages/sync")).status_code == 200


async def test_a_removed_device_does_not_come_back_with_its_old_token(edge: Edge, openid: OpenId) -> None:
    leo = await visitor(edge, openid, "s-12", preferred_username="leo")
    laptop = on(leo, device="laptop")
    first = await laptop.me()
    gone = await edge.client.delete(f"/devices/{first['device_id']}", headers=leo.bearer)
    assert gone.status_code == 204
    assert code(await laptop.get("/messages/sync")) == (401, "token_revoked")
    edge.clock.now += 900
    assert code(await laptop.get("/messages/sync")) == (401, "token_revoked")
    assert (await leo.get("/messages/sync")).status_code == 200
    second = await (await later(edge, openid, laptop)).me()
    assert (second["user_id"], second["device_id"] != first["device_id"]) == (first["user_id"], True)


async def test_nobody_is_let_in_before_the_log_has_the_device(edge: Edge, openid: OpenId) -> None:
    mia = await visitor(edge, openid, "s-13", preferred_username="mia")
    edge.log.away = True
    assert code(await mia.get("/accounts/me")) == (503, "log_unavailable")
    edge.log.away = False
    assert UUID((await mia.me())["device_id"]) in registrations(edge)


async def test_tokens_for_others_and_of_others_are_none(edge: Edge, openid: OpenId) -> None:
    foreign = await openid.token("s-14", audience="another", preferred_username="nina")
    nina = Visitor(edge, "nina", {"access_token": foreign, "device": "phone"})
    assert code(await nina.get("/messages/sync")) == (401, "token_invalid")
    good = await visitor(edge, openid, "s-14", preferred_username="nina")
    for wrong in (good.tokens["access_token"][:-6] + "AAAAAA", "x" * 20_000, "a.b.c"):
        assert code(await on(good, access_token=wrong).get("/messages/sync")) == (401, "token_invalid")
    missing = await edge.client.get("/messages/sync", headers={"Restante-Device": "phone"})
    assert code(missing) == (401, "token_missing")
    await good.me()
    edge.clock.now += 3660
    assert code(await good.get("/messages/sync")) == (401, "token_expired")


async def test_the_websocket_takes_the_same_tokens(edge: Edge, openid: OpenId) -> None:
    olga = await visitor(edge, openid, "s-15", preferred_username="olga")
    async with listening(create_app(edge.service)) as site:
        token = olga.tokens["access_token"]
        async with site.client(additional_headers=olga.bearer) as client:
            assert [json.loads(await client.recv())["type"] for _ in range(2)] == ["ready", "caught_up"]
            fresh = (await later(edge, openid, olga)).tokens["access_token"]
            await client.send(json.dumps({"type": "authenticate", "token": fresh}))
            assert json.loads(await client.recv())["type"] == "authenticated"
            stranger = await openid.token("s-16", preferred_username="pat")
            for other in (stranger, "rubbish"):
                await client.send(json.dumps({"type": "authenticate", "token": other}))
                assert json.loads(await client.recv())["problem"]["code"] == "token_invalid"
            assert (
                await edge.client.delete("/tokens/current", headers=on(olga, access_token=fresh).bearer)
            ).status_code == 204
            assert await close_of(client) == (4401, "token_revoked")
        async with site.client() as client:
            await client.send(json.dumps({"type": "authenticate", "token": token, "device": "phone"}))
            assert await close_of(client) == (4401, "token_revoked"), "the older token ended with the newer"
        async with site.client() as client:
            await client.send(json.dumps({"type": "authenticate", "token": stranger, "device": "browser"}))
            assert json.loads(await client.recv())["type"] == "ready"
        async with site.client() as client:
            await client.send(json.dumps({"type": "authenticate", "token": stranger}))
            assert await close_of(client) == (4400, "invalid_request")
        async with site.client() as client:
            await client.send(json.dumps({"type": "authenticate", "token": "rubbish", "device": "browser"}))
            assert await close_of(client) == (4401, "token_invalid")


async def test_the_doctor_looks_at_the_provider(openid: OpenId, tmp_path: Path) -> None:
    async def found(**settings: str) -> list[Check]:
        given = {f"RESTANTE_{name}": value for name, value in settings.items()}
        checks = await examine(read_settings({"RESTANTE_DATA_DIR": str(tmp_path), **given}))
        return [check for check in checks if check.what == "OpenID provider"]

    assert await found() == []
    assert [check.verdict for check in await found(OIDC_ISSUER=openid.issuer)] == ["ok"]
    (wrong,) = await found(OIDC_ISSUER=openid.issuer + "/")
    assert (wrong.verdict, "another issuer" in wrong.found) == ("unknown", True)


async def test_while_the_provider_is_away_its_known_keys_stay_good(edge: Edge, openid: OpenId) -> None:
    """The last one: it is not started again."""
    rita, token = await visitor(edge, openid, "s-17", preferred_username="rita"), await openid.token("s-18")
    await rita.me()
    openid.stop()
    assert (await rita.me())["name"] == "rita"
    assert (await Visitor(edge, "new", {"access_token": token, "device": "phone"}).me())["name"].startswith("user-")
