"""HTTP connections under uvicorn, bounded in time, size and number: a request that is not whole in time, a head that does
not end, a peer that takes nothing, and one connection too many each end with a problem, or at once.

uvicorn's protocol class parses and answers; here is what it leaves open. No request has a timer: once a second all
connections are looked at (`Doors.look`), so times are exact to a second.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from api import bounds
from api.calls import Headers
from api.problems import Problem
from api.proxies import Proxies
from api.resource import refused
from api.web import EVERYWHERE
from schemas.metrics import HTTP_REQUESTS

_ONE_HOST: Final = "HTTP/1.1 asks for one Host header, no more and no less."


class Doors:
    """How many connections a server lets in: `most`, and half of that from one address that is not a proxy of ours."""

    def __init__(self, most: int = bounds.CONNECTIONS, proxies: Proxies | None = None) -> None:
        self._most = most
        self._proxies = proxies or Proxies()
        self._crowds: frozenset[str] = frozenset()

    def full(self, open_now: int, client: tuple[str, int] | None) -> bool:
        """Whether this one is one too many; `open_now` counts it."""
        return open_now > self._most or (client is not None and client[0] in self._crowds)

    def look(self, connections: Iterable[Any]) -> None:
        """Once a second: end what took too long, and see which addresses hold their share."""
        everybody = list(connections)
        now = asyncio.get_running_loop().time()
        for one in everybody:
            if isinstance(one, HttpConnection):
                one.look(now)
        share = self._most // 2
        if len(everybody) < share:
            self._crowds = frozenset()
            return
        held = Counter(one.client[0] for one in everybody if one.client is not None)
        self._crowds = frozenset(host for host, count in held.items() if count >= share and not self._proxies.trusts(host))


class HttpConnection(HttpToolsProtocol):
    """One peer. `doors` says whether there is room for it."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        doors: Doors,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._doors = doors
        self._since = self.loop.time()
        self._begun = self._headed = self._whole = False
        self._said = self._lines = self._hosts = self._fed = self._body = 0
        self._ends_at: float | None = None
        self._taken_at = self._writing_since = self._since
        self._waited = 0
        self._problem: Problem | None = None

    # What the transport calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._doors.full(len(self.connections), self.client):
            self._refuse(Problem("overloaded", "There are too many open connections. Try again after Retry-After."))

    def data_received(self, data: bytes) -> None:
        if self._ends_at is not None:
            return  # it was refused, and is read on so that its sender can read why
        self._fed += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._unset_keepalive_if_required()
            if self._should_upgrade():
                self.handle_websocket_upgrade()
        except httptools.HttpParserError:
            self._refuse(self._problem or Problem("malformed", "This is no well-formed HTTP request."))
        else:
            if not self._whole:
                self._check_size()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def shutdown(self) -> None:
        if self._ends_at is not None:
            self.transport.abort()
        else:
            super().shutdown()

    # What the parser calls. What is raised here ends the parsing.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self._since = self.loop.time()
        self._begun, self._headed, self._whole = True, False, False
        self._said = self._lines = self._hosts = self._fed = self._body = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > bounds.URL_BYTES:
            self._stop("url_too_long", f"A URL has at most {bounds.URL_BYTES:,} bytes.")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._said += len(name) + len(value) + 4
        self._lines += 1
        if self._lines > bounds.HEADERS or self._said > bounds.HEAD_BYTES:
            self._stop_head()
        if self._headed:
            return  # after a body in chunks: nobody asked for these
        super().on_header(name, value)
        if self.headers[-1][0] == b"host":
            self._hosts += 1

    def on_headers_complete(self) -> None:
        if self._hosts > 1 or (not self._hosts and self.parser.get_http_version() == "1.1"):
            self._stop("malformed", _ONE_HOST)
        if len(self.pipeline) >= bounds.PIPELINED:
            self._stop("rate_limited", f"At most {bounds.PIPELINED} requests may wait for an answer.")
        super().on_headers_complete()
        self._headed = True

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._whole = True
        super().on_message_complete()
        if self.cycle is not None and self.cycle.response_complete and not self.pipeline:
            self._rest()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._whole:
            self._unset_keepalive_if_required()
            self._since = self.loop.time()

    # The looks

    def look(self, now: float) -> None:
        """End the connection where it takes too long."""
        if self._stuck(now) or (self._ends_at is not None and now >= self._ends_at):
            self.transport.abort()
        elif self._whole or self._ends_at is not None:
            return  # what is between two requests ends by uvicorn's timer
        elif not self._headed:
            if now - self._since > bounds.HEAD_SECONDS:
                self._late(f"The head of a request must be here within {bounds.HEAD_SECONDS:g} s.")
        elif self.flow.read_paused:
            self._since = now  # it is we who do not read
        elif self.cycle is not None and self.cycle.response_complete:
            if now - self._since > bounds.LINGER_SECONDS:
                self.transport.abort()
        elif now - self._since > bounds.BODY_SECONDS + self._body / bounds.BODY_RATE:
            self._late(f"A body must be here within {bounds.BODY_SECONDS:g} s, and 1 s for each {bounds.BODY_RATE:,} bytes.")

    def _stuck(self, now: float) -> bool:
        """Whether an answer waits, and the peer has taken nothing for too long, or too little."""
        waiting = self.transport.get_write_buffer_size()
        if not waiting:
            self._waited = 0
            return False
        if not self._waited:
            self._writing_since = self._taken_at = now
        elif waiting < self._waited:
            self._taken_at = now
        self._waited = waiting
        return now - self._taken_at > bounds.STALLED_SECONDS or now - self._writing_since > bounds.TAKE_SECONDS

    def _rest(self) -> None:
        """The request is whole only now, after its answer: from here on uvicorn's timer counts."""
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    # Refusals

    def _check_size(self) -> None:
        """What has come of a request that is not whole: the parser keeps a header that does not end, and framing that is
        no body is read for nothing."""
        if (not self._headed and self._fed > bounds.HEAD_BYTES) or self._fed > 2 * bounds.HEAD_BYTES + 8 * self._body:
            self._refuse(_too_large_a_head())

    def _stop_head(self) -> None:
        self._problem = _too_large_a_head()
        raise self._problem

    def _stop(self, code: Any, detail: str) -> None:
        self._problem = Problem(code, detail)
        raise self._problem

    def _late(self, detail: str) -> None:
        if self._begun:
            self._refuse(Problem("request_timeout", detail))
        else:
            self.transport.close()

    def _refuse(self, problem: Problem) -> None:
        """Answer outside the application, unless an answer is under way, and end the connection."""
        if self.transport.is_closing():
            return
        free = self.cycle is None or self.cycle.response_complete
        if self.cycle is not None and not free:
            free = not (self.cycle.response_started or self.pipeline) and self._headed
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if free:
            self._answer(problem)
        self._unset_keepalive_if_required()
        if free and self.transport.can_write_eof():
            self.transport.write_eof()
            self._ends_at = self.loop.time() + 1.0
        else:
            self.transport.close()

    def _answer(self, problem: Problem) -> None:
        HTTP_REQUESTS.labels(route="unread", method="other", status=str(problem.status)).inc()
        request_id = os.urandom(6).hex()
        said = refused(problem, request_id)
        headers: Headers = (
            *self.server_state.default_headers,
            (b"content-type", said.media_type),
            (b"content-length", b"%d" % len(said.body)),
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
            *said.headers,
            *EVERYWHERE,
        )
        first = f"HTTP/1.1 {said.status} {HTTPStatus(said.status).phrase}".encode()
        lines = [first, *(name + b": " + value for name, value in headers), b"", said.body]
        self.transport.write(b"\r\n".join(lines))


def _too_large_a_head() -> Problem:
    said = f"The head of a request has at most {bounds.HEAD_BYTES:,} bytes and {bounds.HEADERS} headers."
    return Problem("headers_too_large", said)
