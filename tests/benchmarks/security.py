"""What sealing bodies and verifying tokens cost of a POST: the API's own path from the socket to the encoded record, as it
is and with both left out.

    python -m tests.benchmarks.security [--messages 2000] [--rounds 20] [--kafka HOST:PORT] [--json]

With --kafka that is all that a POST costs the API (no database: recipients are remembered). One server process, with and
without by turns; CPU is that process's. On a busy machine take many short rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from typing import Any, cast
from uuid import uuid4

import uvloop
from starlette.routing import Route

import api.intake
from api.access import ANYONE, Access
from api.app import App
from api.calls import Answer, Call
from api.directory import Recipient
from api.intake import Intake
from api.keys import AccountKeys
from api.limits import Limits
from api.messages import Messages
from api.resource import Edge, Handler, Operation, Rate, Resource
from api.room import Room
from api.secrets import Secrets, make_key, make_token_key
from api.tokens import AccessTokens, Principal
from api.web import Web
from deploy.local import ports
from deploy.serving import served, told_to_stop
from deploy.wiring import process
from producers.addresses import address
from producers.connection import KafkaConnection
from producers.log import Appended, EventLog
from producers.stripes import StripedLog
from producers.topics import create_topics
from projections.reads import Held, Measured
from schemas.topics import LIFECYCLE
from tests.benchmarks.client import Connection, head

CONNECTIONS = 64
BODY_BYTES = 300
PARTITIONS = {LIFECYCLE: 8}


class Forgetful:
    """A log that encodes what it is given, and keeps nothing."""

    def __init__(self) -> None:
        self._count = 0

    async def append(self, record: Any, *, partition: int | None = None) -> Appended:
        address(record, partition, PARTITIONS)
        await asyncio.sleep(0)
        self._count += 1
        return Appended(LIFECYCLE, partition or 0, self._count, time.time_ns() // 1_000_000)


class Known:
    """The directory: everybody is known, and has room."""

    def __init__(self) -> None:
        self._all = itertools.cycle([_somebody(partition) for partition in range(PARTITIONS[LIFECYCLE])])

    def known(self, name: str) -> Recipient:
        return next(self._all)


def _somebody(partition: int) -> Recipient:
    one = Recipient(uuid4(), "bob", partition, AccountKeys(os.urandom(32)))
    one.room = Room(10**9, 10**15, lambda room: None)
    one.room.begin()
    nothing = Measured(total=0, by_sender={})
    one.room.counted(Held(applied=0, messages=nothing, bytes=nothing))
    return one


class Anything:
    """What is not asked for anything here."""

    overloaded = False

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **named: None


class Switch:
    """Sealing, digests and the look at the token: as they are, or left out."""

    def __init__(self, tokens: AccessTokens, who: Principal) -> None:
        self._tokens = tokens
        self._who = who
        self._real = (api.intake.seal, api.intake.digest_of, tokens.verify)

    async def turn(self, call: Call) -> Answer:
        """POST /on or /off: from now on. Answers with the nanoseconds of CPU that this process has had."""
        seal, digest_of, verify = self._real
        if call.scope["path"] == "/off":
            seal, digest_of = (lambda keys, message, sender, recipient, content: content), (lambda keys, content: bytes(32))
            verify = lambda token: self._who  # noqa: E731
        api.intake.seal, api.intake.digest_of = seal, digest_of
        self._tokens.verify = verify  # type: ignore[method-assign]
        return Answer(200, str(time.process_time_ns()).encode())


async def serve(port: int, kafka: str | None) -> None:
    """One API process; its token is the first line that it prints."""
    keys = Secrets.read(token_key=make_token_key(), cursor_keys=make_key(), master_key=make_key())
    tokens = AccessTokens(keys.token_keys, 3600, time.time, lambda who: False)
    who = Principal(uuid4(), uuid4(), int(time.time()) + 3600, 0)
    switch = Switch(tokens, who)
    if kafka:
        await create_topics(KafkaConnection(bootstrap=kafka), partitions=PARTITIONS[LIFECYCLE])
    with told_to_stop() as stop:
        async with (
            StripedLog(KafkaConnection(bootstrap=kafka)) if kafka else nullcontext(cast(Any, Forgetful())) as log,
            served(_app(tokens, switch, log), "127.0.0.1", port, "RESTANTE_PORT"),
        ):
            print(tokens.issue(who.user, who.device, 0), flush=True)
            await stop.wait()


def _app(tokens: AccessTokens, switch: Switch, log: EventLog) -> App:
    limits, nobody = Limits(on=False), cast(Any, Anything())
    intake = Intake(log=log, reads=nobody, quota=nobody, limits=limits, lag=nobody, producer="api/bench", clock=time.time)
    messages = Messages(directory=cast(Any, Known()), intake=intake, limits=limits)
    edge = Edge(tokens, limits, nobody, Web(hosts=()))

    def route(path: str, handler: Handler, rate: Rate | None, access: Access) -> Route:
        row = Operation(method="POST", path=path, handler=handler, summary="", rate=rate, access=access, answers={200: None})
        return Route(path, Resource(edge, path, [row]))

    switches = [route(path, switch.turn, None, ANYONE) for path in ("/on", "/off")]
    return App(routes=[route("/messages", messages.post, "messages", Access("account", "for the benchmark")), *switches])


async def load(port: int, token: str, count: int) -> None:
    """So many messages over all connections."""
    post, left = head("POST", "/messages", token), iter(range(count))
    body = json.dumps({"to": "bob", "body": "x" * BODY_BYTES}).encode()

    async def one() -> None:
        connection = await Connection.open(port)
        for _ in left:
            status, answer = await connection.ask(post, body)
            assert status == 202, answer
        connection.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


async def turned(port: int, path: str) -> int:
    """Switch, and give the server's CPU until then."""
    connection = await Connection.open(port)
    _, answer = await connection.ask(head("POST", path))
    connection.close()
    return int(answer)


async def measured(port: int, token: str, count: int, rounds: int) -> list[tuple[float, float]]:
    """Microseconds of CPU a message: with and without, by turns, in one server."""
    await load(port, token, count)
    found = []
    for _ in range(rounds):
        began = await turned(port, "/on")
        await load(port, token, count)
        half = await turned(port, "/off")
        await load(port, token, count)
        end = await turned(port, "/on")
        found.append(((half - began) / count / 1e3, (end - half) / count / 1e3))
    return found


def main() -> None:
    """Measure, and print the medians with the share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=2_000, help="a turn")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--kafka", help="host:port of a broker to append to; else records are encoded and forgotten")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        process.run(serve(asked.serve, asked.kafka))
        return
    port = ports.any_free()
    arguments = [sys.executable, "-m", "tests.benchmarks.security", "--serve", str(port)]
    arguments += ["--kafka", asked.kafka] if asked.kafka else []
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            rounds = uvloop.run(measured(port, server.stdout.readline().strip(), asked.messages, asked.rounds))
        finally:
            server.send_signal(signal.SIGTERM)
    with_both, without = (statistics.median(column) for column in zip(*rounds, strict=True))
    share = statistics.median(1 - bare / full for full, bare in rounds)
    if asked.json:
        print(json.dumps({"with_us": with_both, "without_us": without, "share": share, "rounds": rounds}))
    else:
        print(f"a POST: {with_both:.0f} us of CPU, {without:.0f} us without sealing and verification")
        print(f"share: {share:.1%} (median of {asked.rounds} rounds; aim: under 10 %)")


if __name__ == "__main__":
    main()
