"""Many clients that post at once while the service is hurt, and what each was told."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType

import httpx2

from tests.acceptance.people import Device, Message
from tests.eventually import eventually, soon

_PATIENCE = 90.0


@dataclass(frozen=True, slots=True)
class Letter:
    """What a client sends; no two have the same body."""

    client: int
    sender: Device
    recipient: Device
    body: str
    key: str | None


@dataclass(slots=True)
class Load:
    """`clients` clients, each with one message in flight, that post while the `with` block runs, `each` at most.

    Every second client gives its messages keys and repeats each until it is answered 202; the others go on with the next
    message. After a failure a client waits until the service answers again, or ends where it is told to `give_up`. With a
    `pace` a client rests so many seconds after each message.
    By body: `accepted` (with the message's id), `unknown`, and `refused`, which is certainly not in the log.
    """

    senders: Sequence[Device]
    recipients: Sequence[Device]
    clients: int = 8
    each: int = 400
    give_up: bool = False
    pace: float = 0.0
    accepted: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, Letter] = field(default_factory=dict)
    refused: dict[str, Letter] = field(default_factory=dict)
    accepted_for: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Ids by the recipient's name."""
    _order: dict[tuple[int, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    _thread: threading.Thread = field(init=False)
    _over: bool = False
    _failure: BaseException | None = None

    def __enter__(self) -> Load:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over = True
        self._thread.join(_PATIENCE)
        if self._failure is not None:
            raise self._failure
        if kind is None:
            assert not self._thread.is_alive(), "the clients did not come to an end"

    def stop(self) -> None:
        """End it before the block ends: what is in flight is still answered."""
        self._over = True
        self._thread.join(_PATIENCE)
        assert not self._thread.is_alive(), "the clients did not come to an end"

    def goes_on(self, count: int = 60) -> None:
        """Wait until so many more messages were accepted."""
        wanted = len(self.accepted) + count
        soon(lambda: self._failure or len(self.accepted) >= wanted, _PATIENCE, f"{wanted} messages accepted")

    def settle(self) -> None:
        """Send once more what has a key and whose outcome is unknown: that settles it, through whatever process."""
        for letter in [letter for letter in self.unknown.values() if letter.key]:
            self._accept(letter, letter.sender.send(letter.recipient, letter.body, key=letter.key))

    def assert_handed_over_once(self, came: Sequence[Message]) -> None:
        """What was answered 202 came once, what was refused did not come, the rest at most once; each client's in order."""
        times = Counter(message["body"] for message in came)
        assert {body: times[body] for body in self.accepted if times[body] != 1} == {}
        assert {body: times[body] for body in self.refused if times[body]} == {}
        assert {body: times[body] for body in self.unknown if times[body] > 1} == {}
        assert times.keys() <= self.accepted.keys() | self.unknown.keys(), "something came that nobody sent"
        assert all(self.accepted.get(message["body"], message["id"]) == message["id"] for message in came)
        arrival = {message["body"]: place for place, message in enumerate(came)}
        for bodies in self._order.values():
            places = [arrival[body] for body in bodies]
            assert places == sorted(places), "messages of one client to one recipient changed their order"

    def _run(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseException as error:
            self._failure = error

    async def _all(self) -> None:
        limits = httpx2.Limits(max_connections=self.clients, max_keepalive_connections=self.clients)
        async with (
            httpx2.AsyncClient(base_url=self.senders[0].service.url, timeout=20, limits=limits, trust_env=False) as http,
            asyncio.TaskGroup() as group,
        ):
            for number in range(self.clients):
                group.create_task(self._client(http, number))

    async def _client(self, http: httpx2.AsyncClient, number: int) -> None:
        sender = self.senders[number % len(self.senders)]
        for step in range(self.each):
            if self._over:
                return
            recipient = self.recipients[(number + step) % len(self.recipients)]
            body = f"client {number} of {sender.name} says {step}"
            letter = Letter(number, sender, recipient, body, f"key {body}" if number % 2 else None)
            if not await self._sent(http, letter) and self.give_up:
                return
            if self.pace:
                await asyncio.sleep(self.pace)

    async def _sent(self, http: httpx2.AsyncClient, letter: Letter) -> bool:
        """Post it, again and again where it has a key; whether it was accepted in the end."""
        while not await self._post(http, letter):
            if self.give_up:
                return False
            await eventually(partial(_answers, http), _PATIENCE, "the service answers again")
            if letter.key is None:
                return False
        self._order[letter.client, letter.recipient.name].append(letter.body)
        return True

    async def _post(self, http: httpx2.AsyncClient, letter: Letter) -> bool:
        """Post it once and note what was said; whether it was accepted."""
        headers = {"Authorization": f"Bearer {letter.sender.token}"} | (
            {"Idempotency-Key": letter.key} if letter.key else {}
        )
        try:
            answer = await http.post("/messages", json={"to": letter.recipient.name, "body": letter.body}, headers=headers)
        except httpx2.ConnectError:
            return self._fail(letter, certain=True)
        except httpx2.TransportError:
            return self._fail(letter, certain=False)
        if answer.status_code == 202:
            return self._accept(letter, answer.json()["id"])
        assert answer.status_code == 503, (answer.status_code, answer.text)
        return self._fail(letter, certain=answer.json().get("outcome") == "rejected")

    def _accept(self, letter: Letter, message_id: str) -> bool:
        self.accepted[letter.body] = message_id
        self.accepted_for[letter.recipient.name].add(message_id)
        self.unknown.pop(letter.body, None)
        self.refused.pop(letter.body, None)
        return True

    def _fail(self, letter: Letter, *, certain: bool) -> bool:
        if certain and letter.body not in self.unknown:
            self.refused[letter.body] = letter
        else:
            self.refused.pop(letter.body, None)
            self.unknown[letter.body] = letter
        return False


async def _answers(http: httpx2.AsyncClient) -> bool:
    with contextlib.suppress(httpx2.TransportError):
        return (await http.get("/health/ready")).status_code == 200
    return False
