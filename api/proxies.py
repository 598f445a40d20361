"""Who calls, where proxies stand in front. X-Forwarded-For and X-Forwarded-Proto are believed of the proxies that the
operator named, and of nobody else."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from starlette.types import Scope

Network = IPv4Network | IPv6Network

_LONGEST: Final = 64
"""Characters that an address with its port and zone has at most."""


class Proxies:
    """The proxies between callers and us. With none, nothing that a caller says about his address is looked at."""

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._networks = tuple(networks)
        self._trusted = lru_cache(4096)(self._is_in)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def trusts(self, host: str) -> bool:
        """Whether this is the address of one of them."""
        return bool(self._networks) and self._trusted(host)

    def unwrap(self, scope: Scope) -> None:
        """Put the caller's address and scheme in the place of the proxy's, where a proxy of ours speaks."""
        client = scope.get("client")
        if not client or not self.trusts(client[0]):
            return
        chain: list[bytes] = []
        scheme = b""
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                chain += value.split(b",")
            elif name == b"x-forwarded-proto":
                scheme = value.rpartition(b",")[2].strip().lower()
        scope["client"] = (self._caller(client[0], chain), 0)
        if scheme in (b"http", b"https"):
            secure = scheme == b"https"
            scope["scheme"] = ("wss" if secure else "ws") if scope["type"] == "websocket" else scheme.decode()

    def _caller(self, peer: str, chain: Sequence[bytes]) -> str:
        """From our end on: the first address that is not a proxy's. What stands before it the caller may have made up, so
        nothing goes further than the first word that is no address."""
        nearest = peer
        for said in reversed(chain):
            address = _address(said)
            if address is None:
                break
            nearest = str(address)
            if not self.trusts(nearest):
                break
        return nearest

    def _is_in(self, host: str) -> bool:
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)


def _address(said: bytes) -> IPv4Address | IPv6Address | None:
    """`10.0.0.1`, `10.0.0.1:4711`, `2001:db8::1` or `[2001:db8::1]:4711`."""
    text = said.strip().decode("latin-1")
    if len(text) > _LONGEST:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
