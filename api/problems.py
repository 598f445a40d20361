"""Every way in which a call can be refused: one closed table, written as RFC 9457 problem details."""

import math
import random
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

Code = Literal[
    "malformed",
    "bad_cursor",
    "token_missing",
    "token_expired",
    "token_invalid",
    "token_revoked",
    "token_reused",
    "bad_credentials",
    "signup_closed",
    "accounts_elsewhere",
    "not_found",
    "message_unknown",
    "device_unknown",
    "presence_unknown",
    "recipient_unknown",
    "method_not_allowed",
    "name_taken",
    "mailbox_full",
    "sender_share_full",
    "body_too_large",
    "unsupported_media_type",
    "invalid_request",
    "idempotency_conflict",
    "body_unreadable",
    "rate_limited",
    "internal_error",
    "log_unavailable",
    "directory_unavailable",
    "projection_behind",
    "overloaded",
    "subprotocol_missing",
    "upgrade_required",
    "foreign_origin",
    "host_unknown",
    "request_timeout",
    "headers_too_large",
    "url_too_long",
    "ack_timeout",
    "heartbeat_timeout",
    "replaced",
    "too_slow",
    "gateway_restart",
]


@dataclass(frozen=True, slots=True)
class Kind:
    """A row of the table: the HTTP status, and what happened in a few words for people. Some codes are only ever the reason
    for which a socket is closed; their status is the nearest one."""

    status: int
    title: str


PROBLEMS: Final[dict[Code, Kind]] = {
    "malformed": Kind(400, "The request is not well-formed"),
    "bad_cursor": Kind(400, "This cursor was not given to this device"),
    "token_missing": Kind(401, "An access token is needed"),
    "token_expired": Kind(401, "The token has expired"),
    "token_invalid": Kind(401, "The token is not one of this service"),
    "token_revoked": Kind(401, "The token has been revoked"),
    "token_reused": Kind(401, "The refresh token was used before"),
    "bad_credentials": Kind(401, "Name and password do not match"),
    "signup_closed": Kind(403, "Nobody can sign up here"),
    "accounts_elsewhere": Kind(403, "Accounts are kept by another provider"),
    "not_found": Kind(404, "There is nothing here"),
    "message_unknown": Kind(404, "There is no such message for you"),
    "device_unknown": Kind(404, "You have no such device"),
    "presence_unknown": Kind(404, "There is nobody of this name whose presence you may see"),
    "recipient_unknown": Kind(404, "There is no such recipient"),
    "method_not_allowed": Kind(405, "This path does not take that method"),
    "name_taken": Kind(409, "The name is taken"),
    "mailbox_full": Kind(409, "The recipient's mailbox is full"),
    "sender_share_full": Kind(409, "The recipient's mailbox takes no more from this sender"),
    "body_too_large": Kind(413, "The body is too large"),
    "unsupported_media_type": Kind(415, "The body must be JSON"),
    "invalid_request": Kind(422, "The request does not say what it must"),
    "idempotency_conflict": Kind(422, "The idempotency key belongs to another content"),
    "body_unreadable": Kind(500, "The body of this message does not open"),
    "rate_limited": Kind(429, "Too many requests"),
    "internal_error": Kind(500, "The service failed"),
    "log_unavailable": Kind(503, "The log is out of reach"),
    "directory_unavailable": Kind(503, "The accounts are out of reach"),
    "projection_behind": Kind(503, "The mailbox is not up to date yet"),
    "overloaded": Kind(503, "The service is overloaded"),
    "subprotocol_missing": Kind(400, "The stream speaks the subprotocol restante.v1"),
    "upgrade_required": Kind(426, "This is a WebSocket"),
    "foreign_origin": Kind(403, "This web page may not connect here"),
    "host_unknown": Kind(421, "This host is not served here"),
    "request_timeout": Kind(408, "The request did not come in time"),
    "headers_too_large": Kind(431, "The head of the request is too large"),
    "url_too_long": Kind(414, "The URL is too long"),
    "ack_timeout": Kind(408, "The oldest message was not acknowledged in time"),
    "heartbeat_timeout": Kind(408, "Nothing was heard for too long"),
    "replaced": Kind(409, "The same device has opened a newer session"),
    "too_slow": Kind(413, "The client takes nothing; drain the mailbox by HTTP"),
    "gateway_restart": Kind(503, "This process is stopping; connect again"),
}

MEDIA_TYPE: Final = b"application/problem+json"


class Fault(msgspec.Struct, frozen=True):
    """One thing wrong with a request: the field (a path such as `messages[2].to`; `$` is the whole body) and why."""

    field: str
    detail: str


class Problem(Exception):
    """The call is refused, with a code of the table. `outcome` says of a write whether it can have happened; `message_id`
    goes along where that is unknown. `wait` is after how many seconds asking again can help."""

    def __init__(
        self,
        code: Code,
        detail: str,
        *,
        errors: tuple[Fault, ...] = (),
        outcome: Literal["rejected", "unknown"] | None = None,
        message_id: str | None = None,
        allow: str | None = None,
        results: list[Any] | None = None,
        wait: float = 0.0,
    ) -> None:
        super().__init__(code)
        self.code: Code = code
        self.detail = detail
        self.errors = errors
        self.outcome = outcome
        self.message_id = message_id
        self.allow = allow
        self.results = results
        self.wait = wait

    @property
    def status(self) -> int:
        """The HTTP status of this code."""
        return PROBLEMS[self.code].status

    def document(self, request_id: str) -> dict[str, Any]:
        """The problem details as they are sent."""
        kind = PROBLEMS[self.code]
        said: dict[str, Any] = {
            "type": f"urn:restante:problem:{self.code}",
            "title": kind.title,
            "status": kind.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
        }
        extras = {"errors": self.errors, "outcome": self.outcome, "id": self.message_id, "results": self.results}
        said.update((name, value) for name, value in extras.items() if value)
        return said

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that go with it, without the media type. Retry-After has jitter, so that clients come back spread."""
        if self.status == 401:
            return [(b"www-authenticate", _challenge(self.code))]
        if self.status in (429, 503):
            seconds = math.ceil(self.wait) + random.randint(1, 5)  # noqa: S311 (spreads load, guards nothing)
            return [(b"retry-after", b"%d" % seconds)]
        if self.status == 426:
            return [(b"upgrade", b"websocket"), (b"connection", b"upgrade")]
        if self.allow is not None:
            return [(b"allow", self.allow.encode())]
        return []


def _challenge(code: Code) -> bytes:
    """RFC 6750: a request without a token gets the bare scheme, a bad token its reason."""
    if code in ("token_expired", "token_invalid", "token_revoked"):
        return b'Bearer error="invalid_token"'
    return b"Bearer"


def invalid(field: str, detail: str) -> Problem:
    """422 for one field."""
    return Problem("invalid_request", f"{field}: {detail}", errors=(Fault(field, detail),))
