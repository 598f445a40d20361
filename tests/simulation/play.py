"""One run: a stormy part with the scenario's faults, calm in which all must come right, and an end with nobody there."""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final
from unittest.mock import patch

from structlog.testing import capture_logs

from tests.simulation.loop import VirtualLoop, run
from tests.simulation.watch import Broken, unfinished
from tests.simulation.world import Shape, World

CALM_SECONDS: Final = 60.0
END_SECONDS: Final = 90.0
FEW: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What happens. `shape` is drawn for each run; `storm` is the scenario's faults, over when it returns; meanwhile a few
    messages are sent about each `gap` seconds, `messages` times. `codes` are the close codes that a client who behaves may
    see (None: any), `weight` is its share of the runs. `punctual`: nothing but clients goes wrong, so that who never
    acknowledges is closed in time."""

    name: str
    storm: Callable[[World], Awaitable[None]]
    shape: Callable[[Random], Shape]
    messages: int = 12
    gap: float = 0.1
    codes: frozenset[int] | None = frozenset({1000, 1006, 4409})
    weight: float = 1.0
    punctual: bool = False


class Failed(AssertionError):
    """A run went wrong: what, and what was going on before."""


def play(scenario: Scenario, seed: int) -> World:
    """One run. Raises `Failed`."""
    world = World(seed, scenario.shape(Random(seed)))
    random.seed(seed)
    try:
        with capture_logs() as logs, patch("api.ids.uuid7", lambda: uuid.UUID(int=random.getrandbits(128), version=4)):
            run(_play(scenario, world))
            _no_errors(logs)
    except Exception as error:
        last = "\n".join(world.watch.recent[-60:])
        raise Failed(f"{scenario.name}, seed {seed}: {type(error).__name__}: {error}\n{last}") from error
    return world


def _no_errors(logs: Sequence[Mapping[str, object]]) -> None:
    """What is logged as an error was not foreseen."""
    for entry in logs:
        if entry["log_level"] == "error":
            raise Broken(f"logged {entry}")


async def _play(scenario: Scenario, world: World) -> None:
    try:
        await world.begin()
        await _storm(scenario, world)
        await _calm(scenario, world)
        await _nobody(world)
    finally:
        await world.end()
        _raise_broken(world)


async def _storm(scenario: Scenario, world: World) -> None:
    world.punctual = scenario.punctual
    for device in world.devices:
        world.background(device.live())
    sending = world.background(_send(world, scenario.messages, scenario.gap))
    await scenario.storm(world)
    await sending
    _raise_broken(world)


async def _send(world: World, count: int, gap: float) -> None:
    for _ in range(count):
        await asyncio.sleep(world.chance.delay(gap))
        user = world.chance.choice(world.users)
        for _ in range(world.chance.choice((1, 1, 1, 2, 6))):
            world.background(world.send(user))


async def _calm(scenario: Scenario, world: World) -> None:
    """No faults from now on; clients that are there stay and behave. Everything arrives, also what comes now."""
    world.watch.say("calm")
    world.calm = True
    world.log.faults.rejected = world.log.faults.unknown = world.group.lost_rows = 0.0
    storm = {id(device): len(device.codes) for device in world.devices}
    for device in world.devices:
        device.away = False
        for connection in device.connections:
            world.check_deadline(connection, connection.plan)
            connection.calm_down()
    await _until(world, CALM_SECONDS, lambda: _owed(world), "is still owed")
    for user in world.users:
        for _ in range(FEW):
            await world.send(user)
    await _until(world, CALM_SECONDS, lambda: _owed(world), "is still owed, of the last ones")
    await _until(world, 15.0, lambda: _unanswered(world), "was not answered")
    for device in world.devices:
        for plan, code in device.codes[: storm[id(device)]]:
            if plan.behaves and scenario.codes is not None and code not in scenario.codes:
                raise Broken(f"a client that did {plan} was closed with {code}")


async def _nobody(world: World) -> None:
    """All clients vanish with mail on its way; no session stays open and nothing stays in flight."""
    world.watch.say("nobody")
    for device in world.devices:
        device.away = True
        for connection in device.connections:
            if world.chance.happens(0.5):
                connection.link.deaf = True
            else:
                connection.link.hang_up(world.chance.choice((1000, 1006)))
    for user in world.users:
        await world.send(user)
    if world.chance.happens(0.25):
        world.chance.choice(world.edges).kill()
    await _until(world, END_SECONDS, lambda: _in_flight(world), "with nobody there")


def _owed(world: World) -> list[str]:
    left = [f"{view.device.int & 0xFF}: {list(view.owed)[:5]}" for view in world.watch.views.values() if view.owed]
    return left or ["is not connected" for device in world.devices if not device.connected]


def _in_flight(world: World) -> list[str]:
    """Where a row of the table got lost and the gateway died as well, nobody remembers its sessions."""
    dead = frozenset(edge.process.name for edge in world.edges if edge.process.stopped)
    if not world.projection.complete:
        return ["facts are not folded"]
    return unfinished(world.projection.states(), dead if world.group.lost_some else frozenset())


def _unanswered(world: World) -> list[object]:
    return [
        connection.left
        for device in world.devices
        for connection in device.connections
        if connection.good and connection.left
    ]


async def _until(world: World, seconds: float, left: Callable[[], list[object] | list[str]], what: str) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while wrong := left():
        _raise_broken(world)
        if loop.time() > deadline:
            raise Broken(f"after {seconds:g} s {what}: {wrong[:5]}")
        await asyncio.sleep(0.25)


def _raise_broken(world: World) -> None:
    assert isinstance(asyncio.get_running_loop(), VirtualLoop)
    for session in world.sessions():
        if session.broken:
            raise session.broken
    world.check_tasks()
