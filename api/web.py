"""What a server owes to browsers, and keeps from them: which Host a call may name, whose pages may call, and the headers
that go with every answer."""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from starlette.types import Scope

from api.calls import Answer, Headers
from api.problems import Problem
from api.proxies import Proxies

NOTHING: Final = b"default-src 'none'; frame-ancestors 'none'"
"""The policy of an answer that is no page: it loads nothing, and nobody frames it."""

_PLAIN: Final = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
_SECURE: Final = (*_PLAIN, (b"strict-transport-security", b"max-age=31536000"))
_POLICY: Final = (b"content-security-policy", NOTHING)
_ALL_SECURE: Final = (*_SECURE, _POLICY)
EVERYWHERE: Final = (*_PLAIN, _POLICY)
"""The headers of an answer that was given before anything was known of the call."""

_ASKED: Final = (b"access-control-allow-headers", b"authorization, content-type, idempotency-key, restante-device")
_SHOWN: Final = (
    b"access-control-expose-headers",
    b"idempotency-replayed, location, retry-after, www-authenticate, x-request-id",
)
_FOR_LONG: Final = (b"access-control-max-age", b"600")
_VARY: Final = (b"vary", b"origin")
_PORTS: Final = {"http": 80, "https": 443}
_REMEMBERED: Final = 1_000


class Web:
    """The rules of one port. `hosts` are the names that a call may give as its Host (`*.name` for all below it; None: any),
    besides addresses and `localhost`; with `bare` also those without a dot, of which nobody on the web has one. `origins`
    are sites whose pages may call, besides our own; `public_url` is where users find the service, if it is not where it
    listens."""

    def __init__(
        self,
        *,
        hosts: Sequence[str] | None = None,
        bare: bool = False,
        origins: Sequence[str] = (),
        public_url: str | None = None,
        proxies: Proxies | None = None,
    ) -> None:
        self.proxies = proxies or Proxies()
        self._names = None if hosts is None else frozenset((*hosts, "localhost", urlsplit(public_url or "").hostname or ""))
        self._bare = bare
        self._good: set[bytes] = set()
        self._origins = frozenset(origin.encode() for origin in origins)
        self._public_url = public_url

    def admit(self, scope: Scope) -> None:
        """See through the proxies, and check the Host. Raises `Problem` host_unknown."""
        if self.proxies:
            self.proxies.unwrap(scope)
        if self._names is None:
            return
        host = _header(scope, b"host")
        if host not in self._good and host is not None:
            self._check(host)

    def headers(self, scope: Scope, answer: Answer) -> Headers:
        """What goes with an answer to this call."""
        secure = scope.get("scheme") in ("https", "wss")
        always: Headers = _ALL_SECURE if secure else EVERYWHERE
        if answer.media_type[:9] == b"text/html":  # pages bring their own policy
            always = _SECURE if secure else _PLAIN
        return (*always, *self._shared(scope)) if self._origins else always

    def preflight(self, scope: Scope, allow: bytes) -> Headers:
        """What a browser asks before it lets a foreign page call: nothing, unless the page is of a site that may."""
        origin = _header(scope, b"origin")
        if origin in self._origins and _header(scope, b"access-control-request-method") is not None:
            return ((b"access-control-allow-methods", allow), _ASKED, _FOR_LONG)
        return ()

    def welcomes(self, scope: Scope) -> bool:
        """Whether a page of the call's Origin (RFC 6454) may open a socket. Who sends none is no browser."""
        origin = _header(scope, b"origin")
        if origin is None or origin in self._origins:
            return True
        return is_own(origin, _header(scope, b"host") or b"", self._public_url)

    def _shared(self, scope: Scope) -> Headers:
        origin = _header(scope, b"origin")
        if origin is None or origin not in self._origins:
            return (_VARY,)
        return ((b"access-control-allow-origin", origin), _SHOWN, _VARY)

    def _check(self, host: bytes) -> None:
        name = _name(host)
        if name is None or not (self._knows(name) or _is_address(name) or (self._bare and "." not in name)):
            raise Problem("host_unknown", "Nobody of this name is served here. Ask for the name that the service goes by.")
        if len(self._good) < _REMEMBERED:
            self._good.add(host)

    def _knows(self, name: str) -> bool:
        assert self._names is not None
        above = (f"*.{name.split('.', dots)[-1]}" for dots in range(1, name.count(".") + 1))
        return name in self._names or any(wide in self._names for wide in above)


def is_own(origin: bytes, host: bytes, public_url: str | None) -> bool:
    """Whether a page of this origin is ours: it came from the host that is asked, or from the public URL. Of the host the
    scheme is not known, since TLS may end before us."""
    try:
        site = urlsplit(origin.decode("ascii"))
        asked = urlsplit(f"{site.scheme}://{host.decode('ascii')}")
        public = urlsplit(public_url or "")
        return site.scheme in _PORTS and _place(site) in (_place(asked), _place(public))
    except ValueError:
        return False


def _place(url: SplitResult) -> tuple[str, str | None, int | None]:
    return url.scheme, url.hostname, url.port or _PORTS.get(url.scheme)


def _name(host: bytes) -> str | None:
    try:
        url = urlsplit(f"//{host.decode('ascii')}")
        _ = url.port  # raises where it is none
    except ValueError:
        return None
    if url.username is not None or url.path or url.query or url.fragment:
        return None
    return (url.hostname or "").removesuffix(".") or None


def _is_address(name: str) -> bool:
    """No page of another site can make a browser send this: only names can be pointed at us by others."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _header(scope: Scope, name: bytes) -> bytes | None:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None
