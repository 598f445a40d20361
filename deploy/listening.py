"""One device at GET /messages/stream, for as long as it takes: what comes is told on, acknowledged, and asked for again."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from deploy.client import Login, Problem
from deploy.errors import DeployError, Refused

Frame = Mapping[str, Any]

_SUBPROTOCOL = Subprotocol("restante.v1")
_NO_CLOSE_FRAME = 1006
_TOKEN, _REPLACED, _TOO_MANY = 4401, 4409, 4429
_OUR_FAULT = frozenset({1003, 1007, 1009, 4400})
_FIRST_PAUSE, _LONGEST_PAUSE, _PAUSE_OF_TOO_MANY = 1.0, 30.0, 30.0
_ACK_AFTER, _ACK_AT_ONCE = 0.05, 100
"""What was told is acknowledged after so many seconds, or when there is so much of it."""
_RENEW_AGAIN, _CLOSE_SECONDS = 5.0, 2.0


@dataclass(slots=True)
class Listener:
    """Keeps a session open. `tell` gets each `message` and `receipt` frame once, `note` a line for a person.

    A message is acknowledged after `tell` has returned. With `receipts`, those from now on are told, too.
    """

    login: Login
    tell: Callable[[Frame], None]
    note: Callable[[str], None]
    receipts: bool = False
    _was_ready: bool = False
    _failures: int = 0
    _renewed: bool = False
    _number: int = 0
    _receipts_from: str | None = None
    _told: list[str] = field(default_factory=list)
    _unconfirmed: set[str] = field(default_factory=set)
    _ack_at: float = 0.0
    _renew_at: float = 0.0

    async def run(self) -> None:
        """Until it is cancelled. Refused where the service wants us no more, DeployError where it never answered."""
        if self.receipts:
            now = await asyncio.to_thread(self.login.call, "GET", "/receipts?cursor=now&limit=1")
            self._receipts_from = now["cursor"]
        while True:
            try:
                await self._session()
            except ConnectionClosed as closed:
                code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (_NO_CLOSE_FRAME, "")
                pause = await self._after(code, reason)
            except InvalidStatus as refused:
                pause = await self._refused(_problem(refused))
            except Problem as problem:
                pause = await self._refused(problem)
            except (OSError, InvalidHandshake, DeployError) as error:
                if not self._was_ready or isinstance(error, Refused):
                    raise self._unreachable(error) from error
                pause = self._pause(str(error) or "no answer")
            await asyncio.sleep(pause)

    async def _session(self) -> None:
        token = await asyncio.to_thread(self.login.access_token)
        async with connect(
            self._url(),
            subprotocols=[_SUBPROTOCOL],
            additional_headers={"Authorization": f"Bearer {token}"},
            compression=None,
            proxy=None,
            ssl=self.login.service.trust(),
            close_timeout=_CLOSE_SECONDS,
            max_size=None,
        ) as socket:
            self._told.clear()
            self._plan_renewal()
            try:
                while True:
                    await self._step(socket)
            finally:
                await self._acknowledge(socket)

    async def _step(self, socket: ClientConnection) -> None:
        """Take one frame, or do what is due before the next one comes."""
        loop = asyncio.get_running_loop()
        due = min(self._renew_at, self._ack_at) if self._told else self._renew_at
        try:
            async with asyncio.timeout_at(due):
                text = await socket.recv()
        except TimeoutError:
            if self._told:
                await self._acknowledge(socket)
            if loop.time() >= self._renew_at:
                await self._renew(socket)
            return
        self._take(json.loads(text))
        if len(self._told) >= _ACK_AT_ONCE or (self._told and loop.time() >= self._ack_at):
            await self._acknowledge(socket)

    def _take(self, frame: Frame) -> None:
        match frame["type"]:
            case "message":
                self._tell_message(frame)
            case "receipt":
                self.tell(frame)
                self._receipts_from = frame["cursor"]
            case "acked":
                self._unconfirmed.difference_update(frame["acknowledged"], frame["already"], frame["unknown"])
            case "ready":
                self._was_ready, self._failures, self._renewed = True, 0, False
                self.note("connected")
            case "caught_up":
                self.note("nothing more is waiting; what follows is live")
            case "error":
                self.note(f"the service did not accept what we sent: {Problem(0, frame['problem'], None)}")
            case _:
                pass  # frames may be added

    def _tell_message(self, frame: Frame) -> None:
        """What was told in an earlier session, whose acknowledgement nobody confirmed, is acknowledged again in silence."""
        if frame["id"] not in self._unconfirmed:
            self.tell(frame)
        self._unconfirmed.add(frame["id"])
        if not self._told:
            self._ack_at = asyncio.get_running_loop().time() + _ACK_AFTER
        self._told.append(frame["id"])

    async def _acknowledge(self, socket: ClientConnection) -> None:
        if not self._told:
            return
        ids, self._told = self._told, []
        try:
            await self._send(socket, type="ack", n=self._number, ids=ids)
        except ConnectionClosed:
            return  # they come again, and the next `recv` says why
        self._number += 1

    async def _renew(self, socket: ClientConnection) -> None:
        """A new token on the live socket, well before the old one ends."""
        try:
            await asyncio.to_thread(self.login.renew)
        except DeployError as error:
            if isinstance(error, Problem) and not _nobodys_fault(error):
                raise
            self._renew_at = asyncio.get_running_loop().time() + _RENEW_AGAIN
            return
        self._plan_renewal()
        await self._send(socket, type="authenticate", token=self.login.tokens["access_token"])

    def _plan_renewal(self) -> None:
        self._renew_at = asyncio.get_running_loop().time() + max(1.0, self.login.fresh_for * 0.75)

    @staticmethod
    async def _send(socket: ClientConnection, **frame: Any) -> None:
        await socket.send(json.dumps(frame))

    async def _after(self, code: int, reason: str) -> float:
        """Seconds to wait after the service closed the session. Refused where it is not to be opened again."""
        why = reason or f"closed with {code}"
        if code == _REPLACED:
            raise Refused(
                "this device was connected from somewhere else, which ended this session. To listen twice, log in again with"
                " another label: `restante login NAME --device LABEL`"
            )
        if code in _OUR_FAULT:
            raise Refused(f"the service did not understand this client ({why}). Are both of the same version?")
        if code == _TOKEN:
            await self._renew_once(
                Problem(401, {"code": reason or "token_expired", "title": "The token is not valid"}, None)
            )
            return 0.0
        if code == _TOO_MANY:
            return self._pause(why, _PAUSE_OF_TOO_MANY)
        return self._pause(why)

    async def _refused(self, problem: Problem) -> float:
        """The same where it did not open a session at all."""
        if problem.code == "token_expired":
            return await self._renew_once(problem)
        if _nobodys_fault(problem):
            return self._pause(problem.code, problem.retry_after or 0.0)
        raise problem

    async def _renew_once(self, problem: Problem) -> float:
        """New tokens for a session that ended with its old one; seconds to wait. Twice in a row does not help."""
        if self._renewed:
            raise problem
        try:
            await asyncio.to_thread(self.login.renew)
        except DeployError as error:
            if isinstance(error, Problem) and not _nobodys_fault(error):
                raise
            return self._pause(error.code if isinstance(error, Problem) else str(error))
        self._renewed = True
        return 0.0

    def _pause(self, why: str, at_least: float = 0.0) -> float:
        """Longer with each failure in a row, and with jitter: everybody comes back after a restart, but not at once."""
        longest = min(_FIRST_PAUSE * 2.0**self._failures, _LONGEST_PAUSE)
        self._failures += 1
        pause = at_least + random.uniform(0.1, longest)  # noqa: S311 - no secret
        self.note(f"not connected ({why}), again in {pause:.1f} s")
        return pause

    def _url(self) -> str:
        url = "ws" + self.login.service.url.removeprefix("http") + "/messages/stream"
        return url if self._receipts_from is None else f"{url}?receipts_from={quote(self._receipts_from, safe='')}"

    def _unreachable(self, error: Exception) -> Exception:
        if isinstance(error, DeployError):
            return error
        return DeployError(
            f"{self.login.service.url} does not answer ({error or 'in time'}). Is it running? See `restante status`"
        )


def _nobodys_fault(problem: Problem) -> bool:
    """Whether the same question may be answered later."""
    return problem.status == 429 or problem.status >= 500


def _problem(refused: InvalidStatus) -> Problem:
    response = refused.response
    try:
        document = json.loads(response.body or b"")
    except ValueError:
        document = {}
    wait = response.headers.get("Retry-After", "")
    known = document if isinstance(document, dict) else {}
    return Problem(response.status_code, known, float(wait) if wait.replace(".", "", 1).isdigit() else None)
