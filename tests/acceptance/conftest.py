"""The service that the acceptance tests share. What breaks it for good starts its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.people import Device, phone_of
from tests.acceptance.service import Service


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """One service for all tests that leave it as it was."""
    running = Service()
    try:
        yield running.start()
    finally:
        running.remove()


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
