"""Many who wait and nothing comes: the memory of idle sockets, and the processor time of long polls."""

from __future__ import annotations

import asyncio
import resource
import time
from uuid import UUID

from tests.benchmarks.bench import Bench, Outcome
from tests.benchmarks.client import Connection, head
from tests.benchmarks.devices import new_devices
from tests.benchmarks.dialect import Restante
from tests.benchmarks.measure import cpu_seconds, pss_mib
from tests.benchmarks.service import fresh_api
from tests.benchmarks.stream import Frame, Stream

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
    """A token each of so many devices, spread over the recipients."""
    assert isinstance(bench.dialect, Restante)
    accounts = [bench.dialect.accounts[bench.recipients[at % len(bench.recipients)]] for at in range(bench.sizes.waiting)]
    service = bench.service
    return await new_devices(service.data, service.kafka, service.database, [UUID(one.user_id) for one in accounts])


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
