"""A call as handlers see it, and the answer they give. Thin on purpose: every message pays for what stands here."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope

from api.problems import Fault, Problem
from api.tokens import Principal

T = TypeVar("T")
Headers = Sequence[tuple[bytes, bytes]]

JSON: Final = b"application/json"
PRIVATE: Final = (b"cache-control", b"no-store")

_AT = re.compile(r"^(?P<detail>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_NAMED = re.compile(r"^Object (?:contains unknown|missing required) field `(?P<field>.*)`$", re.DOTALL)
_encode = msgspec.json.Encoder().encode


class ClientGone(Exception):
    """The client hung up before its request was whole. There is nobody to answer."""


class Answer:
    """A status, a body, and headers beyond type, length and request id."""

    __slots__ = ("body", "headers", "media_type", "status")

    def __init__(self, status: int, body: bytes, headers: Headers = (), media_type: bytes = JSON) -> None:
        self.status = status
        self.body = body
        self.headers = headers
        self.media_type = media_type


def answer(value: Any, status: int = 200, headers: Headers = (PRIVATE,)) -> Answer:
    """A JSON answer. Unless other headers are given, nobody may keep it."""
    return Answer(status, _encode(value), headers)


class Call:
    """One HTTP request. `principal` and `check` are set by the resource where the route wants a token; `check` raises
    `Problem` where a principal's token has ended since."""

    __slots__ = ("_principal", "check", "receive", "request_id", "scope")

    check: Callable[[Principal], None]

    def __init__(self, scope: Scope, receive: Receive, request_id: str) -> None:
        self.scope = scope
        self.receive = receive
        self.request_id = request_id
        self._principal: Principal | None = None

    @property
    def principal(self) -> Principal:
        """Who calls. Only for routes that want a token."""
        assert self._principal is not None, "this route is for anyone"
        return self._principal

    @principal.setter
    def principal(self, value: Principal) -> None:
        self._principal = value

    def header(self, name: bytes) -> bytes | None:
        """The first header of this lower-case name."""
        for key, value in self.scope["headers"]:
            if key == name:
                return bytes(value)
        return None

    def device(self) -> str | None:
        """The label of the device that the call says it comes from."""
        given = self.header(b"restante-device")
        try:
            return None if given is None else given.decode()
        except UnicodeDecodeError:
            return ""

    def path(self, name: str) -> str:
        """A parameter of the path."""
        return str(self.scope["path_params"][name])

    async def body(self, decoder: "msgspec.json.Decoder[T]", limit: int) -> T:
        """The JSON body (at most `limit` bytes), validated. Raises `Problem`."""
        return decoded(await self.raw_body(limit), decoder)

    async def raw_body(self, limit: int) -> bytes:
        """The body as sent, which must be announced as JSON, at most `limit` bytes."""
        length = 0
        for key, value in self.scope["headers"]:
            if key == b"content-length" and value.isdigit():
                length = int(value)
            elif key == b"content-type" and value != JSON:
                _check_media_type(value)
        if length > limit:
            raise _too_large(limit)
        message = await self.receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            whole: bytes = message.get("body", b"")
            if len(whole) > limit:
                raise _too_large(limit)
            return whole
        return await self._rest(message, limit)

    async def _rest(self, message: Any, limit: int) -> bytes:
        chunks, size = [], 0
        while True:
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            chunks.append(chunk)
            if not message.get("more_body"):
                return b"".join(chunks)
            message = await self.receive()

    async def hung_up(self) -> None:
        """Return once the client is gone. Only for calls whose body nobody wants to read."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    def query(self, shape: type[T]) -> T:
        """The query parameters, validated. Raises `Problem` invalid_request."""
        text = self.scope["query_string"]
        given = _pairs(text) if text else {}
        try:
            return msgspec.convert(given, shape, strict=False)
        except msgspec.ValidationError as error:
            raise faulty(error) from error


def decoded(raw: bytes | msgspec.Raw, decoder: "msgspec.json.Decoder[T]") -> T:
    """JSON as a validated value: 400 malformed where it is no JSON, 422 invalid_request where it is the wrong one."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        _check_json(raw)
        raise faulty(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed() from error


def faulty(error: msgspec.ValidationError, at: str = "") -> Problem:
    """What a validation error says, as a problem; `at` stands before the field's path."""
    matched = _AT.match(str(error))
    detail, path = (matched["detail"], matched["path"] or "$") if matched else (str(error), "$")
    field = path.removeprefix("$").removeprefix(".")
    named = _NAMED.match(detail)
    if named:
        field = f"{field}.{named['field']}" if field else named["field"]
        detail = "is not known here" if "unknown" in detail else "is missing"
    field = f"{at}.{field}" if at and field else at or field or "$"
    fault = Fault(field[:200], detail[:500])
    return Problem("invalid_request", f"{fault.field}: {fault.detail}", errors=(fault,))


def _check_json(raw: bytes | msgspec.Raw) -> None:
    """The validator stops at the first wrong field; what follows it must be JSON all the same."""
    try:
        msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed() from error


def _pairs(text: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=32)
    except ValueError as error:
        raise Problem("malformed", "The query is not percent-encoded UTF-8, or has too many parameters.") from error
    given = dict(pairs)
    if len(given) < len(pairs):
        twice = next(name for name, _ in pairs if [other for other, _ in pairs].count(name) > 1)
        fault = Fault(twice[:200], "is given twice")
        raise Problem("invalid_request", f"{fault.field}: {fault.detail}", errors=(fault,))
    return given


def _check_media_type(value: bytes) -> None:
    kind, _, parameters = value.partition(b";")
    charset = parameters.strip().lower().replace(b'"', b"")
    if kind.strip().lower() != JSON or charset not in (b"", b"charset=utf-8"):
        raise Problem("unsupported_media_type", "Send the body as application/json in UTF-8.")


def _malformed() -> Problem:
    return Problem("malformed", "The body is not JSON in UTF-8.")


def _too_large(limit: int) -> Problem:
    return Problem("body_too_large", f"This call takes a body of at most {limit:,} bytes.")
