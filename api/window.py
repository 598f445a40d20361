"""What is on its way to a client: sent, or about to be, and not acknowledged for good. Pure; times are in seconds.

A message takes room until the log has its acknowledgement. The deadline looks at something else: whether the client has said
it at all, since how long the log takes is not the client's fault.
"""

from collections.abc import Iterable
from uuid import UUID

from schemas.events import Entry


class Sent:
    """A message in the window. `size` counts its sealed body, `written` is when it was handed to the socket."""

    __slots__ = ("entry", "size", "written")

    def __init__(self, entry: Entry, size: int) -> None:
        self.entry = entry
        self.size = size
        self.written: float | None = None


class Window:
    """At most `messages` of them, and at most `size` bytes unless it is a single one."""

    __slots__ = ("_held", "_messages", "_moved", "_said", "_size", "_waiting")

    def __init__(self, messages: int, size: int) -> None:
        self._messages = messages
        self._size = size
        self._held = 0
        self._waiting: dict[UUID, Sent] = {}  # not acknowledged, in the order in which they are written
        self._said: dict[UUID, Sent] = {}  # acknowledged by the client, but not yet in the log
        self._moved = 0.0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._said)

    def __contains__(self, message_id: UUID) -> bool:
        return message_id in self._waiting or message_id in self._said

    def takes(self, size: int) -> bool:
        """Whether there is room for one more message of this size."""
        taken = len(self)
        return not taken or (taken < self._messages and self._held + size <= self._size)

    def room(self) -> tuple[int, int]:
        """How many messages and how many bytes may be added; (0, 0) while less than a quarter is free, since filling a
        window one by one would cost a query each."""
        messages, size = self._messages - len(self), self._size - self._held
        if len(self) and (4 * messages < self._messages or 4 * size < self._size):
            return 0, 0
        return messages, size

    def add(self, entry: Entry, size: int) -> None:
        """A message is about to be sent."""
        self._waiting[entry.message_id] = Sent(entry, size)
        self._held += size

    def written(self, message_id: UUID, now: float) -> None:
        """The message was handed to the socket."""
        sent = self._waiting.get(message_id)
        if sent is not None:
            sent.written = now

    def acknowledge(self, ids: Iterable[UUID], now: float) -> None:
        """The client has acknowledged these. Where the oldest is among them, the time of the next one begins now."""
        oldest = next(iter(self._waiting), None)
        for message_id in ids:
            sent = self._waiting.pop(message_id, None)
            if sent is not None:
                self._said[message_id] = sent
        if oldest is not None and oldest not in self._waiting:
            self._moved = now

    def entry(self, message_id: UUID) -> Entry | None:
        """The message as an acknowledgement names it, if it is in the window."""
        sent = self._said.get(message_id) or self._waiting.get(message_id)
        return sent.entry if sent else None

    def settle(self, ids: Iterable[UUID]) -> None:
        """The log has their acknowledgements: they leave."""
        for message_id in ids:
            sent = self._said.pop(message_id, None) or self._waiting.pop(message_id, None)
            if sent is not None:
                self._held -= sent.size

    def drop(self, ids: Iterable[UUID], now: float) -> None:
        """These were acknowledged elsewhere, for good: those that the client has not acknowledged here leave."""
        gone = [message_id for message_id in ids if message_id in self._waiting]
        self.acknowledge(gone, now)
        self.settle(gone)

    def waiting(self) -> list[UUID]:
        """What the client has not acknowledged, oldest first."""
        return list(self._waiting)

    def waits_since(self) -> float | None:
        """From when on the oldest of them waits: it was written, or the one before it was acknowledged after that."""
        for sent in self._waiting.values():
            return None if sent.written is None else max(sent.written, self._moved)
        return None
