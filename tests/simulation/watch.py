"""What each client must see, known from the log alone, and compared with every frame at the moment when it is sent."""

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import msgspec

from api.cursors import Cursors
from schemas.events import (
    DeviceRegistered,
    DeviceRemoved,
    Entry,
    MessagesDelivered,
    MessagesRead,
    MessageStored,
    Recorded,
    SessionClosed,
    SessionMarked,
    SessionOpened,
)
from schemas.lifecycle import Recipient, Status

_KEPT_FRAMES: Final = 40


class Broken(AssertionError):
    """A promise was broken. The text says which, when and to whom."""


@dataclass(slots=True)
class Sent:
    """A message as its sender gave it."""

    recipient: UUID
    sender: UUID
    body: str
    size: int


@dataclass(slots=True)
class View:
    """What a device has to get. `positions` rise; `owed` are those it has not acknowledged."""

    user: UUID
    device: UUID
    registered: bool = False
    positions: list[int] = field(default_factory=list)
    owed: dict[int, UUID] = field(default_factory=dict)
    sessions: list["Session"] = field(default_factory=list)

    def between(self, above: int, below: int | None) -> list[int]:
        """Owed positions above one and below another."""
        found = self.positions[bisect_right(self.positions, above) :]
        return [at for at in found if at in self.owed and (below is None or at < below)]


class Watch:
    """All devices, and all that goes wrong. `window` and `window_bytes` as the gateway's."""

    def __init__(self, cursors: Cursors, window: int, window_bytes: int) -> None:
        self.cursors = cursors
        self.window = window
        self.window_bytes = window_bytes
        self.sent: dict[UUID, Sent] = {}
        self.stored: dict[UUID, int] = {}
        self.delivered: set[UUID] = set()
        self.views: dict[UUID, View] = {}
        self.opened: dict[UUID, int] = {}
        self.ended: dict[UUID, str] = {}
        self.recent: list[str] = []
        self.frames: list[Callable[[str, str], None]] = []

    def say(self, *words: object) -> None:
        """Something worth knowing when this run fails."""
        self.recent.append(f"{asyncio.get_running_loop().time():9.3f}  " + " ".join(str(word) for word in words))

    def broken(self, *words: object) -> None:
        """A promise was broken."""
        raise Broken(" ".join(str(word) for word in words))

    def view(self, user: UUID, device: UUID) -> View:
        """What this device has to get."""
        return self.views.setdefault(device, View(user, device))

    def expect(self, message_id: UUID, recipient: UUID, sender: UUID, body: str, size: int) -> None:
        """A message that may be stored from now on; `size` is that of its sealed body."""
        self.sent[message_id] = Sent(recipient, sender, body, size)

    def see(self, recorded: Recorded) -> None:
        """A fact is in the log."""
        fact, position = recorded.fact, recorded.place.offset
        match fact:
            case MessageStored():
                if fact.message_id not in self.stored:
                    self.stored[fact.message_id] = position
                    for view in self._of(fact.recipient):
                        view.positions.append(position)
                        view.owed[position] = fact.message_id
            case DeviceRegistered():
                view = self.view(fact.recipient, fact.device_id)
                if not view.registered:
                    view.registered = True
                    self._first_mail(view)
            case DeviceRemoved():
                self.views[fact.device_id].owed.clear()
            case MessagesDelivered() | MessagesRead():
                self._acknowledged(fact.device_id, fact.entries)
            case SessionOpened():
                self.opened[fact.session_id] = position
                self.say("opened", position, _short(fact.session_id), fact.gateway)
            case SessionMarked():
                self.say("marked", position, _short(fact.session_id), fact.gateway)
            case SessionClosed():
                self.ended[fact.session_id] = fact.producer
                self.say("closed", position, _short(fact.session_id), fact.reason, fact.producer)
            case _:
                pass

    def _of(self, user: UUID) -> list[View]:
        return [view for view in self.views.values() if view.user == user and view.registered]

    def _first_mail(self, view: View) -> None:
        for message_id, position in self.stored.items():
            if self.sent[message_id].recipient == view.user and message_id not in self.delivered:
                view.positions.append(position)
                view.owed[position] = message_id

    def _acknowledged(self, device: UUID, entries: Iterable[Entry]) -> None:
        view = self.views[device]
        for entry in entries:
            if self.stored.get(entry.message_id) != entry.position or self.sent[entry.message_id].sender != entry.sender:
                self.broken("acknowledgement of what is not there", entry)
            self.delivered.add(entry.message_id)
            view.owed.pop(entry.position, None)
            for session in view.sessions:
                session.unacknowledged.pop(entry.message_id, None)


class Session:
    """One socket as its server wrote to it. Raises `Broken` at the gateway that breaks a promise, and keeps it."""

    def __init__(self, watch: Watch, view: View, gateway: str, number: int) -> None:
        self.watch = watch
        self.view = view
        self.name = f"{gateway}#{number}"
        self.gateway = gateway
        self.id: UUID | None = None
        self.broken: Broken | None = None
        self.closed: tuple[int, str] | None = None
        self.last = -1
        self.sent: dict[UUID, int] = {}
        self.unacknowledged: dict[UUID, int] = {}
        self.caught_up = False
        self.asked: dict[int, list[UUID]] = {}
        self._told = -1
        self._receipts: set[tuple[UUID, str]] = set()
        self._frames: dict[str, Callable[[dict[str, Any]], None]] = {
            "ready": self._ready,
            "message": self._message,
            "caught_up": self._caught_up,
            "acked": self._acked,
            "pong": self._other,
            "receipt": self._receipt,
            "error": self._error,
            "authenticated": self._other,
        }
        view.sessions.append(self)

    def frame(self, raw: bytes, *, alone: bool) -> dict[str, Any]:
        """The gateway sends this; not `alone` while the frame before still waits to be taken."""
        said: dict[str, Any] = msgspec.json.decode(raw)
        try:
            if not alone:
                self._no("sends", said["type"], "without waiting for the frame before")
            if self.closed:
                self._no("sends", said["type"], "on a socket that it has closed with", self.closed)
            if (self.id is None) != (said["type"] == "ready"):
                self._no("sends", said["type"], "in the wrong place")
            if said["type"] not in self._frames:
                self._no("sends", said)
            self._frames[said["type"]](said)
        except Broken as broken:
            self.broken = self.broken or broken
            raise
        for look in self.watch.frames:
            look(self.gateway, said["type"])
        return said

    def end(self, code: int, reason: str) -> None:
        """The gateway closes the socket."""
        self.closed = (code, reason)
        self.watch.say(self.name, "closes", code, reason)

    def _no(self, *words: object) -> None:
        self.watch.broken(self.name, _short(self.id), *words, f"(last position {self.last})")

    def _ready(self, said: dict[str, Any]) -> None:
        self.id = UUID(said["session"])
        self.watch.say(self.name, "ready", _short(self.id))
        if self.id not in self.watch.opened:
            self._no("is ready before the log has its SessionOpened")

    def _message(self, said: dict[str, Any]) -> None:
        message_id, position = UUID(said["id"]), said["position"]
        sent = self.watch.sent[message_id]
        self.watch.say(self.name, "message", position)
        if self.watch.ended.get(self.id or UUID(int=0)) == self.gateway:
            self._no("sends", position, "after its own SessionClosed")
        if sent.recipient != self.view.user or self.watch.stored[message_id] != position:
            self._no("sends", said, "which is another's, or stands elsewhere")
        if (said["body"], said["from_id"]) != (sent.body, str(sent.sender)):
            self._no("changed a message", said)
        if self.watch.cursors.read(self.view.user, self.view.device, said["cursor"]) != position:
            self._no("gives a cursor that does not point at", position)
        if position <= self.last:
            self._no("sends", position, "out of order, or again")
        left_out = [at for at in self.view.between(self.last, position) if self.view.owed[at] not in self.sent]
        if left_out:
            self._no("sends", position, "and leaves out", left_out)
        self.last = position
        self.sent[message_id] = position
        if position in self.view.owed:
            self.unacknowledged[message_id] = sent.size
        self._window()

    def _window(self) -> None:
        waiting = self.unacknowledged
        if len(waiting) > self.watch.window:
            self._no("has", len(waiting), "unacknowledged")
        if len(waiting) > 1 and sum(waiting.values()) > self.watch.window_bytes:
            self._no("has", sum(waiting.values()), "bytes unacknowledged")

    def _caught_up(self, said: dict[str, Any]) -> None:
        self.watch.say(self.name, "caught up")
        if self.caught_up:
            self._no("has caught up twice")
        self.caught_up = True
        assert self.id is not None
        left_out = self.view.between(self.last, self.watch.opened[self.id])
        if left_out:
            self._no("has caught up without", left_out)
        passed = self.watch.cursors.read(self.view.user, self.view.device, said["cursor"])
        skipped = [at for at in self.view.between(self.last, passed + 1)]
        if skipped:
            self._no("says that the cursor has passed", skipped)

    def _acked(self, said: dict[str, Any]) -> None:
        asked = self.asked.pop(said["n"], None)
        if asked is None:
            self._no("acknowledges what was not asked", said)
        assert asked is not None
        had = [UUID(one) for one in (*said["acknowledged"], *said["already"])]
        unknown = {UUID(one) for one in said["unknown"]}
        if sorted([*had, *unknown], key=str) != sorted(set(asked), key=str):
            self._no("answers for other messages", said, "than", asked)
        if any(one in self.watch.sent and self.watch.sent[one].recipient == self.view.user for one in unknown):
            self._no("does not know a message", said)
        for one in had:
            if self.watch.sent[one].recipient != self.view.user:
                self._no("acknowledges another's message", one)
            if self.watch.stored[one] in self.view.owed:
                self._no("acknowledges what the log does not have", one)

    def _error(self, said: dict[str, Any]) -> None:
        """What the session did not send must be asked for, and there may be nobody to ask."""
        asked = self.asked.pop(said.get("n", -1), [])
        if all(one in self.sent for one in asked) or said["problem"]["code"] not in ("log_unavailable", "projection_behind"):
            self._no("refuses", said)

    def _receipt(self, said: dict[str, Any]) -> None:
        message_id, status = UUID(said["message_id"]), said["status"]
        if self.watch.sent[message_id].sender != self.view.user or message_id not in self.watch.delivered:
            self._no("tells what is not so, or not to him", said)
        if int(said["cursor"]) <= self._told or (message_id, status) in self._receipts:
            self._no("tells a receipt again", said)
        self._told = int(said["cursor"])
        self._receipts.add((message_id, status))

    def _other(self, said: dict[str, Any]) -> None:
        pass


def unfinished(states: Iterable[Recipient], unheard: frozenset[str]) -> list[str]:
    """With nobody there any more: what is still in flight, or still open, but for the sessions of `unheard` gateways."""
    left = []
    for state in states:
        open_ones = {one: session for one, session in state.sessions.items() if session.gateway not in unheard}
        left += [f"session {_short(one)} of {session.gateway} is still open" for one, session in open_ones.items()]
        left += [
            f"message {message.position} is in flight in {[_short(one) for one in message.in_flight]}"
            for message in state.messages.values()
            if message.status is Status.DELIVERY_ATTEMPTED
            and not message.in_flight & (state.sessions.keys() - open_ones.keys())
        ]
    return left


def _short(one: UUID | None) -> str:
    return str(one)[-6:]
