"""Sizes, and HTTP that libraries seldom speak: answered by the book or refused, never a fault."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.answers import good, problem
from tests.acceptance.people import Device
from tests.acceptance.service import Service
from tests.acceptance.wire import exchange, head

JSON = {"Content-Type": "application/json"}


class TestSize:
    def test_more_than_a_call_takes(self, eve: Device) -> None:
        huge = b'{"to": "x", "body": "' + b"x" * 9_000_000 + b'"}'
        for path in ("/messages", "/messages/batch", "/messages/ack", "/accounts", "/tokens"):
            problem(eve.call("POST", path, content=huge, headers=JSON), "body_too_large")

    def test_a_batch_of_8_mib(self, eve: Device) -> None:
        message = {"to": eve.name, "body": "x" * 60_000}
        fits = {"messages": [message] * 130}
        assert 7 << 20 < len(json.dumps(fits)) <= 8 << 20
        assert good(eve.call("POST", "/messages/batch", json=fits), 202)["accepted"] == 130
        problem(eve.call("POST", "/messages/batch", json={"messages": [message] * 141}), "body_too_large")
        assert len(eve.drain()) == 130

    def test_without_a_length_it_is_counted(self, service: Service, eve: Device) -> None:
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        (reply,) = exchange(service, head(eve, "Transfer-Encoding: chunked"), *[chunk] * 200)
        assert (reply.status, reply.json()["code"]) == (413, "body_too_large")

    def test_a_length_that_is_announced_is_believed_at_once(self, service: Service, eve: Device) -> None:
        (reply,) = exchange(service, head(eve, "Content-Length: 99999999999"))
        assert (reply.status, reply.json()["code"]) == (413, "body_too_large")


class TestWire:
    """HTTP that libraries seldom speak."""

    def test_chunks(self, service: Service, eve: Device) -> None:
        body = json.dumps({"to": eve.name, "body": "in pieces"}).encode()
        pieces = [f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in (body[:3], body[3:4], body[4:])]
        (reply,) = exchange(service, head(eve, "Transfer-Encoding: chunked"), *pieces, b"0\r\n\r\n")
        assert reply.status == 202, reply
        assert [message["body"] for message in eve.drain()] == ["in pieces"]

    def test_pipelines(self, service: Service, eve: Device) -> None:
        bodies = [json.dumps({"to": eve.name, "body": str(number)}).encode() for number in range(3)]
        requests = [
            head(eve, f"Content-Length: {len(body)}", close=number == 2) + body for number, body in enumerate(bodies)
        ]
        replies = exchange(service, b"".join(requests))
        assert [reply.status for reply in replies] == [202, 202, 202]
        assert [message["body"] for message in eve.drain()] == ["0", "1", "2"]

    def test_http_1_0(self, service: Service) -> None:
        (reply,) = exchange(service, b"GET /health/live HTTP/1.0\r\n\r\n")
        assert reply.status == 200
        (reply,) = exchange(service, b"GET /nothing HTTP/1.0\r\n\r\n")
        assert (reply.status, reply.json()["code"]) == (404, "not_found")

    def test_head_has_no_body(self, service: Service, eve: Device) -> None:
        (reply,) = exchange(service, head(eve, first="HEAD /messages/sync HTTP/1.1"))
        assert (reply.status, reply.body) == (200, b"")

    @pytest.mark.parametrize(
        "raw",
        [
            b"\0\0\0\0\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET /health/live HTTP/9.9\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
            b"POST /messages HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            b"POST /messages HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            b"POST /messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET /health/live HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 300_000 + b"\r\n\r\n",
            b"GET /health/live HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
            b"GET /" + b"x" * 300_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        ],
        ids=lambda raw: repr(raw[:40]),
    )
    def test_what_is_not_http_does_no_harm(self, service: Service, raw: bytes) -> None:
        for reply in exchange(service, raw):
            assert reply.status < 500, reply
            assert b"Traceback" not in reply.body
        assert service.healthy()

    def test_a_client_that_leaves_in_the_middle(self, service: Service, eve: Device) -> None:
        for part in (b"", b'{"to": "', b'{"to": "x", "body": "' + b"y" * 40_000):
            exchange(service, head(eve, "Content-Length: 50000") + part, hang_up=True)
        assert eve.mailbox() == []
        assert service.healthy()
