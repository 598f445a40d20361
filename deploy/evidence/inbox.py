"""`restante inbox`: what each device of an account could see at a moment of the past, from the log."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from deploy.errors import Refused
from deploy.evidence.reading import Pages, Progress, account, opened, shown_time, stretches, understood
from deploy.settings import Settings
from producers.recorded import LogDamaged
from schemas.mailbox import DeviceView, Mailboxes
from schemas.partitions import partition_for, recipient_key


async def inbox(settings: Settings, named: str, at_ms: int, progress: Progress) -> dict[str, Any]:
    """The mailboxes of an account after all that was appended up to this time. Refused (exit 1) where the log has nothing
    about it by then."""
    who = await account(settings, named)
    async with opened(settings) as reader:
        partition = partition_for(who, len(await reader.bounds()))
        (stretch,) = todo = await stretches(reader, partitions=[partition], until_ms=at_ms + 1)
        mailboxes, key, damages, seen = Mailboxes(), recipient_key(who), list[LogDamaged](), 0
        async for records in Pages(reader, todo, progress).of(stretch, damages.append):
            for raw in records:
                recorded = understood(raw) if raw.key == key else None
                if recorded is not None:
                    seen += 1
                    mailboxes.take(recorded)
    if not seen:
        raise Refused(f"the log has nothing about account {who} up to {shown_time(at_ms)}")
    return {
        "user_id": str(who),
        "at": shown_time(at_ms),
        "log": {"partition": partition, "end": stretch.end},
        "erased_at": _shown(mailboxes.erased_ms),
        "unreadable": [{"offset": damage.first, "end": damage.end} for damage in damages],
        "devices": [_device(mailboxes, device_id, device) for device_id, device in mailboxes.devices.items()],
    }


def _device(mailboxes: Mailboxes, device_id: UUID, device: DeviceView) -> dict[str, Any]:
    return {
        "device_id": str(device_id),
        "registered_at": _shown(device.registered_ms),
        "removed_at": _shown(device.removed_ms),
        "waiting": [
            {
                "id": str(message.message_id),
                "from_id": str(message.sender),
                "position": message.position,
                "stored_at": _shown(message.stored_ms),
            }
            for message in mailboxes.waiting(device_id)
        ],
        "acknowledged": [
            {"id": str(message_id), "at": _shown(at_ms), "read_at": _shown(device.read.get(message_id))}
            for message_id, at_ms in device.acknowledged.items()
        ],
    }


def _shown(at_ms: int | None) -> str | None:
    return None if at_ms is None else shown_time(at_ms)
