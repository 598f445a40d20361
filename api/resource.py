"""What every call has in common: its id, who may make it, problems, the answer on the wire, the count."""

import itertools
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
import structlog
from prometheus_client import Counter
from starlette.types import Receive, Scope, Send

from api.access import Access
from api.calls import PRIVATE, Answer, Call, ClientGone
from api.limits import Limits, address_of
from api.models import NoQuery
from api.ports import Recognition
from api.problems import MEDIA_TYPE, Code, Problem
from api.seen import LastSeen
from api.tokens import DeviceLabel, Principal
from api.web import Web
from schemas.metrics import HTTP_REQUESTS

Handler = Callable[[Call], Awaitable[Answer]]
Rate = Literal["requests", "messages", "sign_ups", "logins"]

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Methods that are counted under their own name."""

_log = structlog.get_logger("restante.api")
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A row of the route table: what a call takes, who may make it, and every answer it gives (one model, or a
    tuple of those that are possible). `parts` are models that an answer refers to by name only,
    `headers` the ones it takes with their meaning, `gives` those of a success. `rate` is what it counts
    as (handlers count messages themselves), None where nobody counts. `frames` are the unions of what client and server
    send where the path is a WebSocket."""

    method: str
    path: str
    handler: Handler
    summary: str
    access: Access
    notes: str = ""
    rate: Rate | None = "requests"
    body: Any = None
    query: type[Any] = NoQuery
    headers: Sequence[tuple[str, str]] = ()
    gives: Sequence[str] = ()
    answers: Mapping[int, Any]
    problems: Sequence[Code] = ()
    parts: Sequence[Any] = ()
    frames: tuple[Any, Any] | None = None


class Edge:
    """What resources of a port share: its rules for the web, the check of tokens and of rates, who was seen, and the source
    of request ids."""

    def __init__(self, tokens: Recognition, limits: Limits, seen: LastSeen, web: Web) -> None:
        self.web = web
        self._tokens = tokens
        self._seen = seen
        self._limits = limits
        prefix = os.urandom(6).hex()
        self._ids = (f"{prefix}-{number:x}" for number in itertools.count(1))

    def request_id(self) -> str:
        """An id that no other request has."""
        return next(self._ids)

    async def admit(self, call: Call, row: Operation) -> None:
        """Let a call in: count it, and set its principal where the row wants one. Raises `Problem`. Messages that come with
        a good token are counted for the account alone, by their handler."""
        if row.rate == "messages":
            try:
                await self.authorise(call)
            except Problem:
                self._limits.request_from(address_of(call.scope))
                raise
            return
        if row.rate is not None:
            self._limits.request_from(address_of(call.scope))
        if row.access.caller == "account":
            await self.authorise(call)
            self._limits.request(call.principal.user.int)
        if row.rate == "sign_ups" or row.rate == "logins":
            self._limits.attempt(row.rate, address_of(call.scope))

    def count(self, scope: Scope) -> None:
        """A call that is none of ours counts for its address alone. Raises `Problem`."""
        self._limits.request_from(address_of(scope))

    async def authorise(self, call: Call) -> None:
        """Set the call's principal from its bearer token. Raises `Problem` with one of the token codes."""
        given = call.header(b"authorization")
        if given is None:
            raise Problem("token_missing", "Send the header Authorization: Bearer <access token>.")
        if given[:7].lower() != b"bearer ":
            raise Problem("token_invalid", "The Authorization header must be: Bearer <access token>.")
        call.principal = await self.recognise(given[7:].strip().decode("latin-1"), call.device)
        call.check = self._tokens.check

    async def recognise(self, token: str, device: DeviceLabel) -> Principal:
        """Who comes with this access token, on the device of this label where tokens do not say. Raises `Problem` with one
        of the token codes."""
        principal = await self._tokens.recognise(token, device)
        self._seen.note(principal.device)
        return principal


class Resource:
    """One path with its methods, as an ASGI application. With no operations it is the path that does not exist."""

    def __init__(self, edge: Edge, route: str, operations: Sequence[Operation]) -> None:
        self._edge = edge
        self._route = route
        self.operations = operations
        self._rows = {row.method: row for row in operations}
        if "GET" in self._rows:
            self._rows["HEAD"] = self._rows["GET"]
        self._allow = ", ".join([*self._rows, "OPTIONS"])
        self._counts: dict[tuple[str, int], Counter] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request_id = self._edge.request_id()
        web = self._edge.web
        if scope["type"] == "websocket":
            nowhere = Problem("not_found", "There is no WebSocket here. See /openapi.json.")
            await refuse_upgrade(scope, send, nowhere, request_id, web)
            return
        method = scope["method"]
        try:
            said = await self._answered(scope, receive, request_id)
        except ClientGone:
            return
        self._count(method, said.status)
        headers = [
            (b"content-type", said.media_type),
            (b"content-length", b"%d" % len(said.body)),
            (b"x-request-id", request_id.encode()),
            *said.headers,
            *web.headers(scope, said),
        ]
        if said.status == 204:
            del headers[:2]
        await send({"type": "http.response.start", "status": said.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else said.body})

    async def _answered(self, scope: Scope, receive: Receive, request_id: str) -> Answer:
        try:
            self._edge.web.admit(scope)
            row = self._rows.get(scope["method"])
            if row is None:
                self._edge.count(scope)
                return self._unknown_method(scope)
            call = Call(scope, receive, request_id)
            await self._edge.admit(call, row)
            if row.query is NoQuery and scope["query_string"]:
                call.query(NoQuery)
            return await row.handler(call)
        except Problem as problem:
            return refused(problem, request_id)
        except ClientGone:
            raise
        except Exception as error:  # whatever it is, the caller gets a problem and the operator a line
            return refused(internal_error(error, self._route, request_id), request_id)

    def _unknown_method(self, scope: Scope) -> Answer:
        if not self._rows:
            raise Problem("not_found", "See /openapi.json for what there is.")
        if scope["method"] == "OPTIONS":
            allow = self._allow.encode()
            return Answer(204, b"", [(b"allow", allow), *self._edge.web.preflight(scope, allow)])
        raise Problem("method_not_allowed", f"This path takes {self._allow}.", allow=self._allow)

    def _count(self, method: str, status: int) -> None:
        count = self._counts.get((method, status))
        if count is None:
            named = method if method in METHODS else "other"
            count = HTTP_REQUESTS.labels(route=self._route, method=named, status=str(status))
            if named != "other":
                self._counts[method, status] = count
        count.inc()


def refused(problem: Problem, request_id: str) -> Answer:
    """A problem as an answer."""
    body = _encode(problem.document(request_id))
    return Answer(problem.status, body, [PRIVATE, *problem.headers()], MEDIA_TYPE)


async def refuse_upgrade(scope: Scope, send: Send, problem: Problem, request_id: str, web: Web) -> None:
    """A problem in answer to a WebSocket's handshake."""
    said = refused(problem, request_id)
    named = [(b"content-type", said.media_type), (b"x-request-id", request_id.encode())]
    headers = [*named, *said.headers, *web.headers(scope, said)]
    await send({"type": "websocket.http.response.start", "status": said.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": said.body})


def internal_error(error: Exception, route: str, request_id: str) -> Problem:
    """What a caller is told of a fault of ours; the operator gets a line."""
    report(error, route, request_id)
    return Problem("internal_error", "The service failed. Tell its operator this request_id.")


def report(error: Exception, route: str, request_id: str) -> None:
    """One line with the kinds of the errors and where they were raised. Their texts stay out: they may quote a body."""
    kinds: list[str] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(kinds) < 5:
        kinds.append(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    frames = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in traceback.extract_tb(sys.exc_info()[2])]
    kind = type(error).__name__
    _log.error("internal_error", route=route, request_id=request_id, error=kind, causes=kinds, at=frames[-8:])
