"""Many who wait and nothing comes: the memory of idle sockets, and the processor time of long polls."""

from __future__ import annotations

import asyncio
import json
import resource
import time

import psycopg
from argon2 import PasswordHasher

from tests.benchmarks.bench import Bench, Outcome
from tests.benchmarks.client import Connection, head
from tests.benchmarks.dialect import Restante, name
from tests.benchmarks.measure import cpu_seconds, pss_mib
from tests.benchmarks.service import PASSWORD, fresh_api
from tests.benchmarks.stream import Frame, Stream

_AT_ONCE = 4
_PATIENCE = 900.0
_WATCHED = 10.0
_WAIT = 30
_FIRST = 20


async def run(bench: Bench, outcome: Outcome) -> None:
    """KiB of the API's memory an idle socket, and per cent of a core that so many waiting long polls cost."""
    assert isinstance(bench.dialect, Restante)
    _many_files()
    async with asyncio.timeout(_PATIENCE):
        await _idle_sockets(bench, outcome)
        await _long_polls(bench, outcome)


async def _idle_sockets(bench: Bench, outcome: Outcome) -> None:
    tokens = await _devices(bench)
    await fresh_api(bench.service)
    outcome.restarts += 1
    ready = 0

    def hear(stream: Stream, frame: Frame) -> None:
        nonlocal ready
        ready += frame.type == "caught_up"

    async def enter(tokens: list[str]) -> list[Stream]:
        wanted = ready + len(tokens)
        streams = [await Stream.open(bench.port, token, hear) for token in tokens]
        while ready < wanted:
            await asyncio.sleep(0.01)
        await bench.quiet()
        return streams

    for stream in await enter(tokens[:_FIRST]):  # what the first sockets bring in belongs to no socket
        stream.close()
    await bench.quiet()
    before = _api_mib(bench)
    streams = await enter(tokens)
    outcome.figures["idle_sockets"] = sum(stream.closed is None for stream in streams)
    outcome.figures["socket_kib"] = (_api_mib(bench) - before) * 1024 / len(streams)
    outcome.figures["idle_sockets_cpu_percent"] = 100 * await _cores(bench)
    for stream in streams:
        stream.close()


async def _long_polls(bench: Bench, outcome: Outcome) -> None:
    await bench.quiet()
    idle = await _cores(bench)
    polls = []
    for number in range(bench.sizes.waiting):
        account = bench.recipients[number % len(bench.recipients)]
        polls.append(asyncio.create_task(_poll(bench, account)))
        if number % 50 == 0:
            await asyncio.sleep(0.01)
    await bench.quiet()
    outcome.figures["long_polls_cpu_percent"] = 100 * max(0.0, await _cores(bench) - idle)
    for status in await asyncio.gather(*polls):
        if status != 200:
            bench.ledger.refuse(f"a long poll was answered {status}")


async def _poll(bench: Bench, account: int) -> int:
    assert isinstance(bench.dialect, Restante)
    connection = await Connection.open(bench.port)
    try:
        asked = head("GET", f"/messages/sync?wait={_WAIT}", bench.dialect.accounts[account].token)
        return (await connection.ask(asked))[0]
    finally:
        connection.close()


async def _devices(bench: Bench) -> list[str]:
    """A token each of so many devices, spread over the recipients, whose passwords are hashed with little effort first."""
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    async with await psycopg.AsyncConnection.connect(bench.service.database) as connection:
        await connection.execute("UPDATE accounts.accounts SET password_hash = %s", (cheap,))
    tokens: list[str] = []
    work = iter(range(bench.sizes.waiting))

    async def log_in() -> None:
        connection = await Connection.open(bench.port)
        for number in work:
            who = name(bench.recipients[number % len(bench.recipients)])
            login = {"name": who, "password": PASSWORD, "device": f"idle {number}"}
            status, answer = await connection.ask(head("POST", "/tokens"), json.dumps(login).encode())
            if status != 200:
                raise RuntimeError(f"a login was answered {status}: {answer[:300]!r}")
            tokens.append(json.loads(answer)["access_token"])
        connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(log_in())
    return tokens


def _api_mib(bench: Bench) -> float:
    return pss_mib(bench.service.roles()["api"])


async def _cores(bench: Bench) -> float:
    """Cores that all roles together keep busy."""
    pids = [pid for role in bench.service.roles().values() for pid in role]
    began, before = time.perf_counter(), cpu_seconds(pids)
    await asyncio.sleep(_WATCHED)
    return (cpu_seconds(pids) - before) / (time.perf_counter() - began)


def _many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
