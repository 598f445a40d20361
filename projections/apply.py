"""Folding facts into the tables: the one match over facts, and the statements it comes to.

What a fact means is `schemas.lifecycle.evolve`; the tables are its shape in PostgreSQL, held against it by property tests.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, assert_never

from psycopg.types.numeric import Int8

from projections import columns
from projections.batch import Batch, Row
from projections.database import Connection, load_queries
from schemas.events import (
    AccountErased,
    DeliveryAttempted,
    DeviceRegistered,
    DeviceRemoved,
    MessagesDelivered,
    MessagesErased,
    MessagesRead,
    MessageStored,
    PendingSync,
    Recorded,
    SessionClosed,
    SessionMarked,
    SessionOpened,
)

QUERIES: Final = load_queries("projections", "apply.sql")

LEFT_AT_ONCE: Final = 10_000
"""So many messages a statement take leave of an erased account: each must be done before its connection is cut."""

Packing = dict[str, Callable[[Sequence[Any]], columns.Column]]

_DEVICE: Final[Packing] = {
    "device_ids": columns.uuids,
    "accounts": columns.uuids,
    "positions": columns.bigints,
    "at_ms": columns.bigints,
}
_MESSAGE: Final[Packing] = {
    "message_ids": columns.uuids,
    "recipients": columns.uuids,
    "senders": columns.uuids,
    "sender_devices": columns.uuids,
    "partitions": columns.smallints,
    "positions": columns.bigints,
    "event_ids": columns.uuids,
    "producers": columns.texts,
    "created_at_ms": columns.bigints,
    "stored_at_ms": columns.bigints,
    "digests": columns.byteas,
    "keyed": columns.booleans,
    "sealed": columns.byteas,
}
_REPEAT: Final[Packing] = {
    "message_ids": columns.uuids,
    "partitions": columns.smallints,
    "positions": columns.bigints,
    "event_ids": columns.uuids,
    "producers": columns.texts,
    "at_ms": columns.bigints,
}
_SESSION: Final[Packing] = {
    "session_ids": columns.uuids,
    "accounts": columns.uuids,
    "device_ids": columns.uuids,
    "gateways": columns.texts,
    "push_partitions": columns.bigints,
    "epochs": columns.bigints,
}
_END: Final[Packing] = {
    "session_ids": columns.uuids,
    "positions": columns.bigints,
    "accounts": columns.uuids,
    "device_ids": columns.uuids,
    "reasons": columns.texts,
    "event_ids": columns.uuids,
    "producers": columns.texts,
    "at_ms": columns.bigints,
}
_DECISION: Final[Packing] = {
    "message_ids": columns.uuids,
    "recipients": columns.uuids,
    "positions": columns.bigints,
    "pending": columns.booleans,
    "session_ids": columns.uuids,
    "sessions": columns.texts,
    "reasons": columns.texts,
    "policies": columns.texts,
    "evidence": columns.texts,
    "event_ids": columns.uuids,
    "causation_ids": columns.uuids,
    "producers": columns.texts,
    "at_ms": columns.bigints,
}
_ACK: Final[Packing] = {
    "message_ids": columns.uuids,
    "device_ids": columns.uuids,
    "recipients": columns.uuids,
    "positions": columns.bigints,
    "vias": columns.texts,
    "session_ids": columns.uuids,
    "event_ids": columns.uuids,
    "producers": columns.texts,
    "at_ms": columns.bigints,
}


@dataclass(slots=True)
class Applied:
    """What came of some facts. `ignored` rows told of messages that are unknown, another's, or stored later;
    `erased` messages came for accounts that were erased already."""

    ignored: int = 0
    repeats: int = 0
    erased: int = 0


async def apply(connection: Connection, records: Iterable[Recorded]) -> Applied:
    """Fold records, each partition's in its order, inside the caller's transaction."""
    batch, applied = Batch(), Applied()
    for recorded in records:
        fact = recorded.fact
        match fact:
            case MessageStored():
                if batch.must_wait(fact):
                    batch = await _written(connection, batch, applied)
                batch.store(recorded, fact)
            case DeliveryAttempted() | PendingSync():
                batch.decide(recorded, fact)
            case MessagesDelivered() | MessagesRead():
                batch.acknowledge(recorded, fact)
            case SessionOpened() | SessionMarked():
                batch.mark(recorded, fact)
            case SessionClosed():
                batch.end(recorded, fact)
            case DeviceRegistered():
                if batch.must_wait(fact):
                    batch = await _written(connection, batch, applied)
                batch.register(recorded, fact)
            case DeviceRemoved():
                batch = await _written(connection, batch, applied)
                await connection.run(QUERIES["remove"], device=fact.device_id, **_alone(recorded))
            case AccountErased():
                batch = await _written(connection, batch, applied)
                await connection.run(QUERIES["erase"], **_alone(recorded))
                while await connection.run(QUERIES["leave"], account=fact.recipient, limit=Int8(LEFT_AT_ONCE)):
                    pass
            case MessagesErased():
                batch = await _written(connection, batch, applied)
                await connection.run(
                    QUERIES["told"],
                    account=fact.recipient,
                    position=Int8(recorded.place.offset),
                    message_ids=columns.uuids([entry.message_id for entry in fact.entries]),
                )
            case _:
                assert_never(fact)
    await _written(connection, batch, applied)
    return applied


async def _written(connection: Connection, batch: Batch, applied: Applied) -> Batch:
    """Write a batch in the order of its kinds; a new one to go on with."""
    await _run(connection, "register", _DEVICE, batch.devices.values())
    await _store(connection, batch, applied)
    await _run(connection, "open", _SESSION, batch.sessions.values())
    await _run(connection, "end", _END, batch.ends)
    applied.ignored += len(batch.decisions) - await _run(connection, "decide", _DECISION, batch.decisions)
    if batch.acknowledgements:
        counted = await connection.tuples(QUERIES["acknowledge"], **_packed(_ACK, batch.acknowledgements.values()))
        applied.ignored += len(batch.acknowledgements) - counted[0][0]
    await _run(connection, "read", _ACK, batch.readings.values())
    return Batch()


async def _store(connection: Connection, batch: Batch, applied: Applied) -> None:
    if not batch.messages:
        return
    new, erased = (await connection.tuples(QUERIES["store"], **_packed(_MESSAGE, batch.messages.values())))[0]
    applied.erased += erased
    if new < len(batch.messages) or batch.repeats:
        applied.repeats += await _run(connection, "repeat", _REPEAT, list(batch.repeated()))


async def _run(connection: Connection, name: str, packing: Packing, rows: Collection[Row]) -> int:
    return await connection.run(QUERIES[name], **_packed(packing, rows)) if rows else 0


def _packed(packing: Packing, rows: Iterable[Row]) -> dict[str, columns.Column]:
    """The rows, turned into one parameter a column."""
    return {name: pack(values) for (name, pack), values in zip(packing.items(), zip(*rows, strict=True), strict=True)}


def _alone(recorded: Recorded) -> dict[str, Any]:
    fact = recorded.fact
    return {
        "account": fact.recipient,
        "position": Int8(recorded.place.offset),
        "event_id": fact.event_id,
        "producer": fact.producer,
        "at_ms": Int8(recorded.at_ms),
    }
