"""What can happen to a service in a bad minute. Each scenario is a shape of the world and a storm that passes over it."""

import asyncio
from random import Random
from typing import Final

from schemas.codec import Record
from schemas.events import DeliveryAttempted, MessagesDelivered, MessagesRead, SessionMarked, SessionOpened
from schemas.push import Push
from tests.simulation.play import Scenario
from tests.simulation.processor import Worker
from tests.simulation.world import Edge, Shape, World, options

BACKLOGS: Final = (0, 1, 99, 100, 101, 1000)
BROKER_SECONDS: Final = 60.0
DATABASE_SECONDS: Final = 20.0
PAUSE_SECONDS: Final = 30.0
BROKEN: Final = frozenset({1000, 1006, 1011, 1012, 4409})
ORDERLY: Final = frozenset({1000, 1006, 1012, 4409})


def small(random: Random) -> Shape:
    """A user or two, few devices, clients of every kind."""
    return Shape(
        partitions=random.choice((1, 2)),
        users=random.choice((1, 1, 2)),
        devices=random.choice((1, 1, 2, 3)),
        gateways=random.choice((1, 2)),
        backlog=random.choice((0, 0, 2, 8)),
        wildness=random.choice((0.0, 0.3, 0.6)),
        twice=random.choice((0.0, 0.0, 0.02, 0.1)),
        options=options(window=random.choice((1, 5, 40)), window_bytes=random.choice((1600, 4096, 1 << 20))),
    )


def steady(random: Random) -> Shape:
    """As `small`, with clients that have no fault but a second device or session."""
    return Shape(
        partitions=random.choice((1, 2)),
        users=random.choice((1, 2)),
        devices=random.choice((1, 2)),
        gateways=random.choice((1, 2)),
        backlog=random.choice((0, 5)),
        wildness=0.0,
        twice=random.choice((0.0, 0.1)),
        options=options(window=random.choice((2, 10, 256))),
    )


def single(random: Random) -> Shape:
    """One device that connects once."""
    return Shape(partitions=1, gateways=1, backlog=random.choice((0, 2)), wildness=0.0, twice=0.0)


def with_backlog(random: Random) -> Shape:
    """A mailbox to drain, as wide a window as the real one."""
    backlog = random.choice(BACKLOGS) if random.random() < 0.2 else random.choice(BACKLOGS[:2])
    return Shape(users=1, backlog=backlog, wildness=0.0, options=options(window=256, window_bytes=1 << 20))


async def nothing(world: World) -> None:
    """A few quiet seconds."""
    await asyncio.sleep(4)


async def clients(world: World) -> None:
    """Only the clients go wrong: they vanish, stall, read slowly, never acknowledge, come twice."""
    await asyncio.sleep(12)


async def slow_reads(world: World) -> None:
    """Projection and pushes are late by as much as seconds, each for itself."""
    for _ in range(6):
        world.projection.slowness = world.chance.choice((0.001, 0.01, 0.2, 1.0))
        for worker in world.workers:
            worker.slowness = world.chance.choice((0.001, 0.01, 0.2, 0.6))
        await asyncio.sleep(2 * world.chance.random())
    world.projection.slowness = 0.01
    for worker in world.workers:
        worker.slowness = 0.003


async def broker_away(world: World) -> None:
    """No broker for a minute, or for several shorter times."""
    await asyncio.sleep(2 * world.chance.random())
    if world.chance.happens(0.5):
        world.log.outage.begin(BROKER_SECONDS)
        await asyncio.sleep(BROKER_SECONDS)
    else:
        for _ in range(3):
            world.log.outage.begin(min(90.0, world.chance.delay(6.0)))
            await asyncio.sleep(4 * world.chance.random())
        await world.log.outage.over()
    await asyncio.sleep(2)


async def shaky_log(world: World) -> None:
    """Appends are refused, or get no answer: landed, late, or lost."""
    world.log.faults.rejected = world.chance.choice((0.0, 0.05, 0.2))
    world.log.faults.unknown = world.chance.choice((0.0, 0.02, 0.1))
    await asyncio.sleep(15)
    world.log.faults.rejected = world.log.faults.unknown = 0.0
    await asyncio.sleep(6)


async def database_away(world: World) -> None:
    """No PostgreSQL for 20 s."""
    await asyncio.sleep(2 * world.chance.random())
    world.projection.outage.begin(DATABASE_SECONDS * world.chance.choice((0.1, 1.0)))
    await world.projection.outage.over()
    await asyncio.sleep(2)


async def projector_dies(world: World) -> None:
    """The projector stands still, and goes on, three times."""
    for _ in range(3):
        await asyncio.sleep(world.chance.random())
        world.projection.halt.begin(3 * world.chance.random())
        await world.projection.halt.over()


async def workers_die(world: World) -> None:
    """kill -9 of the processor again and again, at any moment or at a chosen one, with table writes lost."""
    world.group.lost_rows = world.chance.choice((0.0, 0.3, 1.0))
    for _ in range(world.chance.randint(1, 5)):
        await _moment(world, DeliveryAttempted, Push)
        for worker in world.workers:
            worker.process.stop()
        await asyncio.sleep(world.chance.choice((0.0, 0.2, 2.0)))
        world.start_worker()


async def rebalance(world: World) -> None:
    """A second worker comes and takes partitions over, and goes; the first one learns of it a moment later."""
    for _ in range(world.chance.randint(1, 4)):
        await asyncio.sleep(2 * world.chance.random())
        before = [worker for worker in world.workers if not worker.process.stopped]
        world.start_worker()
        await asyncio.sleep(world.chance.delay(0.5))
        for worker in before:
            worker.revoke(range(world.shape.partitions))
            await asyncio.sleep(world.chance.delay(0.2))
            worker.process.stop()


async def zombies(world: World) -> None:
    """Processors stand still for up to half a minute, are replaced, wake up and go on for a while as if nothing was; several
    generations of them, some with table writes lost."""
    world.group.lost_rows = world.chance.choice((0.0, 0.3, 0.6))
    asleep: list[Worker] = []
    for _ in range(world.chance.randint(2, 8)):
        if asleep and world.chance.happens(0.5):
            awake = world.chance.choice(asleep)
            awake.process.go_on()
            await asyncio.sleep(world.chance.delay(0.5))
            awake.process.stop()
            continue
        await _moment(world, DeliveryAttempted, Push, SessionOpened)
        owner = world.workers[-1]
        owner.process.stop()
        asleep.append(owner)
        await asyncio.sleep(world.chance.choice((0.0, 0.1, 1.0)))
        world.start_worker()
    if world.chance.happens(0.3):
        await asyncio.sleep(PAUSE_SECONDS)
        for worker in asleep:
            worker.process.go_on()
            await asyncio.sleep(world.chance.delay(0.5))
            worker.process.stop()


async def crowd(world: World) -> None:
    """Processor after processor takes over, while those before it go on beside it, fast and slow; table writes get lost."""
    world.group.lost_rows = world.chance.choice((0.3, 0.6))
    for _ in range(world.chance.randint(4, 10)):
        world.start_worker().slowness = world.chance.choice((0.003, 0.05, 0.3))
        await asyncio.sleep(world.chance.delay(0.4))
        alive = [worker for worker in world.workers if not worker.process.stopped]
        if len(alive) > 4:
            world.chance.choice(alive[:-1]).process.stop()
    for worker in world.workers[:-1]:
        worker.process.stop()
    world.workers[-1].slowness = 0.003


async def late_row(world: World) -> None:
    """A session's row gets lost, another processor decides without it, then a zombie brings the row back: the next processor
    has a hint of a session that has missed a message. For this there is the rule that only a marker counts that was read."""
    zombie = world.workers[0]
    zombie.process.stop()
    world.group.lost_rows = 1.0
    world.start_worker()
    await asyncio.sleep(1 + world.chance.random())
    world.workers[-1].process.stop()
    world.start_worker()
    await asyncio.sleep(0.2)
    await world.send(world.users[0])
    await asyncio.sleep(0.5)
    world.group.lost_rows = 0.0
    zombie.process.go_on()
    for _ in range(200):
        await asyncio.sleep(0.001)
        if world.group.rows:
            break
    zombie.process.stop()
    world.workers[-1].process.stop()
    world.start_worker()
    await asyncio.sleep(world.chance.random())
    await world.send(world.users[0])
    await asyncio.sleep(0.5)


async def table_emptied(world: World) -> None:
    """The table's changelog is gone, and the processor starts anew."""
    for _ in range(2):
        await asyncio.sleep(2 * world.chance.random())
        world.workers[-1].process.stop()
        world.group.rows.clear()
        world.start_worker()


async def edges_die(world: World) -> None:
    """kill -9 of gateways at any moment or at a chosen one; new ones start at once or later."""
    for _ in range(world.chance.randint(1, 4)):
        await _moment(world, SessionOpened, SessionMarked, Push, MessagesDelivered, MessagesRead)
        world.chance.choice([edge for edge in world.edges if edge.open] or world.edges).kill()
        await asyncio.sleep(world.chance.choice((0.0, 1.0)))
        world.start_edge()


async def edges_die_sending(world: World) -> None:
    """kill -9 of a gateway during a drain, between drain and `caught_up`, or after a frame was written."""
    for _ in range(world.chance.randint(1, 4)):
        killed = await _frame(world, world.chance.choice(("ready", "message", "message", "caught_up", "acked")))
        killed.kill()
        world.start_edge()


async def edges_paused(world: World) -> None:
    """A gateway stands still for so long that its sessions are given up, and goes on."""
    await asyncio.sleep(2 * world.chance.random())
    asleep = world.chance.choice(world.edges)
    asleep.process.stop()
    await asyncio.sleep(world.chance.choice((1.0, 10.0, PAUSE_SECONDS)))
    asleep.process.go_on()
    await asyncio.sleep(3)


async def rolling_restart(world: World) -> None:
    """Every process stops in order and is followed by a new one."""
    for edge in list(world.edges):
        await asyncio.sleep(world.chance.random())
        world.start_edge()
        await edge.leave()
    for worker in list(world.workers):
        await asyncio.sleep(world.chance.random())
        worker.process.stop()
        world.start_worker()
    world.projection.halt.begin(world.chance.random())
    await asyncio.sleep(1)


async def new_devices(world: World) -> None:
    """Devices come in the middle of everything."""
    for _ in range(2):
        await asyncio.sleep(2 * world.chance.random())
        await world.new_device(world.chance.choice(world.users))
    await asyncio.sleep(2)


async def everything(world: World) -> None:
    """Two storms at once."""
    storms = (clients, slow_reads, broker_away, shaky_log, database_away, workers_die, rebalance, zombies, edges_die)
    await asyncio.gather(*(storm(world) for storm in world.chance.sample(storms, 2)))


async def _moment(world: World, *kinds: type[Record]) -> None:
    """Some time, or right after a record of such a kind has landed."""
    if world.chance.happens(0.3):
        await asyncio.sleep(2 * world.chance.random())
        return
    kind, left = world.chance.choice(kinds), world.chance.randint(1, 6)
    came = asyncio.Event()

    def look(record: Record) -> None:
        nonlocal left
        if isinstance(record, kind):
            left -= 1
            if left <= 0:
                came.set()

    world.log.landing.append(look)
    await _wait(came)
    world.log.landing.remove(look)
    await asyncio.sleep(world.chance.choice((0.0, 0.0, 0.002, 0.02)))


async def _frame(world: World, kind: str) -> Edge:
    """Right after a frame of this kind was written; which gateway did it."""
    left, came, found = world.chance.randint(1, 8), asyncio.Event(), ""

    def look(gateway: str, said: str) -> None:
        nonlocal left, found
        left -= said == kind
        if left <= 0 and not came.is_set():
            found = gateway
            came.set()

    world.watch.frames.append(look)
    await _wait(came)
    world.watch.frames.remove(look)
    there = [edge for edge in world.edges if edge.process.name == found or (not found and edge.open)]
    return there[0] if there else world.edges[-1]


async def _wait(came: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(3.0):
            await came.wait()
    except TimeoutError:
        return


def _all() -> list[Scenario]:
    return [
        Scenario(name="connect", storm=nothing, shape=with_backlog, messages=12, weight=1.5),
        Scenario(name="clients", storm=clients, shape=small, weight=2, punctual=True),
        Scenario(name="slow_reads", storm=slow_reads, shape=small),
        Scenario(name="broker_away", storm=broker_away, shape=steady),
        Scenario(name="shaky_log", storm=shaky_log, shape=small, codes=BROKEN),
        Scenario(name="database_away", storm=database_away, shape=steady),
        Scenario(name="projector_dies", storm=projector_dies, shape=small),
        Scenario(name="workers_die", storm=workers_die, shape=small, weight=2),
        Scenario(name="rebalance", storm=rebalance, shape=steady),
        Scenario(name="zombies", storm=zombies, shape=small, weight=2),
        Scenario(name="crowd", storm=crowd, shape=steady, weight=0.5),
        Scenario(name="late_row", storm=late_row, shape=single, messages=2, weight=0.5),
        Scenario(name="table_emptied", storm=table_emptied, shape=steady),
        Scenario(name="edges_die", storm=edges_die, shape=small, weight=1.5),
        Scenario(name="edges_die_sending", storm=edges_die_sending, shape=small, weight=1.5),
        Scenario(name="edges_paused", storm=edges_paused, shape=small, codes=None),
        Scenario(name="rolling_restart", storm=rolling_restart, shape=steady, codes=ORDERLY),
        Scenario(name="new_devices", storm=new_devices, shape=small),
        Scenario(name="everything", storm=everything, shape=small, codes=BROKEN, weight=2),
    ]


SCENARIOS: Final = {scenario.name: scenario for scenario in _all()}
