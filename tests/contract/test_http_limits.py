"""What an operator sets: who may sign up, and where the service is found."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
from argon2.profiles import CHEAPEST

from api.secrets import make_key
from deploy import cli
from tests.edge import MASTER_KEY, PASSWORD, Edge, running

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.passwords.RFC_9106_LOW_MEMORY", CHEAPEST)


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def sign_up(edge: Edge, name: str) -> httpx2.Response:
    return await edge.client.post("/accounts", json={"name": name, "password": PASSWORD})


async def add_account(name: str, *options: str) -> int:
    return await asyncio.to_thread(cli.run, ["accounts", "add", name, *options])


async def test_where_sign_up_is_closed_the_operator_makes_accounts(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    (tmp_path / "password").write_text(PASSWORD + "\n", encoding="utf-8")
    (tmp_path / "short").write_text("short\n", encoding="utf-8")
    given = ("--password-file", str(tmp_path / "password"), "--json")
    monkeypatch.setenv("RESTANTE_DATABASE_URL", database_url)
    monkeypatch.setenv("RESTANTE_MASTER_KEY", MASTER_KEY)
    async with running(database_url, signup=False) as edge:
        assert code(await sign_up(edge, "alice")) == (403, "signup_closed")
        assert await add_account("alice", *given) == 0
        made = json.loads(capsys.readouterr().out)
        assert await add_account("bob", *given) == 0
        alice, bob = await edge.person("alice"), await edge.person("bob")
        assert made == {"user_id": alice.tokens["user_id"], "name": "alice"}
        assert (await bob.send(alice, "sealed under a key that the API opens")).status_code == 202
        assert await alice.bodies() == ["sealed under a key that the API opens"]
    assert await add_account("alice", *given) == 1
    assert "name_taken" in capsys.readouterr().err
    assert await add_account("Not A Name", *given) == 2
    assert await add_account("carol", "--password-file", str(tmp_path / "short")) == 2
    assert await add_account("carol", "--password-file", str(tmp_path / "nothing")) == 2
    assert await add_account("carol", *given, "--password-stdin") == 2
    monkeypatch.setenv("RESTANTE_MASTER_KEY", make_key())
    assert await add_account("carol", *given) == 1
    monkeypatch.setenv("RESTANTE_MASTER_KEY", "x")
    assert await add_account("carol", *given) == 2
    monkeypatch.setenv("RESTANTE_MASTER_KEY", MASTER_KEY)
    monkeypatch.setenv("RESTANTE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    assert await add_account("carol", *given) == 3


async def test_the_description_names_the_public_address(database_url: str) -> None:
    async with running(database_url, public_url="https://mail.example") as edge:
        assert (await edge.client.get("/openapi.json")).json()["servers"] == [{"url": "https://mail.example"}]
    async with running(database_url) as edge:
        assert "servers" not in (await edge.client.get("/openapi.json")).json()
