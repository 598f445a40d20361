"""Container files: every released record goes in and comes out, bytes and meaning."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import fastavro
import pytest

from schemas.codec import SCHEMA_OF, Record, encode
from schemas.containers import ContainerDamaged, ContainerWriter, container_schema, read_container
from schemas.raw import RawRecord
from schemas.topics import LIFECYCLE, RECEIPTS, SIGNED, TOPIC_OF
from tests.builders import delivered, entry, pending, registered, stored


def raw(record: Record, offset: int) -> RawRecord:
    encoded = encode(record)
    return RawRecord(0, offset, 1_700_000_000_000 + offset, encoded.key, encoded.value, tuple(encoded.headers))


RECORDS = [
    *(raw(record, offset) for offset, record in enumerate([registered(), stored(1), pending(1, 1), delivered(entry(1, 1))])),
    RawRecord(0, 4, -1, None, None, (("nothing", None),)),
    RawRecord(0, 5, 0, b"", b"no record of ours", ()),
    RawRecord(0, 6, 0, b"", encode(stored(1)).value + b"more", ()),
]


def written(records: Sequence[RawRecord]) -> bytes:
    file = io.BytesIO()
    writer = ContainerWriter(file, LIFECYCLE, {"restante.topic": LIFECYCLE})
    for record in records:
        writer.write(record)
    writer.flush()
    return file.getvalue()


def test_what_goes_in_comes_out_byte_for_byte() -> None:
    found = list(read_container(io.BytesIO(written(RECORDS)), LIFECYCLE, 0))
    assert [record for record, _ in found] == RECORDS
    assert all(true for _, true in found)


def test_any_avro_tool_reads_it() -> None:
    reader = fastavro.reader(io.BytesIO(written(RECORDS)))
    assert reader.metadata["restante.topic"] == LIFECYCLE
    rows = list(reader)
    assert [row["offset"] for row in rows] == [0, 1, 2, 3, 4, 5, 6]
    assert rows[1]["fact"]["recipient"] == stored(1).recipient.bytes
    assert [row["fact"] is None for row in rows] == [False] * 4 + [True] * 3


def test_every_schema_of_a_topic_is_inside() -> None:
    names = {name for topic in SIGNED for name in json.dumps(container_schema(topic)).split('"')}

    for kind, name in SCHEMA_OF.items():
        assert (f"restante.{name}" in names) == (TOPIC_OF[kind] in (LIFECYCLE, RECEIPTS)), name


def test_a_fact_that_is_not_what_the_bytes_say_is_noticed() -> None:
    reader = fastavro.reader(io.BytesIO(written(RECORDS[:3])), return_record_name=True)
    rows = list(reader)
    rows[1]["fact"][1]["sender"] = rows[1]["fact"][1]["recipient"]
    forged = io.BytesIO()
    fastavro.writer(forged, container_schema(LIFECYCLE), rows)
    assert [true for _, true in read_container(io.BytesIO(forged.getvalue()), LIFECYCLE, 0)] == [True, False, True]


@pytest.mark.parametrize("content", [b"", b"Obj", written(RECORDS)[:-3], b"x" * 100], ids=["empty", "short", "cut", "other"])
def test_what_is_no_container_says_so(content: bytes) -> None:
    with pytest.raises(ContainerDamaged):
        list(read_container(io.BytesIO(content), LIFECYCLE, 0))
