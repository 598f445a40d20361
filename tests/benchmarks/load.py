"""The traffic: closed loops that post, and drainers that sync and acknowledge until nothing is left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from itertools import islice

from tests.benchmarks.client import Connection
from tests.benchmarks.dialect import Dialect, Restante
from tests.benchmarks.ledger import Ledger, Letter

PAGE = 100
PHASE_SECONDS = 120.0
_AFTER_REFUSAL = 0.02


async def post_each(
    port: int, dialect: Dialect, ledger: Ledger, letters: Sequence[Letter], senders: Sequence[int]
) -> list[float]:
    """One connection a sender, one message in flight on each; seconds that each accepted message took."""
    took: list[float] = []
    work = iter([(letter, dialect.post_body(letter)) for letter in letters])

    async def send(connection: Connection, sender: int) -> None:
        post = dialect.post_head(sender)
        for letter, body in work:
            began = time.perf_counter()
            status, answer = await connection.ask(post, body)
            if status == 202:
                took.append(time.perf_counter() - began)
                ledger.accept(letter)
            else:
                await _refused(ledger, status, answer)

    await _each(port, senders, send)
    return took


async def post_batches(
    port: int, dialect: Restante, ledger: Ledger, letters: Sequence[Letter], senders: Sequence[int], size: int = 100
) -> list[float]:
    """The same with `size` messages a request; seconds that each request took."""
    took: list[float] = []
    work = iter([(part, dialect.batch_body(part)) for part in _parts(letters, size)])

    async def send(connection: Connection, sender: int) -> None:
        post = dialect.batch_head(sender)
        for part, body in work:
            began = time.perf_counter()
            status, answer = await connection.ask(post, body)
            took.append(time.perf_counter() - began)
            if status != 202:
                await _refused(ledger, status, answer)
                continue
            for letter, problem in zip(part, dialect.batch_results(answer), strict=True):
                if problem is None:
                    ledger.accept(letter)
                else:
                    ledger.refuse(f"in a batch: {problem}")

    await _each(port, senders, send)
    return took


async def drain(
    port: int, dialect: Dialect, ledger: Ledger, accounts: Iterable[int], drainers: int = 32, page: int = PAGE
) -> int:
    """`drainers` accounts at a time come back, each on a new connection, and empty their mailboxes; how many came."""
    before = ledger.drained.total()
    work = iter(accounts)

    async def take() -> None:
        for account in work:
            connection = await Connection.open(port)
            try:
                await _empty(connection, dialect, ledger, account, page)
            finally:
                connection.close()

    async with asyncio.timeout(PHASE_SECONDS), asyncio.TaskGroup() as group:
        for _ in range(drainers):
            group.create_task(take())
    return ledger.drained.total() - before


async def _empty(connection: Connection, dialect: Dialect, ledger: Ledger, account: int, limit: int) -> None:
    sync = dialect.sync_head(account, limit)
    while True:
        page = dialect.page(await ask_patiently(connection, ledger, sync))
        for number in page.numbers:
            ledger.drain(account, number)
        if page.ids:
            await ask_patiently(connection, ledger, *dialect.ack(account, page))
        if not page.has_more:
            return


async def ask_patiently(connection: Connection, ledger: Ledger, request_head: bytes, body: bytes = b"") -> bytes:
    """The answer to a request that must succeed; a 503 is honest (the projection is behind) and asked again."""
    while True:
        status, answer = await connection.ask(request_head, body)
        if status in (200, 202):
            return answer
        if status != 503:
            raise RuntimeError(f"the service answered {status}: {answer[:300]!r}")
        ledger.retries += 1
        await asyncio.sleep(_AFTER_REFUSAL)


async def _each(port: int, senders: Sequence[int], send: Callable[[Connection, int], Coroutine[None, None, None]]) -> None:
    connections = [await Connection.open(port) for _ in senders]
    try:
        async with asyncio.timeout(PHASE_SECONDS), asyncio.TaskGroup() as group:
            for connection, sender in zip(connections, senders, strict=True):
                group.create_task(send(connection, sender))
    finally:
        for connection in connections:
            connection.close()


async def _refused(ledger: Ledger, status: int, answer: bytes) -> None:
    ledger.refuse(f"{status} {answer[:200]!r}")
    await asyncio.sleep(_AFTER_REFUSAL)


def _parts(letters: Sequence[Letter], size: int) -> Iterator[list[Letter]]:
    rest = iter(letters)
    while part := list(islice(rest, size)):
        yield part
