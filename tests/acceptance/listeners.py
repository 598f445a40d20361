"""A crowd at GET /messages/stream that behaves as the contract asks, and what each of its sessions must look like."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.acceptance.people import Device, Message
from tests.acceptance.sockets import NO_CLOSE_FRAME, PATIENCE, SUBPROTOCOL, Frame, address, bearer
from tests.eventually import soon

_COME_BACK = (1006, 1011, 1012, 4408, 4413)


@dataclass(slots=True)
class Visit:
    """A session as its client saw it. `acked_before` are the messages that this client had acknowledged when it began."""

    session: str
    acked_before: frozenset[str]
    came: list[Message] = field(default_factory=list)
    caught_up: list[int] = field(default_factory=list)
    """After how many messages."""
    receipts: list[Frame] = field(default_factory=list)
    closed: int | None = None


@dataclass(slots=True)
class Listener:
    """A device that stays connected: acknowledges what comes, and comes back after whatever the contract says.

    While it `holds` it acknowledges nothing.
    """

    device: Device
    at: Callable[[], str] | None = None
    visits: list[Visit] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    confirmed: set[str] = field(default_factory=set)
    unconfirmed: set[str] = field(default_factory=set)
    """What came in this session, and the log has no acknowledgement of as far as this client was told."""
    errors: list[Frame] = field(default_factory=list)
    told: set[str] = field(default_factory=set)
    connected: bool = False
    holds: bool = False
    _pending: list[str] = field(default_factory=list)
    _number: int = 0

    @property
    def there(self) -> bool:
        """Connected, and its mailbox was handed over."""
        return self.connected and bool(self.visits[-1].caught_up)

    @property
    def came(self) -> list[Message]:
        """Every message as it came first."""
        return list({message["id"]: message for visit in self.visits for message in visit.came}.values())

    async def run(self) -> None:
        """Until cancelled, or until the device is connected elsewhere."""
        while True:
            try:
                await self._visit()
            except (OSError, InvalidHandshake):
                pass  # not there, or not yet: 503
            finally:
                self.connected = False
            if self.visits and self.visits[-1].closed not in (None, *_COME_BACK):
                return
            await asyncio.sleep(random.uniform(0.05, 0.4))

    async def _visit(self) -> None:
        url = self.at() if self.at else self.device.service.url
        async with connect(
            address(url),
            subprotocols=[SUBPROTOCOL],
            additional_headers=bearer(self.device),
            compression=None,
            max_size=None,
            ping_interval=None,
            proxy=None,
            open_timeout=20,
            close_timeout=1,
        ) as connection:
            self._pending.clear()
            acknowledging = asyncio.create_task(self._acknowledge(connection))
            try:
                while True:
                    self._take(json.loads(await connection.recv()))
            except ConnectionClosed as closed:
                if self.connected:
                    self.visits[-1].closed = closed.rcvd.code if closed.rcvd else NO_CLOSE_FRAME
            finally:
                acknowledging.cancel()

    def _take(self, frame: Frame) -> None:
        match frame["type"]:
            case "ready":
                self.visits.append(Visit(frame["session"], frozenset(self.told)))
                self.unconfirmed.clear()  # what the log has not comes again
                self.connected = True
            case "message":
                self.visits[-1].came.append(frame)
                self._pending.append(frame["id"])
                self.seen.add(frame["id"])
                self.unconfirmed.add(frame["id"])
            case "caught_up":
                self.visits[-1].caught_up.append(len(self.visits[-1].came))
            case "acked":
                assert frame["unknown"] == [], frame
                self.confirmed.update(frame["acknowledged"], frame["already"])
                self.unconfirmed.difference_update(frame["acknowledged"], frame["already"])
            case "receipt":
                self.visits[-1].receipts.append(frame)
            case "error":
                self.errors.append(frame)
            case _:
                pass

    async def _acknowledge(self, connection: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                if self._pending and not self.holds:
                    ids, self._pending = self._pending[:500], self._pending[500:]
                    self.told.update(ids)
                    self._number += 1
                    await connection.send(json.dumps({"type": "ack", "n": self._number, "ids": ids}))
                else:
                    await asyncio.sleep(0.01)


@dataclass(slots=True)
class Crowd:
    """Many devices that listen in a thread of their own while the `with` block runs."""

    devices: Sequence[Device]
    at: Callable[[], str] | None = None
    listeners: list[Listener] = field(init=False)
    _thread: threading.Thread = field(init=False)
    _loop: asyncio.AbstractEventLoop | None = None
    _end: asyncio.Event = field(default_factory=asyncio.Event)
    _failure: BaseException | None = None

    def __post_init__(self) -> None:
        self.listeners = [Listener(device, self.at) for device in self.devices]

    def __enter__(self) -> Crowd:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE)
        if self._failure is not None and kind is None:
            raise self._failure

    def all_there(self, within: float = 60.0) -> None:
        """Wait until everybody is connected and has its mailbox."""
        soon(lambda: self._failure or self.absent() == [], within, "all are there")
        if self._failure is not None:
            raise self._failure

    def absent(self) -> list[str]:
        """Who is not there."""
        return [f"{one.device.name}: {len(one.visits)} visits" for one in self.listeners if not one.there]

    def has(self, wanted: dict[str, set[str]], within: float = 60.0) -> None:
        """Wait until each device's messages (ids by account name) have come to it, and the log has its acknowledgements."""
        wanted = {name: set(ids) for name, ids in wanted.items()}

        def missing() -> list[str]:
            lacks = []
            for one in self.listeners:
                mine = wanted.get(one.device.name, set())
                absent, told = len(mine - one.seen), len(mine & one.unconfirmed)
                if absent or told:
                    lacks.append(f"{one.device.name}: {absent} have not come, {told} are not confirmed")
            return lacks

        def complete() -> bool:
            lacks = missing()
            assert not lacks or self._failure, lacks[:5]
            return True

        soon(complete, within, "everything has come to everybody and is acknowledged")
        if self._failure is not None:
            raise self._failure

    def assert_nobody_left(self) -> None:
        """No session ended."""
        assert {
            one.device.name: [visit.closed for visit in one.visits] for one in self.listeners if len(one.visits) != 1
        } == {}

    def assert_faithful(self) -> None:
        """What the contract says of every session: order, `caught_up`, no hole. And nobody was told an error."""
        for one in self.listeners:
            assert one.errors == []
            assert_faithful(one)

    def codes(self) -> Counter[int | None]:
        """How sessions ended."""
        return Counter(visit.closed for one in self.listeners for visit in one.visits)

    def _run(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseException as failure:
            self._failure = failure

    async def _all(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(listener.run()) for listener in self.listeners]
            await self._end.wait()
            for task in tasks:
                task.cancel()


def assert_faithful(one: Listener) -> None:
    """Positions rise within each session, nothing comes twice in it, `caught_up` comes once at most, and there is no hole:
    a message that came at any time is in each session that went beyond its position, or was acknowledged before."""
    who = one.device.name
    known = {message["position"]: message["id"] for visit in one.visits for message in visit.came}
    assert len(known) == len(set(known.values())), f"{who}: a message has two positions"
    for visit in one.visits:
        places = [message["position"] for message in visit.came]
        assert places == sorted(set(places)), f"{who}: positions fall within a session"
        assert len(visit.caught_up) <= 1, f"{who}: caught up {len(visit.caught_up)} times"
        shown = {message["id"] for message in visit.came}
        skipped = [
            place
            for place, message_id in known.items()
            if places and place < places[-1] and message_id not in shown and message_id not in visit.acked_before
        ]
        assert skipped == [], f"{who}: left out of a session that went up to {places[-1]}: {skipped[:5]}"
