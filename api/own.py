"""What one process knows of acknowledgements without asking: those it appended, and the messages it handed out.

An acknowledgement concerns nobody but its account. So a read of one account need not wait until the projection has folded
what this process itself has appended for others; and where nothing else was appended since a page was read, the page still
says what its device owes. Whatever is not known here for certain (another process's records, the processor's, an append
without an answer) is a gap, and ends what can be said.
"""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

MOST_APPENDED: Final = 1_000
"""Of each partition, the newest so many are remembered."""

MOST_HANDED: Final = 10_000
"""Messages over all devices; those of the device that synced longest ago go first."""


class OwnAcks:
    """The acknowledgements that this process appended, by place."""

    def __init__(self) -> None:
        self._accounts: defaultdict[int, dict[int, int]] = defaultdict(dict)
        self._under_way: defaultdict[int, set[asyncio.Future[None]]] = defaultdict(set)

    @contextmanager
    def appending(self, partition: int, account: UUID) -> Iterator[Callable[[int], None]]:
        """Around an append: gives a function that takes the offset of what the log then holds."""
        known = self._accounts[partition]
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way[partition].add(over)

        def note(offset: int) -> None:
            known[offset] = account.int
            if len(known) > MOST_APPENDED:
                del known[next(iter(known))]

        try:
            yield note
        finally:
            self._under_way[partition].discard(over)
            over.set_result(None)

    async def settled(self, partition: int, seconds: float) -> None:
        """Wait (at most so long) for what is on its way now: the log may hold it before we have its answer."""
        if under_way := self._under_way[partition]:
            await asyncio.wait(set(under_way), timeout=seconds)

    def others_from(self, partition: int, least: int, end: int, account: UUID) -> int:
        """The lowest offset, `least` at the lowest, from which on all below `end` are acknowledgements of other accounts."""
        known, own = self._accounts[partition], account.int
        while end > least and known.get(end - 1, own) != own:
            end -= 1
        return end


@dataclass(frozen=True, slots=True)
class Handed:
    """A message that a sync has shown: the projection held it, unacknowledged by the device, with all below `since`."""

    message_id: UUID
    position: int
    sender: UUID
    since: int


class HandedOut:
    """The messages that this process has shown to devices and that they have not acknowledged here since."""

    def __init__(self) -> None:
        self._devices: OrderedDict[int, dict[int, Handed]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return len(self._devices)

    def add(self, device: UUID, shown: Sequence[Handed]) -> None:
        """A page was shown."""
        if not shown and device.int not in self._devices:
            return
        held = self._devices.setdefault(device.int, {})
        self._devices.move_to_end(device.int)
        self._count -= len(held)
        held.update((one.message_id.int, one) for one in shown)
        self._count += len(held)
        while self._count > MOST_HANDED:
            self._count -= len(self._devices.popitem(last=False)[1])

    def all(self, device: UUID, ids: Sequence[UUID]) -> list[Handed] | None:
        """These messages, or None where one of them is not known."""
        held = self._devices.get(device.int)
        if held is None:
            return None
        found = [held[one.int] for one in ids if one.int in held]
        return found if len(found) == len(ids) else None

    def remove(self, device: UUID, ids: Iterable[UUID]) -> None:
        """Acknowledged, or about to be."""
        held = self._devices.get(device.int)
        if held is None:
            return
        before = len(held)
        for one in ids:
            held.pop(one.int, None)
        self._count -= before - len(held)
        if not held:
            del self._devices[device.int]
