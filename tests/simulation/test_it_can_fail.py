"""The simulation sees what it is there to see: with a rule of the hand-over switched off, it fails within a few seeds."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest

from api.deadline import Deadline
from api.net import Net
from api.session import Session
from processors.presence import Here, hints
from schemas.presence import PresenceRow
from schemas.push import Push, PushedMessage
from tests.simulation.play import Failed, play
from tests.simulation.scenarios import SCENARIOS

SEEDS = 30


def fails_within(name: str, what: str) -> None:
    """One of the first seeds fails for this reason."""
    for seed in range(SEEDS):
        try:
            play(SCENARIOS[name], seed)
        except Failed as failed:
            if what in str(failed):
                return
    pytest.fail(f"{SEEDS} seeds of {name} saw nothing")


def test_without_the_predecessor_check_there_are_holes() -> None:
    live = Session._live

    def unchecked(self: Session, push: Push, message: PushedMessage, name: str | None) -> None:
        live(self, replace(push, predecessor=-1), message, name)

    with patch.object(Session, "_live", unchecked):
        fails_within("shaky_log", "leaves out")


def test_without_the_rule_that_only_read_markers_count_there_are_holes() -> None:
    def trusted(rows: Iterable[PresenceRow]) -> dict[UUID, Here]:
        return {
            user: {device: replace(seat, live=True) for device, seat in here.items()} for user, here in hints(rows).items()
        }

    with patch("processors.desk.hints", trusted):
        fails_within("late_row", "leaves out")


def test_without_the_net_sessions_are_forgotten() -> None:
    async def never(self: Any) -> None:
        await asyncio.Event().wait()

    with patch.object(Net, "run", never):
        fails_within("table_emptied", "is still owed")


def test_without_a_deadline_silent_clients_stay() -> None:
    ask = Deadline.ask

    async def lenient(self: Deadline) -> bool:
        return await ask(self) and False

    with patch.object(Deadline, "ask", lenient):
        fails_within("clients", "never acknowledges")


def test_without_leases_the_sessions_of_dead_gateways_stay() -> None:
    with patch("processors.leases.Leases.lost", lambda self, mentioned, now, ends, read: set()):
        fails_within("edges_die", "with nobody there")


def test_the_same_seed_is_the_same_course() -> None:
    first, second = (play(SCENARIOS["everything"], 7) for _ in range(2))
    assert first.watch.recent == second.watch.recent
