"""One simulated service: users and devices, gateways, processors, projection and log, on one random stream."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import UUID

from api.cursors import Cursors
from api.gateway import Gateway
from api.keys import AccountKeys
from api.sealing import TEXT, content_of, seal
from api.session import StreamOptions
from api.tokens import Principal
from producers.addresses import address
from producers.log import LogUnavailable
from schemas.events import DeviceRegistered, Entry, Fact, MessagesDelivered, MessageStored, Via
from schemas.partitions import partition_for, partition_of_key
from schemas.topics import PUSH
from tests.builders import an_id
from tests.simulation.chance import EPOCH_MS, Chance, now_ms
from tests.simulation.client import Acks, Connection, End, Plan, draw
from tests.simulation.database import Projection, WorldKeys, WorldProgress, WorldReads, WorldReceipts
from tests.simulation.log import Wire, WorldLog, WorldTail
from tests.simulation.loop import Process
from tests.simulation.peer import Link
from tests.simulation.processor import Group, Worker
from tests.simulation.watch import Session, View, Watch

SENDER: Final = an_id("acct", 1)
SENDERS_DEVICE: Final = an_id("dev", 1)


def options(window: int = 6, window_bytes: int = 4096) -> StreamOptions:
    """The gateway's options, with short times: what is to be seen is who waits for whom."""
    return StreamOptions(ack_timeout=4.0, heartbeat=6.0, lease=8.0, window=window, window_bytes=window_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a world is made of. Times in seconds."""

    partitions: int = 2
    users: int = 1
    devices: int = 1
    gateways: int = 2
    workers: int = 1
    backlog: int = 0
    body_bytes: int = 300
    wildness: float = 0.3
    twice: float = 0.1
    options: StreamOptions = field(default_factory=options)


class Edge:
    """One API process: a gateway and its sockets."""

    def __init__(self, world: "World", number: int) -> None:
        self.process = Process(f"gateway/{number:02x}")
        self.open = False
        self.links: list[Link] = []
        self.gateway: Gateway
        self._world = world
        self._leaving = asyncio.Event()
        self.done: asyncio.Task[None]

    def start(self) -> None:
        """Begin; `open` once it takes sockets."""
        self.done = self.process.start(self._work())

    def kill(self) -> None:
        """kill -9."""
        self.open = False
        self.process.stop()
        for link in self.links:
            link.reset()

    async def leave(self) -> None:
        """SIGTERM: close everything in order."""
        self.open = False
        self._leaving.set()
        await self.done

    def serve(self, link: Link, who: Principal) -> None:
        """A socket has connected."""
        self.links.append(link)
        self._world.watched(self.process.start(self._serve(link, who)))

    async def _serve(self, link: Link, who: Principal) -> None:
        await self.gateway.serve(link, who, None)
        self.links.remove(link)
        await link.close(1011, "")  # as the endpoint does; nothing where the gateway has closed it

    async def _work(self) -> None:
        world, name = self._world, self.process.name
        partition = partition_of_key(name.encode(), world.log.counts[PUSH])
        self.gateway = Gateway(
            log=Wire(world.log),
            pushes=WorldTail(world.log, PUSH, partition=partition),
            reads=WorldReads(world.projection, world.names),
            progress=WorldProgress(world.projection),
            keys=WorldKeys(world.projection, world.keys),
            tokens=world,
            cursors=world.watch.cursors,
            receipts=WorldReceipts(world.projection, world.partition_of),
            options=world.shape.options,
            producer=name,
            name=name,
            push_partition=partition,
            clock=lambda: now_ms() / 1000,
        )
        async with self.gateway:
            self.open = True
            await self._leaving.wait()
            self.gateway.drain()


class Device:
    """A device and its program, which connects again and again. `calm` makes it a good one that stays."""

    def __init__(self, world: "World", user: UUID, number: int) -> None:
        self.view: View = world.watch.view(user, an_id("dev", 100 + number))
        self.connections: list[Connection] = []
        self.codes: list[tuple[Plan, int]] = []
        self.away = False
        self._world = world
        self._number = 0

    @property
    def connected(self) -> bool:
        """Whether a good connection is there."""
        return any(connection.good for connection in self.connections)

    async def live(self) -> None:
        """Connect, for ever; while it has a connection, now and then a second time."""
        world = self._world
        while True:
            await asyncio.sleep(world.chance.delay(0.2))
            if self.away or (self.connected and (world.calm or not world.chance.happens(world.shape.twice))):
                await asyncio.sleep(0.4)
                continue
            self._connect()
            await asyncio.sleep(0.3)

    def _connect(self) -> None:
        world = self._world
        edge = world.an_edge()
        if edge is None:
            return
        self._number += 1
        session = Session(world.watch, self.view, edge.process.name, self._number)
        link = Link(world.chance, session)
        world.links.append(link)
        plan = Plan() if world.calm else draw(world.chance, world.shape.wildness)
        connection = Connection(
            link, plan, world.chance, self._ack_by_http, self._strange, 2 * world.shape.options.ack_timeout
        )
        self.connections.append(connection)
        world.watch.say(session.name, "connects", self.view.device.int & 0xFF, plan)
        edge.serve(link, world.principal(self.view.user, self.view.device))
        world.background(self._use(connection))

    async def _use(self, connection: Connection) -> None:
        plan = replace(connection.plan)
        code = await connection.live()
        self.connections.remove(connection)
        self._world.watch.say(connection.link.session.name, "client sees", code)
        self._world.check_deadline(connection, plan)
        if connection.link.session.id is not None:  # who comes while the log is away is sent away
            self.codes.append((plan, code))

    def _strange(self) -> list[UUID]:
        """Now and then what this session may not have sent: another's message, an earlier one, none at all."""
        chance = self._world.chance
        if not chance.happens(0.1 * self._world.shape.wildness):
            return []
        return [self._world.new_id(), *chance.sample(list(self._world.watch.stored), min(2, len(self._world.watch.stored)))]

    async def _ack_by_http(self, ids: list[UUID]) -> None:
        world = self._world
        entries = [
            Entry(message_id=one, position=world.watch.stored[one], sender=world.watch.sent[one].sender) for one in ids
        ]
        fact = MessagesDelivered(
            event_id=world.new_id(),
            producer="api/1",
            recipient=self.view.user,
            device_id=self.view.device,
            entries=tuple(sorted(entries, key=lambda entry: entry.position)),
            via=Via.HTTP,
        )
        await world.append(fact)


class World:
    """Everything. Nothing runs before `begin`."""

    def __init__(self, seed: int, shape: Shape) -> None:
        self.shape = shape
        self.chance = Chance(seed)
        self.calm = False
        self.punctual = False
        options = shape.options
        self.watch = Watch(Cursors([b"k" * 32]), options.window, options.window_bytes)
        self.log = WorldLog(shape.partitions, self.chance)
        self.log.seen.append(self.watch.see)
        self.projection = Projection(self.log)
        self.group = Group(self.log)
        self.edges: list[Edge] = []
        self.workers: list[Worker] = []
        self.links: list[Link] = []
        self._wire = Wire(self.log, faulty=False)
        self._edges_made = 0
        self._workers_made = 0
        self._ids = 0
        self._own: set[asyncio.Task[Any]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.users = [an_id("acct", 10 + number) for number in range(shape.users)]
        self.names = {SENDER: "sender"} | {user: f"user{at}" for at, user in enumerate(self.users)}
        self.keys = {user: AccountKeys(user.bytes * 2) for user in self.users}
        self.devices = [
            Device(self, user, at * 10 + number) for at, user in enumerate(self.users) for number in range(shape.devices)
        ]

    async def begin(self) -> None:
        """Devices are registered, the backlog is stored, gateways and processors run."""
        for device in self.devices:
            self._land(DeviceRegistered(**self._common(device.view.user), device_id=device.view.device))
        for _ in range(self.shape.backlog):
            for user in self.users:
                self._land(self.message(user))
        self.background(self.projection.work())
        for _ in range(self.shape.workers):
            self.start_worker(takes_over=False)
        self.share_partitions()
        for _ in range(self.shape.gateways):
            self.start_edge()

    async def new_device(self, user: UUID) -> None:
        """One more device of this user."""
        device = Device(self, user, 50 + len(self.devices))
        await self.append(DeviceRegistered(**self._common(user), device_id=device.view.device))
        self.devices.append(device)
        self.background(device.live())

    def background(self, work: Any) -> asyncio.Task[Any]:
        """Run in no process, until the end."""
        task = asyncio.get_running_loop().create_task(work)
        self._own.add(task)
        task.add_done_callback(self._own.discard)
        self.watched(task)
        return task

    def watched(self, task: asyncio.Task[Any]) -> None:
        """This task must not fail."""
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or task.exception() is None:
            self._tasks.discard(task)

    async def end(self) -> None:
        """Stop everything. Raises what a task of the world's own has raised."""
        for process in [*(edge.process for edge in self.edges), *(worker.process for worker in self.workers)]:
            process.stop()
        for task in list(self._own):
            task.cancel()
        for task in list(self._own):
            with contextlib.suppress(asyncio.CancelledError):
                await task

    # Identities

    def new_id(self) -> UUID:
        """The next id."""
        self._ids += 1
        return an_id("new", self._ids)

    def principal(self, user: UUID, device: UUID) -> Principal:
        """A token that outlives the run."""
        return Principal(user, device, EPOCH_MS // 1000 + 100_000, 0)

    async def renewed(self, token: str, who: Principal) -> Principal:
        """`api.ports.Tokens`: the token is the number of a device."""
        view = self.devices[int(token)].view
        return self.principal(view.user, view.device)

    def partition_of(self, user: UUID) -> int:
        """Where a user's facts are."""
        return partition_for(user, self.shape.partitions)

    # Facts

    def message(self, user: UUID) -> MessageStored:
        """A new message to this user, often from another one, or from himself."""
        message_id, number = self.new_id(), self._ids
        sender = self.chance.choice(self.users) if self.chance.happens(0.3) else SENDER
        body = f"{number}:" + "x" * self.chance.randint(0, self.shape.body_bytes)
        sealed = seal(self.keys[user], message_id, sender, user, content_of(TEXT, "text/plain", body.encode()))
        self.watch.expect(message_id, user, sender, body, len(sealed))
        return MessageStored(
            **self._common(user),
            message_id=message_id,
            sender=sender,
            sender_device=SENDERS_DEVICE,
            created_at_ms=now_ms(),
            keyed=False,
            sealed=sealed,
            digest=b"d" * 32,
        )

    async def send(self, user: UUID) -> None:
        """A message is accepted, some day."""
        await self.append(self.message(user))

    async def append(self, fact: Fact) -> None:
        """Until the log has it, or may have a message."""
        while True:
            try:
                await self._wire.append(fact)
            except LogUnavailable as error:
                if error.outcome == "unknown" and isinstance(fact, MessageStored):
                    return
                await asyncio.sleep(0.5)
            else:
                return

    def _land(self, fact: Fact) -> None:
        self.log.land(*address(fact, None, self.log.counts), fact)

    def _common(self, user: UUID) -> dict[str, Any]:
        return {"event_id": self.new_id(), "producer": "api/1", "recipient": user}

    # Processes

    def an_edge(self) -> Edge | None:
        """A gateway that takes sockets."""
        there = [edge for edge in self.edges if edge.open]
        return self.chance.choice(there) if there else None

    def start_edge(self) -> Edge:
        """A new API process."""
        self._edges_made += 1
        edge = Edge(self, self._edges_made)
        self.edges.append(edge)
        edge.start()
        return edge

    def start_worker(self, *, takes_over: bool = True) -> Worker:
        """A new processor; it takes over all partitions, from what is committed."""
        self._workers_made += 1
        worker = Worker(self.group, self._workers_made, self.shape.options.lease)
        self.workers.append(worker)
        if takes_over:
            worker.start(range(self.shape.partitions))
        return worker

    def share_partitions(self) -> None:
        """Each partition to one of the workers."""
        alive = [worker for worker in self.workers if not worker.process.stopped]
        for number, worker in enumerate(alive):
            worker.start([p for p in range(self.shape.partitions) if p % len(alive) == number])

    def sessions(self) -> Sequence[Session]:
        """Every socket there ever was."""
        return [link.session for link in self.links]

    def check_deadline(self, connection: Connection, plan: Plan) -> None:
        """Who never acknowledges is closed in time, unless the log is away."""
        started, patience = connection.first, 2 * self.shape.options.ack_timeout
        if started is None or not self.punctual or plan.acks is not Acks.NEVER or plan.end is not End.STAYS:
            return
        if connection.plan.acks is Acks.NEVER and asyncio.get_running_loop().time() - started > patience:
            self.watch.broken(connection.link.session.name, "let a client go on that never acknowledges")

    def check_tasks(self) -> None:
        """Raises what a task of the world's own, or the serving of a socket, has raised."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()
