"""Signing up, logging in, staying logged in."""

from __future__ import annotations

import asyncio
from uuid import UUID

import httpx2
import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.profiles import CHEAPEST

from schemas.events import DeviceRegistered
from tests.edge import PASSWORD, Edge, Person

pytestmark = pytest.mark.anyio
DAY = 86_400.0


def registrations(edge: Edge) -> list[DeviceRegistered]:
    found = [recorded.fact for partition in range(edge.log.partitions) for recorded in edge.log.records(partition)]
    return [fact for fact in found if isinstance(fact, DeviceRegistered)]


async def log_in(edge: Edge, **changes: str) -> httpx2.Response:
    return await edge.client.post("/tokens", json={"name": "alice", "password": PASSWORD, "device": "phone"} | changes)


async def refresh(edge: Edge, token: str) -> httpx2.Response:
    return await edge.client.post("/tokens/refresh", json={"refresh_token": token})


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def test_an_account_has_an_id_and_its_name_once_and_for_all(edge: Edge) -> None:
    answer = await edge.client.post("/accounts", json={"name": "alice", "password": PASSWORD})
    assert answer.status_code == 201
    assert answer.json() == {"user_id": str(UUID(answer.json()["user_id"])), "name": "alice"}
    again = await edge.client.post("/accounts", json={"name": "alice", "password": "another password"})
    assert code(again) == (409, "name_taken")
    await edge.database.run(b"UPDATE accounts.accounts SET erased_at = now(), wrapped_key = NULL")
    assert code(await edge.client.post("/accounts", json={"name": "alice", "password": PASSWORD})) == (409, "name_taken")


async def test_of_two_sign_ups_of_a_name_at_once_one_wins(edge: Edge) -> None:
    asked = [edge.client.post("/accounts", json={"name": "alice", "password": PASSWORD}) for _ in range(5)]
    assert sorted(answer.status_code for answer in await asyncio.gather(*asked)) == [201, 409, 409, 409, 409]


async def test_passwords_and_keys_are_not_kept_in_clear(edge: Edge, alice: Person) -> None:
    ((password_hash, wrapped),) = await edge.database.tuples(b"SELECT password_hash, wrapped_key FROM accounts.accounts")
    assert password_hash.startswith("$argon2id$v=19$")
    assert PASSWORD not in password_hash
    assert len(wrapped) == 1 + 12 + 32 + 16
    (row,) = await edge.database.tuples(b"SELECT t::text FROM accounts.refresh_tokens t")
    assert alice.tokens["refresh_token"] not in row[0]


@pytest.mark.parametrize("name", ["", "A", "-a", ".a", "a" * 64, "a b", "ä", "a\n", "a/b"])
async def test_a_name_follows_the_rule(edge: Edge, name: str) -> None:
    answer = await edge.client.post("/accounts", json={"name": name, "password": PASSWORD})
    assert code(answer) == (422, "invalid_request")
    assert [fault["field"] for fault in answer.json()["errors"]] == ["name"]


async def test_tokens_say_whose_they_are(edge: Edge, alice: Person) -> None:
    assert set(alice.tokens) == {"access_token", "token_type", "expires_in", "refresh_token", "user_id", "device_id"}
    assert (alice.tokens["token_type"], alice.tokens["expires_in"]) == ("Bearer", 900)
    assert (await alice.get("/messages/sync")).status_code == 200


async def test_the_log_has_the_device_before_anybody_has_its_tokens(edge: Edge) -> None:
    await edge.client.post("/accounts", json={"name": "alice", "password": PASSWORD})
    edge.log.away = True
    assert code(await log_in(edge)) == (503, "log_unavailable")
    assert registrations(edge) == []
    edge.log.away = False
    answer = await log_in(edge, device="laptop")
    devices = {fact.device_id for fact in registrations(edge)}
    assert UUID(answer.json()["device_id"]) in devices
    assert len(devices) == 2, "a later login finishes the registration of the other device, too"
    unfinished = b"SELECT count(*) FROM accounts.devices WHERE registered_at IS NULL"
    assert await edge.database.tuples(unfinished) == [(0,)]


async def test_the_same_label_is_the_same_device(edge: Edge, alice: Person) -> None:
    again, other = await log_in(edge), await log_in(edge, device="laptop")
    assert again.json()["device_id"] == alice.tokens["device_id"] != other.json()["device_id"]
    assert len(registrations(edge)) == 2


async def test_the_same_label_at_once_is_one_device(edge: Edge) -> None:
    await edge.client.post("/accounts", json={"name": "alice", "password": PASSWORD})
    answers = await asyncio.gather(*(log_in(edge) for _ in range(5)))
    assert len({answer.json()["device_id"] for answer in answers}) == 1
    assert len({fact.event_id for fact in registrations(edge)}) == 1


async def test_wrong_name_and_wrong_password_look_alike(edge: Edge, alice: Person) -> None:
    for answer in (await log_in(edge, password="wrong password"), await log_in(edge, name="nobody")):
        assert code(answer) == (401, "bad_credentials")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    texts = {(await log_in(edge, name=name, password="wrong password")).json()["detail"] for name in ("alice", "nobody")}
    assert len(texts) == 1


async def test_an_unknown_name_costs_a_hash_as_a_known_one(
    edge: Edge, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified = []
    real = edge.service.passwords._hasher.verify

    class Counting:
        def verify(self, known: str, password: str) -> bool:
            verified.append(known.rpartition("$")[0].rpartition("$")[0])
            return bool(real(known, password))

    monkeypatch.setattr(edge.service.passwords, "_hasher", Counting())
    await edge.client.post("/accounts", json={"name": "outsider", "password": PASSWORD})
    await edge.database.run(b"UPDATE accounts.accounts SET password_hash = NULL WHERE name = 'outsider'")
    await log_in(edge, password="wrong password")
    await log_in(edge, name="nobody")
    assert code(await log_in(edge, name="outsider")) == (401, "bad_credentials"), "an outside provider keeps it"
    assert len(verified) == 3
    assert len(set(verified)) == 1, "the same parameters"


async def test_a_login_renews_a_hash_with_other_parameters_and_a_wrong_password_does_not(edge: Edge, alice: Person) -> None:
    async def kept() -> str:
        ((password_hash,),) = await edge.database.tuples(b"SELECT password_hash FROM accounts.accounts")
        return str(password_hash)

    old = PasswordHasher(time_cost=2, memory_cost=16, parallelism=1).hash(PASSWORD)
    await edge.database.run(b"UPDATE accounts.accounts SET password_hash = %(old)s", old=old)
    assert code(await log_in(edge, password="wrong password")) == (401, "bad_credentials")
    assert await kept() == old
    assert (await log_in(edge)).status_code == 200
    assert extract_parameters(renewed := await kept()) == CHEAPEST
    assert (await log_in(edge)).status_code == 200
    assert await kept() == renewed


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"device": ""}, "device"),
        ({"device": "x" * 65}, "device"),
        ({"device": "a\nb"}, "device"),
        ({"password": "short"}, "password"),
        ({"password": "x" * 1025}, "password"),
        ({"name": "Alice"}, "name"),
    ],
)
async def test_a_login_out_of_range_names_its_field(edge: Edge, changes: dict[str, str], field: str) -> None:
    answer = await log_in(edge, **changes)
    assert code(answer) == (422, "invalid_request")
    assert [fault["field"] for fault in answer.json()["errors"]] == [field]


async def test_an_erased_account_cannot_log_in_or_receive(edge: Edge, alice: Person, bob: Person) -> None:
    await edge.database.run(b"UPDATE accounts.accounts SET erased_at = now() WHERE name = 'alice'")
    assert code(await log_in(edge)) == (401, "bad_credentials")
    assert code(await bob.send(alice)) == (404, "recipient_unknown")


async def test_a_refresh_gives_the_next_pair(edge: Edge, alice: Person) -> None:
    answer = await refresh(edge, alice.tokens["refresh_token"])
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    fresh = answer.json()
    assert set(fresh) == set(alice.tokens)
    assert (fresh["user_id"], fresh["device_id"]) == (alice.tokens["user_id"], alice.tokens["device_id"])
    assert fresh["refresh_token"] != alice.tokens["refresh_token"]
    assert (await Person(edge, "alice", fresh).get("/messages/sync")).status_code == 200


async def test_a_lost_answer_may_be_asked_for_again_within_a_minute(edge: Edge, alice: Person) -> None:
    first = alice.tokens["refresh_token"]
    await refresh(edge, first)
    edge.clock.now += 60
    again = await refresh(edge, first)
    assert again.status_code == 200
    assert (await refresh(edge, again.json()["refresh_token"])).status_code == 200


async def test_two_tabs_that_refresh_at_once_both_stay_logged_in(edge: Edge, alice: Person) -> None:
    answers = await asyncio.gather(*(refresh(edge, alice.tokens["refresh_token"]) for _ in range(2)))
    for answer in answers:
        assert answer.status_code == 200
        assert (await refresh(edge, answer.json()["refresh_token"])).status_code == 200


async def test_after_a_minute_a_used_token_ends_its_family(edge: Edge, alice: Person) -> None:
    first = alice.tokens["refresh_token"]
    second = (await refresh(edge, first)).json()["refresh_token"]
    edge.clock.now += 60.5
    reused = await refresh(edge, first)
    assert code(reused) == (401, "token_reused")
    assert reused.headers["WWW-Authenticate"].startswith("Bearer")
    assert code(await refresh(edge, second)) == (401, "token_revoked")
    assert code(await refresh(edge, first)) == (401, "token_reused")


async def test_once_the_successor_was_used_there_is_no_grace(edge: Edge, alice: Person) -> None:
    first = alice.tokens["refresh_token"]
    second = (await refresh(edge, first)).json()["refresh_token"]
    third = (await refresh(edge, second)).json()["refresh_token"]
    assert code(await refresh(edge, first)) == (401, "token_reused")
    assert code(await refresh(edge, third)) == (401, "token_revoked")


async def test_the_end_of_a_family_touches_no_other_login_and_no_mailbox(edge: Edge, alice: Person, bob: Person) -> None:
    await bob.send(alice, "still here")
    other = (await log_in(edge)).json()
    first = alice.tokens["refresh_token"]
    await refresh(edge, first)
    edge.clock.now += 61
    await refresh(edge, first)
    survivor = await refresh(edge, other["refresh_token"])
    assert survivor.status_code == 200
    assert await Person(edge, "alice", survivor.json()).bodies() == ["still here"]


async def test_a_refresh_token_lives_a_year_from_its_last_use(edge: Edge, alice: Person) -> None:
    edge.clock.now += 364 * DAY
    fresh = (await refresh(edge, alice.tokens["refresh_token"])).json()["refresh_token"]
    edge.clock.now += 364 * DAY
    fresher = (await refresh(edge, fresh)).json()["refresh_token"]
    edge.clock.now += 365 * DAY
    assert code(await refresh(edge, fresher)) == (401, "token_expired")


async def test_a_removed_device_cannot_refresh(edge: Edge, alice: Person) -> None:
    await edge.database.run(b"UPDATE accounts.devices SET removed_at = now()")
    assert code(await refresh(edge, alice.tokens["refresh_token"])) == (401, "token_revoked")


@pytest.mark.parametrize("token", ["x", "é", "A" * 43, "x" * 512])
async def test_a_refresh_token_that_is_not_ours_is_invalid(edge: Edge, token: str) -> None:
    assert code(await refresh(edge, token)) == (401, "token_invalid")


async def test_used_tokens_do_not_pile_up_for_ever(edge: Edge, alice: Person) -> None:
    token = alice.tokens["refresh_token"]
    for _ in range(4):
        token = (await refresh(edge, token)).json()["refresh_token"]
        edge.clock.now += 200 * DAY
    assert await edge.database.tuples(b"SELECT count(*) FROM accounts.refresh_tokens") == [(2,)]


async def test_public_keys_are_published(edge: Edge) -> None:
    answer = await edge.client.get("/.well-known/jwks.json")
    (key,) = answer.json()["keys"]
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("OKP", "Ed25519", "EdDSA", "sig")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, "token_missing"),
        ({"Authorization": ""}, "token_invalid"),
        ({"Authorization": "Basic YTpi"}, "token_invalid"),
        ({"Authorization": "Bearer"}, "token_invalid"),
        ({"Authorization": "Bearer x.y.z"}, "token_invalid"),
    ],
)
async def test_every_401_says_why(edge: Edge, headers: dict[str, str], expected: str) -> None:
    answer = await edge.client.get("/messages/sync", headers=headers)
    assert code(answer) == (401, expected)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_an_expired_token_is_401(edge: Edge, alice: Person) -> None:
    assert (await alice.get("/messages/sync")).status_code == 200
    edge.clock.now += 900
    assert code(await alice.get("/messages/sync")) == (401, "token_expired")


async def test_a_refresh_token_is_no_access_token_and_the_other_way_round(edge: Edge, alice: Person) -> None:
    swapped = Person(edge, "alice", {"access_token": alice.tokens["refresh_token"]})
    assert code(await swapped.get("/messages/sync")) == (401, "token_invalid")
    assert code(await refresh(edge, alice.tokens["access_token"][:512])) == (401, "token_invalid")
