"""What every call has in common: paths, methods, problems, request ids, health, metrics, the description, outages."""

from __future__ import annotations

import json
import re
from typing import Any
from uuid import uuid4

import jsonschema
import pytest
from structlog.testing import capture_logs

from api.app import create_app
from api.problems import PROBLEMS
from projections.errors import DatabaseUnavailable
from tests.edge import PASSWORD, Edge, Person
from tests.eventually import eventually

pytestmark = pytest.mark.anyio


async def test_a_path_that_does_not_exist_is_a_problem(edge: Edge) -> None:
    for path in ("/nothing", "/messages/", "/accounts/", "/messages/x/y", "/health/"):
        answer = await edge.client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
        assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/messages", "POST, OPTIONS"),
        ("DELETE", "/messages/sync", "GET, HEAD, OPTIONS"),
        ("PUT", "/accounts", "POST, OPTIONS"),
        ("TRACE", "/health", "GET, HEAD, OPTIONS"),
        ("POST", "/messages/01a208c4-08e1-701e-aa6f-b8505c601680", "GET, HEAD, OPTIONS"),
        ("HEAD", "/tokens", "POST, OPTIONS"),
    ],
)
async def test_a_method_that_a_path_does_not_take_is_405(edge: Edge, method: str, path: str, allow: str) -> None:
    answer = await edge.client.request(method, path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, allow)
    if method != "HEAD":
        assert answer.json()["code"] == "method_not_allowed"


async def test_options_lists_the_methods(edge: Edge) -> None:
    answer = await edge.client.options("/messages/sync")
    assert (answer.status_code, answer.headers["Allow"], answer.content) == (204, "GET, HEAD, OPTIONS", b"")


async def test_head_is_get_without_the_body(edge: Edge, bob: Person) -> None:
    get, head = await edge.client.get("/health/live"), await edge.client.head("/health/live")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == get.headers["Content-Length"]


async def test_head_sends_no_byte_of_the_body(edge: Edge) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "HEAD", "path": "/health/live", "root_path": "", "query_string": b"", "headers": []}
    await create_app(edge.service)(scope, receive, send)
    assert sent[-1]["body"] == b""


async def test_every_answer_has_a_request_id_and_problems_repeat_it(edge: Edge) -> None:
    answers = [await edge.client.get("/nothing") for _ in range(3)]
    assert len({answer.headers["X-Request-Id"] for answer in answers}) == 3
    assert all(answer.json()["request_id"] == answer.headers["X-Request-Id"] for answer in answers)
    assert (await edge.client.get("/health/live")).headers["X-Request-Id"]


async def test_who_calls_is_asked_before_what_is_asked(edge: Edge) -> None:
    answer = await edge.client.post("/messages", content=b"not json")
    assert (answer.status_code, answer.json()["code"]) == (401, "token_missing")


@pytest.mark.parametrize("path", ["/messages", "/messages/batch", "/messages/ack", "/messages/read", "/messages/status"])
async def test_bodies_are_json(edge: Edge, bob: Person, path: str) -> None:
    for content, headers, expected in (
        (b"{", {"Content-Type": "application/json"}, (400, "malformed")),
        (b"\xff\xfe", {"Content-Type": "application/json"}, (400, "malformed")),
        (b"", {}, (400, "malformed")),
        (b"{}", {"Content-Type": "text/plain"}, (415, "unsupported_media_type")),
        (b"[]", {"Content-Type": "application/json"}, (422, "invalid_request")),
        (b'{"unknown":1}', {"Content-Type": "application/json"}, (422, "invalid_request")),
        (b" " * 9_000_000, {"Content-Type": "application/json"}, (413, "body_too_large")),
    ):
        answer = await edge.client.post(path, content=content, headers={**bob.bearer, **headers})
        assert (answer.status_code, answer.json()["code"]) == expected, content[:20]


@pytest.mark.parametrize("path", ["/messages", "/accounts", "/tokens"])
async def test_unknown_query_parameters_are_422(edge: Edge, bob: Person, path: str) -> None:
    answer = await edge.client.post(f"{path}?verbose=1", json={}, headers=bob.bearer)
    assert (answer.status_code, answer.json()["errors"]) == (422, [{"field": "verbose", "detail": "is not known here"}])


async def test_an_unforeseen_error_is_500_without_a_word_about_itself(
    edge: Edge, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*args: Any, **more: Any) -> Any:
        raise RuntimeError("secret body of a message")

    with monkeypatch.context() as broken, capture_logs() as lines:
        broken.setattr(edge.log, "append", fail)
        answer = await alice.send(bob, "secret body of a message")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    (line,) = [line for line in lines if line["event"] == "internal_error"]
    assert (line["route"], line["request_id"]) == ("/messages", answer.json()["request_id"])
    assert any(place.startswith("messages.py:") for place in line["at"])
    for text in (answer.text, json.dumps(lines)):
        assert "secret" not in text
        assert alice.tokens["access_token"] not in text


async def test_calls_are_counted_by_route_method_and_status(edge: Edge, alice: Person, bob: Person) -> None:
    def count(metrics: str, **labels: str) -> float:
        name = "restante_http_requests_total{" + ",".join(f'{k}="{v}"' for k, v in sorted(labels.items())) + "}"
        found = re.search(rf"^{re.escape(name)} (\S+)$", metrics, re.MULTILINE)
        return float(found[1]) if found else 0.0

    before = (await edge.admin.get("/metrics")).text
    await alice.send(bob)
    await alice.get(f"/messages/{uuid4()}")
    await edge.client.request("BREW", "/nothing/4711")
    answer = await edge.admin.get("/metrics")
    after = answer.text
    assert answer.headers["Content-Type"].startswith("text/plain")
    for labels in (
        {"route": "/messages", "method": "POST", "status": "202"},
        {"route": "/messages/{id}", "method": "GET", "status": "404"},
        {"route": "unmatched", "method": "other", "status": "404"},
    ):
        assert count(after, **labels) - count(before, **labels) == 1
    assert "nothing/4711" not in after
    accepted = re.compile(r"^restante_messages_accepted_total (\S+)$", re.MULTILINE)
    assert float(accepted.search(after)[1]) - float(accepted.search(before)[1]) == 1  # type: ignore[index]


async def test_metrics_are_not_on_the_public_port(edge: Edge) -> None:
    assert (await edge.client.get("/metrics")).status_code == 404


async def test_a_healthy_service(edge: Edge) -> None:
    for client in (edge.client, edge.admin):
        for path in ("/health/live", "/health/ready", "/health"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()) == (200, {"status": "ok", "reasons": []})


@pytest.fixture
def fresh_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.health.KEPT_SECONDS", 0.0)


@pytest.mark.usefixtures("fresh_looks")
async def test_health_says_what_is_wrong(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    async def reasons(path: str = "/health") -> list[str]:
        answer = await edge.client.get(path)
        said: list[str] = answer.json()["reasons"]
        assert answer.status_code == (503 if said else 200)
        return said

    edge.log.away = True
    assert await reasons() == await reasons("/health/ready") == ["the log is out of reach"]
    edge.log.away = False
    edge.processor["members"] = 0
    assert await reasons() == ["no processor is running"]
    assert await reasons("/health/ready") == []
    edge.processor.update(members=1, seconds=31.0)
    assert await reasons() == ["the processor is behind the log"]
    assert (await edge.admin.get("/health")).json()["reasons"] == ["the processor is 31 s behind the log"]
    edge.processor["seconds"] = 0.0
    monkeypatch.setattr(edge.service.lag, "behind_seconds", 45.0)
    assert await reasons() == ["the projection is behind the log"]
    assert (await edge.admin.get("/health")).json()["reasons"] == ["the projection is 45 s behind the log"]
    monkeypatch.undo()


async def test_one_look_serves_all_who_ask_within_a_second(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    real = edge.log.ends

    async def counted() -> Any:
        looks.append(1)
        return await real()

    await edge.client.get("/health")
    monkeypatch.setattr(edge.log, "ends", counted)
    monkeypatch.setattr("api.lag.EVERY_SECONDS", 3600.0)
    monkeypatch.setattr("api.health.KEPT_SECONDS", 3600.0)
    looks.clear()
    for _ in range(5):
        await edge.client.get("/health")
    assert len(looks) <= 1


@pytest.mark.usefixtures("fresh_looks")
async def test_health_answers_even_if_what_it_asks_does_not(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    async def silence() -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr("api.health.BOUND_SECONDS", 0.05)
    monkeypatch.setattr(edge.log, "ends", silence)
    answer = await asyncio.wait_for(edge.client.get("/health"), 10)
    assert "the log does not answer within 0.05 s" in answer.json()["reasons"]  # on a busy machine the database, too


async def test_draining_is_not_ready_but_alive(edge: Edge) -> None:
    edge.service.parts.phase.drain()
    answer = await edge.client.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (503, "draining")
    assert (await edge.client.get("/health/live")).status_code == 200


async def test_while_postgresql_is_away_known_recipients_still_get_mail(
    edge: Edge, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = (await alice.send(bob, "before")).json()["id"]
    await bob.sync()
    await edge.fold.stop()
    edge.service.messages._directory._by_name.pop("alice", None)
    with monkeypatch.context() as broken:

        def away(*args: Any, **more: Any) -> Any:
            raise DatabaseUnavailable("away")

        broken.setattr(edge.database, "connection", away)
        broken.setattr(edge.database, "transaction", away)
        broken.setattr(edge.database, "snapshot", away)
        short = await bob.get("/messages/sync")
        assert (short.status_code, short.json()["code"]) == (503, "projection_behind")
        assert (await alice.send(bob, "plain")).status_code == 202
        assert (await alice.send(bob, "keyed", key="k")).status_code == 202
        unknown = await bob.send(alice, "x")
        assert (unknown.status_code, unknown.json()["code"], unknown.json()["outcome"]) == (
            503,
            "directory_unavailable",
            "rejected",
        )
        batch = await alice.post("/messages/batch", {"messages": [{"to": "bob", "body": "y"}, {"to": "alice", "body": "z"}]})
        assert [one.get("problem", {}).get("code") for one in batch.json()["results"]] == [None, "directory_unavailable"]
        monkeypatch.setattr("api.freshness.PATIENCE_SECONDS", 0.05)
        for answer in (
            await bob.get("/messages/sync"),
            await bob.post("/messages/ack", {"ids": [message]}),
            await bob.get(f"/messages/{message}"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "projection_behind")
        for path, body in (
            ("/accounts", {"name": "carol", "password": PASSWORD}),
            ("/tokens", {"name": "bob", "password": PASSWORD, "device": "d"}),
            ("/tokens/refresh", {"refresh_token": "x"}),
        ):
            answer = await edge.client.post(path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (503, "directory_unavailable")
    monkeypatch.undo()
    edge.fold.start()
    assert await bob.bodies() == ["before", "plain", "keyed", "y"]


async def test_lag_is_watched(edge: Edge, alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.lag.EVERY_SECONDS", 0.01)
    await edge.fold.stop()
    await alice.send(bob)
    await eventually(lambda: edge.service.lag.behind_seconds > 0)
    edge.fold.start()
    await eventually(lambda: edge.service.lag.behind_seconds == 0)


async def description(edge: Edge) -> dict[str, Any]:
    said: dict[str, Any] = (await edge.client.get("/openapi.json")).json()
    return said


async def test_the_description_resolves_and_names_every_route(edge: Edge) -> None:
    said = await description(edge)
    assert said["openapi"] == "3.1.0"
    for reference in re.findall(r'"\$ref": ?"#/components/schemas/(\w+)"', json.dumps(said)):
        assert reference in said["components"]["schemas"]
    for schema in said["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    asked = {(method.upper(), path) for path, methods in said["paths"].items() for method in methods}
    assert {
        ("POST", "/messages"),
        ("GET", "/messages/sync"),
        ("GET", "/messages/{id}/trail"),
        ("POST", "/tokens/refresh"),
    } <= asked
    assert said["paths"]["/messages"]["post"]["security"] == [{"bearer": []}]
    assert said["paths"]["/tokens"]["post"]["security"] == []
    names = [operation["operationId"] for methods in said["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))


async def test_answers_are_as_described(edge: Edge, alice: Person, bob: Person) -> None:
    said = await description(edge)
    message = (await alice.send(bob, "x")).json()["id"]
    for method, path, asked, body in (
        ("post", "/messages", "/messages", {"to": "bob", "body": "x"}),
        ("post", "/messages", "/messages", {"to": "nobody", "body": "x"}),
        ("post", "/messages", "/messages", {"to": 1}),
        ("post", "/messages/batch", "/messages/batch", {"messages": [{"to": "bob", "body": "x"}, {"to": "nobody"}]}),
        ("get", "/messages/sync", "/messages/sync", None),
        ("get", "/messages/{id}", f"/messages/{message}", None),
        ("get", "/messages/{id}", f"/messages/{uuid4()}", None),
        ("get", "/messages/{id}/trail", f"/messages/{message}/trail", None),
        ("post", "/messages/status", "/messages/status", {"ids": [message, str(uuid4())]}),
        ("post", "/messages/ack", "/messages/ack", {"ids": [message]}),
        ("post", "/messages/read", "/messages/read", {"ids": [message]}),
        ("post", "/tokens/refresh", "/tokens/refresh", {"refresh_token": "x"}),
        ("get", "/health", "/health", None),
    ):
        answer = await edge.client.request(method, asked, json=body, headers=bob.bearer)
        described = said["paths"][path][method]["responses"][str(answer.status_code)]["content"]
        schema = described[answer.headers["Content-Type"]]["schema"]
        jsonschema.validate(answer.json(), {**schema, "components": said["components"]})
        named = said["paths"][path][method]["responses"][str(answer.status_code)]["headers"]
        assert "X-Request-Id" in named
        assert set(answer.headers) >= {name.lower() for name in named} - {"idempotency-replayed"}


async def test_every_problem_that_is_described_is_in_the_table(edge: Edge) -> None:
    said = json.dumps(await description(edge))
    for kind in re.findall(r"`(\w+)`: ", said):
        assert kind in PROBLEMS
