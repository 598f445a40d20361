"""The projection of the simulated world: `schemas.lifecycle` folded up to where the projector has come, and asked late."""

import asyncio
import contextvars
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar
from uuid import UUID

from api.frames import ReceiptFrame
from api.keys import AccountKeys
from api.times import rfc3339
from producers.log import LogUnavailable
from projections.errors import DatabaseUnavailable, ProjectionBehind
from projections.reads import NO_FLOORS, Floors, Found, MailboxRow, Page
from schemas.events import Entry, MessageStored
from schemas.lifecycle import INITIAL, Message, Recipient, evolve
from schemas.receipt import Outcome, Receipt
from schemas.topics import LIFECYCLE, RECEIPTS
from tests.simulation.chance import Bell, Chance, Outage
from tests.simulation.log import WorldLog
from tests.simulation.loop import outside

T = TypeVar("T")

ASK_SECONDS: Final = 0.004
FOLD_SECONDS: Final = 0.01


class Projection:
    """The tables. `work` is the projector, which needs no faults of its own: whatever happens to it, rows and offset move
    together, so that it is late at worst (`slowness`, `halt`)."""

    def __init__(self, log: WorldLog) -> None:
        self.log = log
        self.outage = Outage()
        self.halt = Outage()
        self.slowness = FOLD_SECONDS
        self.moved = Bell()
        self.listeners: list[Callable[[int, int], None]] = []
        self.told: list[Callable[[], None]] = []
        self.sealed: dict[UUID, bytes] = {}
        self.receipts: list[list[Receipt]] = [[] for _ in log.facts]
        self._applied = [0] * len(log.facts)
        self._states: dict[UUID, Recipient] = {}

    def applied(self, partition: int) -> int:
        """The next offset of a partition."""
        return self._applied[partition]

    def state(self, user: UUID) -> Recipient:
        """All that has been folded about a user."""
        return self._states.get(user, INITIAL)

    @property
    def complete(self) -> bool:
        """Whether all facts are folded."""
        return all(applied == len(facts) for applied, facts in zip(self._applied, self.log.facts, strict=True))

    def states(self) -> Iterable[Recipient]:
        """All recipients, as far as they are folded."""
        return self._states.values()

    async def work(self) -> None:
        """Fold what comes, a part at a time, for ever."""
        chance = self.log.chance
        while True:
            behind = [p for p, facts in enumerate(self.log.facts) if self._applied[p] < len(facts) or self._owes(p)]
            if not behind:
                await self.log.grown[LIFECYCLE].wait()
                continue
            await chance.pause(self.slowness)
            for outage in (self.log.outage, self.outage, self.halt):
                await outage.over()
            self._fold(chance.choice(behind))

    def _owes(self, partition: int) -> bool:
        return len(self.receipts[partition]) < self.log.end(RECEIPTS, partition)

    def _fold(self, partition: int) -> None:
        facts, at = self.log.facts[partition], self._applied[partition]
        end = self.log.chance.randint(min(at + 1, len(facts)), len(facts))
        for recorded in facts[at:end]:
            fact = recorded.fact
            if isinstance(fact, MessageStored):
                self.sealed.setdefault(fact.message_id, fact.sealed)
            self._states[fact.recipient] = evolve(self.state(fact.recipient), recorded)
        self._applied[partition] = end
        held = self.log.held(RECEIPTS, partition)
        if len(held) > len(self.receipts[partition]):
            self.receipts[partition] += [tailed.record for tailed in held[len(self.receipts[partition]) :]]  # type: ignore[misc]
            for told in self.told:
                told()
        for listener in self.listeners:
            listener(partition, end)
        self.moved.ring()


class WorldReads:
    """`api.ports.MailboxReads` of one process: each question takes a while, and sees one moment of it."""

    def __init__(self, projection: Projection, names: Mapping[UUID, str]) -> None:
        self._projection = projection
        self._names = names

    async def page(
        self,
        user: UUID,
        device: UUID,
        *,
        after: int,
        limit: int,
        max_bytes: int,
        floors: Floors = NO_FLOORS,
        counted: bool = True,
    ) -> Page:
        def look() -> Page:
            mailbox = self._projection.state(user).mailbox(device)
            rows: list[MailboxRow] = []
            size = 0
            above = [message for message in mailbox if message.position > after]
            for message in above[:limit]:
                row = self._row(message)
                size += len(row.sealed)
                if rows and size > max_bytes:
                    break
                rows.append(row)
            return Page(rows=rows, has_more=len(rows) < len(above), pending=len(mailbox) if counted else 0)

        return await self._ask(look, floors)

    async def outstanding(self, user: UUID, device: UUID, ids: Sequence[UUID], *, floors: Floors = NO_FLOORS) -> list[Found]:
        def look() -> list[Found]:
            messages = self._projection.state(user).messages
            return [_found(messages[one], device) for one in ids if one in messages]

        return await self._ask(look, floors)

    async def up_to(
        self, user: UUID, device: UUID, position: int, *, after: int, limit: int, floors: Floors = NO_FLOORS
    ) -> list[Entry]:
        def look() -> list[Entry]:
            mailbox = self._projection.state(user).mailbox(device)
            found = [_entry(message) for message in mailbox if after < message.position <= position]
            return found[:limit]

        return await self._ask(look, floors)

    async def stragglers(
        self, users: Sequence[UUID], devices: Sequence[UUID], after: Sequence[int], *, stored_before_ms: int
    ) -> list[UUID]:
        def look() -> list[UUID]:
            return [
                device
                for user, device, position in zip(users, devices, after, strict=True)
                if any(
                    message.position > position and message.stored.at_ms < stored_before_ms
                    for message in self._projection.state(user).mailbox(device)
                )
            ]

        return await self._ask(look, NO_FLOORS)

    async def _ask(self, look: Callable[[], T], floors: Floors) -> T:
        chance: Chance = self._projection.log.chance
        await chance.pause(ASK_SECONDS)
        if self._projection.outage.now:
            await asyncio.sleep(chance.random() * min(2.0, self._projection.outage.left))
            raise DatabaseUnavailable("away")
        if any(self._projection.applied(partition) < offset for partition, offset in floors.items()):
            raise ProjectionBehind("not yet")
        found = look()
        await chance.pause(ASK_SECONDS)
        return found

    def _row(self, message: Message) -> MailboxRow:
        return MailboxRow(
            message_id=message.message_id,
            sender=message.sender,
            sender_name=self._names[message.sender],
            sealed=self._projection.sealed[message.message_id],
            stored_at_ms=message.stored.at_ms,
            position=message.position,
            status=message.status,
        )


class WorldProgress:
    """`api.ports.MailboxProgress` of one process: it hears of each step a moment later."""

    def __init__(self, projection: Projection) -> None:
        self._projection = projection
        self._applied: dict[int, int] = {}
        self._moved = Bell()
        projection.listeners.append(self._hear)

    def applied(self, partition: int) -> int:
        return self._applied.get(partition, 0)

    async def reached(self, partition: int, end: int, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                while self.applied(partition) < end:
                    await self._moved.wait()
        except TimeoutError as error:
            raise ProjectionBehind(f"partition {partition} has not reached {end}") from error

    def _hear(self, partition: int, end: int) -> None:
        chance = self._projection.log.chance
        late = 1.0 if chance.happens(0.02) else chance.delay(ASK_SECONDS)
        outside(late, self._set, partition, end)

    def _set(self, partition: int, end: int) -> None:
        self._applied[partition] = max(end, self.applied(partition))
        self._moved.ring()


class WorldReceipts:
    """`api.ports.ReceiptSource`: the first receipt of a (message, outcome) counts."""

    def __init__(self, projection: Projection, partition_of: Callable[[UUID], int]) -> None:
        self._projection = projection
        self._partition_of = partition_of

    async def now(self, user: UUID) -> int:
        log = self._projection.log
        await log.chance.pause(ASK_SECONDS)
        if log.outage.now:
            raise LogUnavailable("rejected", "the log is away")
        return log.end(RECEIPTS, self._partition_of(user)) - 1

    async def after(self, user: UUID, position: int, limit: int) -> Sequence[tuple[int, ReceiptFrame]]:
        await self._projection.log.chance.pause(ASK_SECONDS)
        if self._projection.outage.now:
            raise DatabaseUnavailable("away")
        return list(self._all(user, position))[:limit]

    @contextmanager
    def watch(self, user: UUID, wake: Callable[[], None]) -> Iterator[None]:
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()

        def heard() -> None:
            loop.call_soon(wake, context=context)

        self._projection.told.append(heard)
        try:
            yield
        finally:
            self._projection.told.remove(heard)

    def _all(self, user: UUID, above: int) -> Iterator[tuple[int, ReceiptFrame]]:
        seen: set[tuple[UUID, Outcome]] = set()
        for position, receipt in enumerate(self._projection.receipts[self._partition_of(user)]):
            what = (receipt.message_id, receipt.outcome)
            overtaken = receipt.outcome is Outcome.DELIVERED and (receipt.message_id, Outcome.READ) in seen
            if receipt.sender == user and what not in seen and not overtaken:
                seen.add(what)
                if position > above:
                    at = rfc3339(receipt.at_ms)
                    yield position, ReceiptFrame(receipt.message_id, None, receipt.outcome.value, at, str(position))


class WorldKeys:
    """`api.ports.Keys`: an account's keys, asked for in the database each time."""

    def __init__(self, projection: Projection, keys: Mapping[UUID, AccountKeys]) -> None:
        self._projection = projection
        self._keys = keys
        self._known: dict[UUID, AccountKeys] = {}

    async def keys_of(self, user_id: UUID) -> AccountKeys | None:
        if user_id not in self._known:
            await self._projection.log.chance.pause(ASK_SECONDS)
            if self._projection.outage.now:
                raise DatabaseUnavailable("away")
            self._known[user_id] = self._keys[user_id]
        return self._known[user_id]


def _found(message: Message, device: UUID) -> Found:
    return Found(
        message_id=message.message_id,
        position=message.position,
        sender=message.sender,
        delivered_to_device=device in message.deliveries,
        read=message.read is not None,
    )


def _entry(message: Message) -> Entry:
    return Entry(message_id=message.message_id, position=message.position, sender=message.sender)
