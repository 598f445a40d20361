"""The one door between records and bytes: Avro single-object encoding (Avro specification, "Single-object encoding").

A value is `C3 01`, the CRC-64-AVRO fingerprint of its schema (8 bytes, little-endian) and the Avro body. Each schema ever
released stays in `avro/`, so every record ever written can be read. CloudEvents attributes go along as `ce_*` headers for
tools that look at no body; they are derived from the record and nobody of ours relies on them for meaning.
"""

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas.events import (
    AccountErased,
    DeliveryAttempted,
    DeviceRegistered,
    DeviceRemoved,
    Fact,
    MessagesDelivered,
    MessagesErased,
    MessagesRead,
    MessageStored,
    PendingSync,
    SessionClosed,
    SessionMarked,
    SessionOpened,
)
from schemas.gateways import GatewayLease
from schemas.partitions import recipient_key
from schemas.presence import PresenceRow
from schemas.push import Push
from schemas.quarantined import Quarantined, Replayed
from schemas.receipt import Receipt
from schemas.shapes import Shape
from schemas.writing import Write, writer_for

Record = Fact | Push | GatewayLease | Receipt | Quarantined | Replayed | PresenceRow
Headers = list[tuple[str, bytes]]

MARKER = b"\xc3\x01"
HEADER_BYTES = 10

SCHEMA_OF: dict[type[Any], str] = {
    MessageStored: "message_stored.v1",
    SessionOpened: "session_opened.v1",
    SessionMarked: "session_marked.v1",
    SessionClosed: "session_closed.v1",
    DeliveryAttempted: "delivery_attempted.v1",
    PendingSync: "pending_sync.v1",
    MessagesDelivered: "messages_delivered.v1",
    MessagesRead: "messages_read.v1",
    DeviceRegistered: "device_registered.v1",
    DeviceRemoved: "device_removed.v1",
    AccountErased: "account_erased.v1",
    MessagesErased: "messages_erased.v1",
    Push: "push.v1",
    GatewayLease: "gateway_lease.v1",
    Receipt: "receipt.v1",
    Quarantined: "quarantined.v1",
    Replayed: "replayed.v1",
    PresenceRow: "presence_row.v1",
}
"""The schema that each kind of record is written with; the name is its file below `avro/`."""


class DecodeError(ValueError):
    """These bytes are no record of ours: quarantine the record, look at it with its origin, and go on."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A record as the log takes it."""

    key: bytes
    value: bytes
    headers: Headers


def load_schema(name: str) -> Any:
    """The schema in `avro/<name>.avsc`, as written."""
    return json.loads((files("schemas") / "avro" / f"{name}.avsc").read_text())


def single_object_prefix(schema: Any) -> bytes:
    """The 10 bytes before a body of this schema."""
    text = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    return MARKER + bytes.fromhex(text)


@dataclass(frozen=True, slots=True)
class _Kind:
    """How one class is written, and the schema that it has now."""

    schema: Any
    shape: Shape[Any]
    write: Write
    prefix: bytes
    headers: Headers


@dataclass(frozen=True, slots=True)
class _Version:
    """How one version of a schema is read: `now` is what it becomes, None where that is the same."""

    written: Any
    now: Any
    shape: Shape[Any]


class Codec:
    """Writes each class with one schema, and reads every version of that schema that it knows: fields that a version has not
    take their defaults, fields that the class has not are left out (Avro's schema resolution).

    `schema_of` names the schema that a class is written with, such as `push.v1`; `schemas` holds every version by name.
    """

    def __init__(self, schema_of: Mapping[type[Any], str], schemas: Mapping[str, Any]) -> None:
        self._kinds = {cls: _kind(cls, name, schemas[name]) for cls, name in schema_of.items()}
        self._versions: dict[bytes, _Version] = {}
        for cls, name in schema_of.items():
            kind = self._kinds[cls]
            for other in versions_of(name, schemas):
                written = fastavro.parse_schema(_bare(schemas[other]) if other == name else schemas[other])
                now = None if other == name else kind.schema
                self._versions[single_object_prefix(schemas[other])] = _Version(written, now, kind.shape)

    def encode(self, record: Record) -> Encoded:
        """Key, value and headers of a record; see `key_of` for what its key is."""
        kind = self._kinds[type(record)]
        headers = [
            *kind.headers,
            ("ce_id", str(record.event_id).encode()),
            ("ce_source", b"/restante/" + record.producer.encode()),
        ]
        return Encoded(key_of(record), kind.prefix + kind.write(record), headers)

    def decode(self, value: bytes | None) -> Record:
        """The record in these bytes. Raises `DecodeError` where they are not one, or hold a word that is not known here."""
        if value is None:
            raise DecodeError("the record has no value")
        version = self._versions.get(value[:HEADER_BYTES])
        if version is None:
            raise DecodeError(_why_unknown(value))
        body = io.BytesIO(value)
        body.seek(HEADER_BYTES)
        try:
            datum = fastavro.schemaless_reader(body, version.written, version.now)
            record: Record = version.shape.value(datum)  # type: ignore[arg-type]
        except Exception as error:  # fastavro raises whatever a broken body runs into
            raise DecodeError(f"the body does not fit its schema {version.shape.cls.__name__}: {error!r}") from error
        if body.tell() != len(value):
            raise DecodeError(f"{len(value) - body.tell()} bytes follow the {version.shape.cls.__name__}")
        return record


def _bare(schema: Any) -> Any:
    """A schema without what changes no byte and makes reading a fifth slower: fastavro looks up logical types at each value,
    and has none for our ids."""
    if isinstance(schema, dict):
        return {name: _bare(part) for name, part in schema.items() if name not in ("logicalType", "doc")}
    return [_bare(part) for part in schema] if isinstance(schema, list) else schema


def key_of(record: Record) -> bytes:
    """The key that decides the record's partition."""
    match record:
        case Push() | GatewayLease():
            return record.gateway.encode()
        case Receipt():
            return recipient_key(record.sender)
        case Quarantined() | Replayed():
            return f"{record.topic}/{record.partition}".encode()
        case PresenceRow():
            return str(record.device_id).encode()
        case _:
            return recipient_key(record.recipient)


def type_name(cls: type[Any]) -> str:
    """The CloudEvents `type` of a kind of record, as in its `ce_type` header."""
    return f"restante.{SCHEMA_OF[cls]}"


def _why_unknown(value: bytes) -> str:
    if len(value) < HEADER_BYTES or value[:2] != MARKER:
        return "the value is not in Avro single-object encoding"
    return f"no schema has the fingerprint {value[2:HEADER_BYTES].hex()}; a newer version may have written it"


def _kind(cls: type[Any], name: str, schema: Any) -> _Kind:
    headers = [("ce_specversion", b"1.0"), ("ce_type", f"restante.{name}".encode())]
    return _Kind(fastavro.parse_schema(schema), Shape(cls), writer_for(schema), single_object_prefix(schema), headers)


def versions_of(name: str, schemas: Iterable[str]) -> list[str]:
    """The names among `schemas` that are versions of the one called `name`, itself included."""
    return [other for other in schemas if _base(other) == _base(name)]


def _base(name: str) -> str:
    """`push` of `push.v1`."""
    return name.rpartition(".")[0]


def all_schemas() -> dict[str, Any]:
    """Every schema below `avro/` by its name, of every version."""
    names = (path.name.removesuffix(".avsc") for path in (files("schemas") / "avro").iterdir())
    return {name: load_schema(name) for name in sorted(names) if _base(name)}


_CODEC = Codec(SCHEMA_OF, all_schemas())
encode = _CODEC.encode
decode = _CODEC.decode
