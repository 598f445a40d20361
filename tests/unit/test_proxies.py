"""Whose word on a caller's address is believed, and how far."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from api.limits import address_of
from api.proxies import Proxies

OURS = Proxies([ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48")])


def seen(
    peer: str, *said: str, proto: str | None = None, kind: str = "http", proxies: Proxies = OURS
) -> tuple[str, str, dict[str, Any]]:
    headers = [(b"x-forwarded-for", line.encode("latin-1")) for line in said]
    if proto is not None:
        headers.append((b"x-forwarded-proto", proto.encode()))
    scope: dict[str, Any] = {"type": kind, "client": (peer, 4711), "scheme": "http", "headers": headers}
    proxies.unwrap(scope)
    return scope["client"][0], scope["scheme"], scope


@pytest.mark.parametrize(
    ("peer", "said", "caller"),
    [
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9", "10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9:5123"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::7]:5123"], "2001:db8::7"),
        ("10.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ("10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("2001:db8:1::5", ["203.0.113.9"], "203.0.113.9"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    ],
    ids=lambda value: str(value),
)
def test_a_proxy_says_who_calls(peer: str, said: list[str], caller: str) -> None:
    assert seen(peer, *said)[0] == caller


@pytest.mark.parametrize(
    ("said", "caller"),
    [
        (["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        (["10.0.0.9, 203.0.113.9"], "203.0.113.9"),
        (["1.1.1.1", "203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        (["1.1.1.1, unknown"], "10.0.0.1"),
        (["1.1.1.1, "], "10.0.0.1"),
        (["1.1.1.1, " + "9" * 500], "10.0.0.1"),
        (["1.1.1.1, \xff, 10.0.0.2"], "10.0.0.2"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_the_caller_made_up_before_it_is_not_believed(said: list[str], caller: str) -> None:
    assert seen("10.0.0.1", *said)[0] == caller


@pytest.mark.parametrize("proxies", [OURS, Proxies()], ids=["some", "none"])
def test_nobody_else_is_believed(proxies: Proxies) -> None:
    for peer in ("203.0.113.9", "127.0.0.1", "::1"):
        assert seen(peer, "198.51.100.1", proto="https", proxies=proxies)[:2] == (peer, "http")


@pytest.mark.parametrize(
    ("proto", "kind", "scheme"),
    [
        ("https", "http", "https"),
        ("https", "websocket", "wss"),
        ("http", "websocket", "ws"),
        ("http, https", "http", "https"),
        ("HTTPS", "http", "https"),
        ("gopher", "http", "http"),
        ("", "http", "http"),
    ],
)
def test_the_scheme_is_the_nearest_proxys(proto: str, kind: str, scheme: str) -> None:
    assert seen("10.0.0.1", "203.0.113.9", proto=proto, kind=kind)[1] == scheme


def test_limits_count_the_caller() -> None:
    assert address_of(seen("10.0.0.1", "2001:db8:2:3:4::5")[2]) == "2001:db8:2:3::/64"
