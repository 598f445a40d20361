"""How much an account may hold: mail that no device has acknowledged, in messages and in bytes, in all and from one sender.

Each process keeps an upper bound for every recipient that it knows: the last count from the projection and what it took
since. Below the limits nobody is asked. At a limit the projection is, completely, before anything is refused; so with one
process the limits are exact. What other processes take shows with the next count, which comes at least every LOOK_SECONDS
in a mailbox that is worth counting: by that much several processes may go over. Large mailboxes (limit above EXACT) are
counted once a second at most. Where no count is to be had, because the projection is away, the last one decides.
"""

import asyncio
import contextlib
from functools import partial
from time import monotonic
from typing import Final, Self

from api.directory import Recipient
from api.freshness import Freshness
from api.problems import Problem
from api.room import Room
from projections.errors import ProjectionsError
from projections.progress import Progress
from projections.reads import NO_FLOORS, Reads

EXACT: Final = 1_000
"""Up to this quota every refusal follows a count that began after the message came."""

HOLD_SECONDS: Final = 1.0
"""For so long a count of a large mailbox decides, and so long nobody asks again where a count failed."""

PATIENCE_SECONDS: Final = 2.0
"""A message waits at most this long for a count."""


class Quota:
    """Gives the messages on their way their room. A mailbox may hold `most` messages and `most_bytes`. `async with` ends
    what still counts."""

    def __init__(self, *, reads: Reads, freshness: Freshness, progress: Progress, most: int, most_bytes: int) -> None:
        self._reads = reads
        self._freshness = freshness
        self._progress = progress
        self._most = most
        self._most_bytes = most_bytes
        self._counting: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        for task in list(self._counting):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def reserve(self, recipient: Recipient, sender: int, size: int) -> Room:
        """Room for one message of so many bytes, to be handed back by `Room.land`. Raises `Problem` mailbox_full or
        sender_share_full."""
        room = recipient.room
        if room is None:
            room = recipient.room = Room(self._most, self._most_bytes, partial(self._ask, recipient))
        came = room.asks
        while not room.take(sender, size):
            if room.done > max(came, 1) or self._decided(room):  # the first count may be early
                refused = room.refusal(sender, size)
                if refused is not None:
                    raise refused
                room.force(sender, size)
                break
            if room.task is None:
                self._ask(recipient, room)
            assert room.task is not None
            await asyncio.shield(room.task)
        return room

    def _decided(self, room: Room) -> bool:
        """Whether the last count, or the failure to get one, is young enough to decide."""
        return (room.blind or (room.asks > 1 and self._most > EXACT)) and monotonic() - room.at < HOLD_SECONDS

    def _ask(self, recipient: Recipient, room: Room) -> None:
        room.begin()
        room.task = asyncio.create_task(self._count(recipient, room))
        self._counting.add(room.task)
        room.task.add_done_callback(self._counting.discard)

    async def _count(self, recipient: Recipient, room: Room) -> None:
        try:
            if not self._progress.connected and room.asks > 1:
                return room.failed()
            async with asyncio.timeout(PATIENCE_SECONDS):
                first = room.done == 0 and self._most > EXACT
                floors = NO_FLOORS if first else await self._freshness.of(recipient.partition)
                held = await self._reads.held(
                    recipient.user_id,
                    partition=recipient.partition,
                    limit=self._most,
                    small=(room.messages.small, room.bytes.small),
                    floors=floors,
                )
        except (Problem, ProjectionsError, TimeoutError):
            return room.failed()
        except BaseException:
            room.failed()
            raise
        return room.counted(held)
