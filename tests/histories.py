"""Logs as the service writes them: an account's devices come and go, messages are stored and decided on late, acknowledged,
repeated, and the account may be erased. What is done is given as numbers, so hypothesis can make it up and make it small."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from processors.decisions import decide
from processors.presence import NOBODY, Here, after
from schemas.codec import decode, encode
from schemas.events import (
    AccountErased,
    DeviceRegistered,
    DeviceRemoved,
    EndReason,
    Entry,
    Fact,
    FactBase,
    MessagesDelivered,
    MessagesRead,
    MessageStored,
    Place,
    Recorded,
    SessionClosed,
    SessionMarked,
    SessionOpened,
    Via,
)
from schemas.partitions import partition_for
from schemas.raw import RawRecord
from schemas.topics import LIFECYCLE
from tests.builders import ALICE, T0_MS, an_id

Step = tuple[int, int, int]
"""What to do, and two numbers that say with whom."""

PARTITIONS = 1


def raw(fact: Fact, offset: int, at_ms: int, partition: int = 0) -> RawRecord:
    """The record as the broker would keep it."""
    encoded = encode(fact)
    return RawRecord(partition, offset, at_ms, encoded.key, encoded.value, tuple(encoded.headers))


def understood(record: RawRecord) -> Recorded:
    """The fact in it."""
    fact = decode(record.value)
    assert isinstance(fact, FactBase)
    return Recorded(fact, Place(LIFECYCLE, record.partition, record.offset), record.at_ms)  # type: ignore[arg-type]


@dataclass
class Account:
    user: UUID
    devices: list[UUID] = field(default_factory=list)
    sessions: dict[UUID, UUID] = field(default_factory=dict)
    messages: list[tuple[MessageStored, int]] = field(default_factory=list)
    erased: bool = False


@dataclass
class World:
    """`records` is the log so far. The processor decides when told to, and has read everything when `finish` returns."""

    accounts: list[Account]
    records: list[RawRecord] = field(default_factory=list)
    here: dict[UUID, Here] = field(default_factory=dict)
    undecided: int = 0
    made: int = 0
    now_ms: int = T0_MS

    def new(self, kind: str) -> UUID:
        self.made += 1
        return an_id(kind, self.made)

    def append(self, fact: Fact) -> int:
        self.now_ms += 7
        offset = len(self.records)
        self.records.append(raw(fact, offset, self.now_ms))
        return offset

    def common(self, account: Account) -> dict[str, Any]:
        return {"event_id": self.new("ev"), "producer": "api/1", "recipient": account.user}

    def play(self, steps: Iterable[Step]) -> World:
        for what, which, other in steps:
            account = self.accounts[which % len(self.accounts)]
            _STEPS[what % len(_STEPS)](self, account, other)
        return self

    def finish(self) -> Sequence[RawRecord]:
        """The processor catches up, also with what it wrote itself."""
        while self.undecided < len(self.records):
            self.decide(self.accounts[0], len(self.records))
        return self.records

    def register(self, account: Account, other: int) -> None:
        if not account.erased and len(account.devices) < 3:
            account.devices.append(self.new("dev"))
            self.append(DeviceRegistered(device_id=account.devices[-1], **self.common(account)))

    def connect(self, account: Account, other: int) -> None:
        if account.devices and not account.erased:
            device, session = account.devices[other % len(account.devices)], self.new("sess")
            account.sessions[session] = device
            self._mark(SessionOpened, account, session)

    def mark(self, account: Account, other: int) -> None:
        if account.sessions and not account.erased:
            self._mark(SessionMarked, account, list(account.sessions)[other % len(account.sessions)])

    def _mark(self, kind: type[SessionOpened] | type[SessionMarked], account: Account, session: UUID) -> None:
        device = account.sessions[session]
        self.append(
            kind(session_id=session, device_id=device, gateway="gateway/1", push_partition=0, **self.common(account))
        )

    def close(self, account: Account, other: int) -> None:
        if account.sessions:
            session = list(account.sessions)[other % len(account.sessions)]
            reason = list(EndReason)[other % len(EndReason)]
            device = account.sessions.pop(session)
            self.append(SessionClosed(session_id=session, device_id=device, reason=reason, **self.common(account)))

    def store(self, account: Account, other: int) -> None:
        if account.erased and other % 4:
            return  # a message that was on its way comes now and then
        fact = MessageStored(
            message_id=self.new("msg"),
            sender=ALICE,
            sender_device=an_id("dev", 9000),
            created_at_ms=self.now_ms,
            keyed=bool(other % 2),
            sealed=b"sealed",
            digest=b"d" * 32,
            **self.common(account),
        )
        account.messages.append((fact, self.append(fact)))

    def repeat(self, account: Account, other: int) -> None:
        keyed = [fact for fact, _ in account.messages if fact.keyed]
        if keyed:
            self.append(replace(keyed[other % len(keyed)], event_id=self.new("ev")))

    def decide(self, account: Account, other: int) -> None:
        """The processor takes up to so many records."""
        for record in self.records[self.undecided : self.undecided + 1 + other]:
            recorded = understood(record)
            before = self.here.get(recorded.fact.recipient, NOBODY)
            for outgoing in decide(before, recorded, "processor/1"):
                if isinstance(outgoing.record, FactBase):
                    self.append(outgoing.record)  # type: ignore[arg-type]
            self.here[recorded.fact.recipient] = after(before, recorded)
            self.undecided += 1

    def restart(self, account: Account, other: int) -> None:
        """A processor that takes the last records once more: its decisions come again."""
        self.undecided = max(0, self.undecided - other % 4)
        self.here = {}
        for record in self.records[: self.undecided]:
            recorded = understood(record)
            self.here[recorded.fact.recipient] = after(self.here.get(recorded.fact.recipient, NOBODY), recorded)

    def acknowledge(self, account: Account, other: int) -> None:
        self._acknowledge(MessagesDelivered, account, other)

    def read(self, account: Account, other: int) -> None:
        self._acknowledge(MessagesRead, account, other)

    def _acknowledge(self, kind: type[MessagesDelivered] | type[MessagesRead], account: Account, other: int) -> None:
        if account.devices and account.messages:
            some = account.messages[other % len(account.messages) :][: 1 + other % 3]
            entries = tuple(Entry(message_id=fact.message_id, position=at, sender=fact.sender) for fact, at in some)
            device = account.devices[other % len(account.devices)]
            self.append(kind(device_id=device, entries=entries, via=Via.HTTP, **self.common(account)))

    def remove(self, account: Account, other: int) -> None:
        if len(account.devices) > other % 2:
            device = account.devices.pop(other % len(account.devices))
            account.sessions = {session: owner for session, owner in account.sessions.items() if owner != device}
            self.append(DeviceRemoved(device_id=device, **self.common(account)))

    def erase(self, account: Account, other: int) -> None:
        if not account.erased and not other % 3:
            account.erased = True
            self.append(AccountErased(**self.common(account)))


_STEPS = (
    World.store,
    World.decide,
    World.acknowledge,
    World.store,
    World.connect,
    World.decide,
    World.read,
    World.mark,
    World.register,
    World.close,
    World.repeat,
    World.restart,
    World.remove,
    World.erase,
)


def history(steps: Iterable[Step], accounts: int = 2) -> World:
    """A world in which these steps were taken by so many accounts that live in the only partition."""
    users = [an_id("acct", 100 + number) for number in range(accounts)]
    assert all(partition_for(user, PARTITIONS) == 0 for user in users)
    world = World([Account(user) for user in users])
    for account in world.accounts:
        world.register(account, 0)
    return world.play(steps)
