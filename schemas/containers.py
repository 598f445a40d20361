"""Records in files that any Avro tool reads: object container files, with every schema inside.

An entry is a record as the broker keeps it, byte for byte, so its chain can be computed anew; and beside that, in `fact`,
what those bytes say, for people and tools; null where they are no record of ours. Each schema of a topic has a namespace of
its own (`restante.message_stored.v1`), so that two versions of one fact fit into one file.
"""

import io
from collections.abc import Iterator, Mapping
from typing import IO, Any, Final

import fastavro
from fastavro.write import Writer

from schemas.codec import HEADER_BYTES, SCHEMA_OF, all_schemas, single_object_prefix, versions_of
from schemas.raw import RawRecord
from schemas.topics import TOPIC_OF

_CODEC: Final = "deflate"
_BLOCK_BYTES: Final = 256 * 1024


class ContainerDamaged(Exception):
    """This file cannot be read on: it is no container of records, or was changed."""


def container_schema(topic: str) -> dict[str, Any]:
    """The schema of a topic's files."""
    nullable = ["null", "bytes"]
    header = {"type": "record", "name": "Header", "fields": [_field("name", "string"), _field("value", nullable)]}
    return {
        "type": "record",
        "name": "Exported",
        "namespace": "restante.export.v1",
        "doc": "A record of Kafka as the broker kept it, and the fact in it",
        "fields": [
            _field("offset", "long"),
            _field("timestamp", "long", "the broker's append time in milliseconds since 1970, UTC"),
            _field("key", nullable),
            _field("headers", {"type": "array", "items": header}),
            _field(
                "value", nullable, "Avro single-object encoding: 2 marker bytes, 8 of the schema's fingerprint, the body"
            ),
            _field("fact", ["null", *(schema for _, schema in _facts(topic))], "what value says"),
        ],
    }


class ContainerWriter:
    """Writes one partition's records to an open file. `about` is put into its header. Memory: a block."""

    def __init__(self, file: IO[bytes], topic: str, about: Mapping[str, str]) -> None:
        self._facts = _Facts(topic)
        schema = fastavro.parse_schema(container_schema(topic))
        self._writer = Writer(file, schema, codec=_CODEC, sync_interval=_BLOCK_BYTES, metadata=dict(about))

    def write(self, record: RawRecord) -> None:
        """The next record."""
        self._writer.write(
            {
                "offset": record.offset,
                "timestamp": record.at_ms,
                "key": record.key,
                "headers": [{"name": name, "value": value} for name, value in record.headers],
                "value": record.value,
                "fact": self._facts.of(record.value),
            }
        )

    def flush(self) -> None:
        """Write out what waits."""
        self._writer.flush()


def read_container(file: IO[bytes], topic: str, partition: int) -> Iterator[tuple[RawRecord, bool]]:
    """The records of a file, each with whether its `fact` is what its bytes say. Raises `ContainerDamaged`."""
    facts = _Facts(topic)
    try:
        entries: Iterator[Any] = iter(fastavro.reader(file, return_record_name=True))
        for entry in entries:
            headers = tuple((header["name"], header["value"]) for header in entry["headers"])
            record = RawRecord(partition, entry["offset"], entry["timestamp"], entry["key"], entry["value"], headers)
            yield record, entry["fact"] == facts.of(record.value)
    except Exception as error:  # fastavro raises whatever a broken file runs into
        raise ContainerDamaged(f"not an Avro container of records any more: {error!r}") from error


class _Facts:
    """What values say, as (name of the schema, datum)."""

    def __init__(self, topic: str) -> None:
        self._kinds = {
            prefix: (f"{schema['namespace']}.{schema['name']}", fastavro.parse_schema(schema))
            for prefix, schema in _facts(topic)
        }

    def of(self, value: bytes | None) -> tuple[str, Any] | None:
        kind = self._kinds.get((value or b"")[:HEADER_BYTES])
        if value is None or kind is None:
            return None
        name, schema = kind
        body = io.BytesIO(value)
        body.seek(HEADER_BYTES)
        try:
            datum = fastavro.schemaless_reader(body, schema, None, return_record_name=True)
        except Exception:  # no record of ours: the bytes are exported all the same
            return None
        return (name, datum) if body.tell() == len(value) else None


def _facts(topic: str) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Prefix, and schema in its own namespace, of every version of everything that belongs into a topic."""
    known = all_schemas()
    for kind, current in SCHEMA_OF.items():
        for name in versions_of(current, known) if TOPIC_OF[kind] == topic else ():
            yield single_object_prefix(known[name]), known[name] | {"namespace": f"restante.{name}"}


def _field(name: str, kind: Any, doc: str | None = None) -> dict[str, Any]:
    return {"name": name, "type": kind} | ({"doc": doc} if doc else {})
