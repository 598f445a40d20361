"""The service that the acceptance tests share. What breaks it for good starts its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.people import Device, phone_of
from tests.acceptance.service import Service


@pytest.fixture(scope="package")
def service() -> Iterator[Service]:
    """One service for all tests that leave it as it was. It ends with the last of them: what idles takes time."""
    running = Service()
    try:
        yield running.start()
    finally:
        running.remove()


@pytest.fixture(scope="package")
def _quick() -> Iterator[list[Service]]:
    kept: list[Service] = []
    yield kept
    for one in kept:
        one.remove()


@pytest.fixture
def quick(_quick: list[Service]) -> Service:
    """A service with short deadlines of sessions. A test may hurt it. If it does not recover, the next gets another."""
    if _quick and not _quick[0].healthy():
        _quick.pop().remove()
    if not _quick:
        _quick.append(Service(RESTANTE_ACK_TIMEOUT="4", RESTANTE_HEARTBEAT="3", RESTANTE_GATEWAY_LEASE="4").start())
    return _quick[0]


@pytest.fixture(scope="module")
def alice(service: Service) -> Device:
    """Somebody who writes; the same for all tests of a module, as nobody writes to her."""
    return phone_of(service, "alice")


@pytest.fixture
def bob(service: Service) -> Device:
    """Somebody who is away, new for each test."""
    return phone_of(service, "bob")


@pytest.fixture(scope="module")
def eve(service: Service) -> Device:
    """A caller with a good token and bad manners."""
    return phone_of(service, "eve")
