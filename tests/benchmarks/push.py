"""Recipients that are there: how long a message takes to them, how many a second, and how soon a mailbox is handed over."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from tests.benchmarks.bench import Bench, Outcome
from tests.benchmarks.client import Connection
from tests.benchmarks.dialect import Restante
from tests.benchmarks.ledger import Ledger, Letter, number_of
from tests.benchmarks.measure import percentile_ms
from tests.benchmarks.stream import Frame, Stream

_SENDERS = 16
_PATIENCE = 120.0
_LOOKS = 3
_EACH = 25
"""Messages that an idle-handed reader lets come together before it acknowledges, where speed is measured."""


@dataclass(slots=True)
class Audience:
    """Recipients with a socket each, who acknowledge what comes: at once, or `every` so many and at a pause."""

    ledger: Ledger
    every: int = 1
    arrived: dict[int, float] = field(default_factory=dict)
    acknowledged: int = 0
    caught_up: int = 0
    _streams: list[Stream] = field(default_factory=list)
    _unacked: dict[Stream, list[str]] = field(default_factory=dict)
    _due: set[Stream] = field(default_factory=set)
    _n: int = 0

    async def enter(self, bench: Bench, accounts: Sequence[int]) -> None:
        """Connect them and wait until each has its mailbox."""
        assert isinstance(bench.dialect, Restante)
        for account in accounts:
            token = bench.dialect.accounts[account].token
            self._streams.append(await Stream.open(bench.port, token, partial(self._hear, account)))
        await self.until(lambda: self.caught_up == len(accounts))

    def _hear(self, account: int, stream: Stream, frame: Frame) -> None:
        if frame.type == "message":
            number = number_of(frame.body)
            self.arrived.setdefault(number, time.perf_counter())
            self.ledger.drain(account, number)
            ids = self._unacked.setdefault(stream, [])
            ids.append(frame.id)
            if len(ids) >= self.every:
                self._acknowledge(stream)
            elif stream not in self._due:
                self._due.add(stream)
                asyncio.get_running_loop().call_later(0.005, self._acknowledge, stream)
        elif frame.type == "acked":
            self.acknowledged += len(frame.acknowledged)
        elif frame.type == "caught_up":
            self.caught_up += 1

    def _acknowledge(self, stream: Stream) -> None:
        self._due.discard(stream)
        if ids := self._unacked.pop(stream, []):
            self._n += 1
            stream.ack(self._n, ids)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition. RuntimeError where a socket is closed meanwhile."""
        async with asyncio.timeout(_PATIENCE):
            while not condition():
                closed = [stream.closed for stream in self._streams if stream.closed]
                if closed:
                    raise RuntimeError(f"{len(closed)} sockets were closed: {sorted(set(closed))}")
                await asyncio.sleep(0.002)

    def leave(self) -> None:
        """Hang up."""
        for stream in self._streams:
            stream.close()


async def run(bench: Bench, outcome: Outcome) -> None:
    """Latency at a steady rate, the highest rate, and the time from connect to `caught_up`."""
    await latency(bench, outcome)
    await _rate(bench, outcome)
    await _hand_over(bench, outcome)
    await bench.drain_again()


async def latency(bench: Bench, outcome: Outcome) -> None:
    """Seconds from the sender's 202 to the recipient's frame, at a rate that does not wait for answers."""
    audience, sizes = Audience(bench.ledger), bench.sizes
    await audience.enter(bench, bench.recipients)
    await bench.quiet()
    letters = bench.random_letters(sizes.push_per_s * sizes.push_seconds)
    with bench.phase() as phase:
        accepted = await _post_steadily(bench, letters, sizes.push_per_s)
        await audience.until(lambda: audience.acknowledged >= len(accepted))
    took = [max(0.0, audience.arrived[number] - at) for number, at in accepted.items()]
    audience.leave()
    outcome.figures.update(push_p50_ms=percentile_ms(took, 0.5), push_p99_ms=percentile_ms(took, 0.99))
    outcome.note_cpu("push", phase, len(accepted))


async def _post_steadily(bench: Bench, letters: Sequence[Letter], per_second: int) -> dict[int, float]:
    """Post so many a second; when each was answered 202, by number."""
    accepted: dict[int, float] = {}
    connections = [await Connection.open(bench.port) for _ in range(_SENDERS)]
    began = time.perf_counter()

    async def send(connection: Connection, sender: int, mine: Sequence[tuple[int, Letter]]) -> None:
        post = bench.dialect.post_head(sender)
        for turn, letter in mine:
            await asyncio.sleep(began + turn / per_second - time.perf_counter())
            status, answer = await connection.ask(post, bench.dialect.post_body(letter))
            if status == 202:
                accepted[letter.number] = time.perf_counter()
                bench.ledger.accept(letter)
            else:
                bench.ledger.refuse(f"{status} {answer[:200]!r}")

    turns = list(enumerate(letters))
    async with asyncio.timeout(_PATIENCE), asyncio.TaskGroup() as group:
        for number, connection in enumerate(connections):
            group.create_task(send(connection, bench.senders[number], turns[number::_SENDERS]))
    for connection in connections:
        connection.close()
    return accepted


async def _rate(bench: Bench, outcome: Outcome) -> None:
    """Messages a second from the first POST to the last `acked`, sent in batches and one by one."""
    audience = Audience(bench.ledger, every=_EACH)
    await audience.enter(bench, bench.recipients)
    for name, send in (("pushed", bench.fill), ("pushed_single", bench.post)):
        await bench.quiet()
        letters, accepted = bench.random_letters(bench.sizes.pushed), len(bench.ledger.accepted)
        wanted = audience.acknowledged + len(letters)
        with bench.phase() as phase:
            await send(letters)
            refused = len(letters) - (len(bench.ledger.accepted) - accepted)
            await audience.until(partial(_reached, audience, wanted - refused))
        outcome.figures[f"{name}_per_s"] = (len(letters) - refused) / phase.wall
        outcome.note_cpu(name, phase, len(letters) - refused)
    audience.leave()


def _reached(audience: Audience, count: int) -> bool:
    return audience.acknowledged >= count


async def _hand_over(bench: Bench, outcome: Outcome) -> None:
    """Seconds from connect to `caught_up`, of three mailboxes one after the other."""
    assert isinstance(bench.dialect, Restante)
    owners = bench.recipients[:_LOOKS]
    await bench.fill(bench.ledger.letters([owner for owner in owners for _ in range(bench.sizes.backlog)]))
    await bench.settle()
    await bench.sweep()
    await bench.quiet()
    took = []
    for owner in owners:
        audience = Audience(bench.ledger, every=_EACH)
        began = time.perf_counter()
        await audience.enter(bench, [owner])
        took.append(time.perf_counter() - began)
        await audience.until(partial(_reached, audience, bench.sizes.backlog))
        audience.leave()
    outcome.figures["caught_up_s"] = statistics.median(took)
