"""What each device of one account could see: `Recipient.mailbox` of `schemas.lifecycle` for accounts of any size.

`evolve` copies its state with every record, which a hundred thousand messages do not bear; this fold changes itself, knows
nothing but mailboxes, and is held against that one by a property test.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from schemas.events import (
    AccountErased,
    DeviceRegistered,
    DeviceRemoved,
    Entry,
    MessagesDelivered,
    MessagesRead,
    MessageStored,
    Recorded,
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message, by the record that stored it."""

    message_id: UUID
    sender: UUID
    position: int
    stored_ms: int


@dataclass(slots=True)
class DeviceView:
    """A device, by its records. `acknowledged` and `read` say when it did, by message."""

    registered: int
    registered_ms: int
    removed_ms: int | None = None
    acknowledged: dict[UUID, int] = field(default_factory=dict)
    read: dict[UUID, int] = field(default_factory=dict)


class Mailboxes:
    """Of one account, after the records that were taken."""

    def __init__(self) -> None:
        self._messages: dict[UUID, Waiting] = {}
        self._delivered: dict[UUID, int] = {}
        self.devices: dict[UUID, DeviceView] = {}
        self.erased_ms: int | None = None

    def take(self, recorded: Recorded) -> None:
        """One more record of the account, in their order."""
        fact = recorded.fact
        match fact:
            case MessageStored():
                new = Waiting(fact.message_id, fact.sender, recorded.place.offset, recorded.at_ms)
                self._messages.setdefault(fact.message_id, new)
            case MessagesDelivered():
                self._acknowledged(fact.device_id, fact.entries, recorded)
            case MessagesRead():
                self._acknowledged(fact.device_id, fact.entries, recorded)
                self._read(fact.device_id, fact.entries, recorded)
            case DeviceRegistered():
                self.devices.setdefault(fact.device_id, DeviceView(recorded.place.offset, recorded.at_ms))
            case DeviceRemoved():
                device = self.devices.get(fact.device_id)
                if device is not None and device.removed_ms is None:
                    device.removed_ms = recorded.at_ms
            case AccountErased():
                self.erased_ms = recorded.at_ms if self.erased_ms is None else self.erased_ms

    def waiting(self, device_id: UUID) -> list[Waiting]:
        """What the device could see and had not acknowledged, oldest first."""
        device = self.devices.get(device_id)
        if device is None or device.removed_ms is not None or self.erased_ms is not None:
            return []
        return [
            message
            for message in self._messages.values()  # in the order of the log, as they were put
            if message.message_id not in device.acknowledged
            and device.registered < self._delivered.get(message.message_id, device.registered + 1)
        ]

    def _acknowledged(self, device_id: UUID, entries: Sequence[Entry], recorded: Recorded) -> None:
        if self.erased_ms is not None:
            return
        device = self.devices.get(device_id)
        for entry in entries:
            if entry.message_id in self._messages:
                self._delivered.setdefault(entry.message_id, recorded.place.offset)
                if device is not None:
                    device.acknowledged.setdefault(entry.message_id, recorded.at_ms)

    def _read(self, device_id: UUID, entries: Sequence[Entry], recorded: Recorded) -> None:
        device = self.devices.get(device_id)
        if device is not None and self.erased_ms is None:
            for entry in entries:
                if entry.message_id in self._messages:
                    device.read.setdefault(entry.message_id, recorded.at_ms)
