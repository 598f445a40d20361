"""The bytes of every record: golden examples of every schema version, the Avro specification's own figures, broken bytes."""

import contextlib
import io
import json
from importlib.resources import files
from typing import Any, get_args

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import (
    HEADER_BYTES,
    SCHEMA_OF,
    DecodeError,
    decode,
    encode,
    load_schema,
    single_object_prefix,
    type_name,
    versions_of,
)
from schemas.events import Fact
from schemas.gateways import GatewayLease
from schemas.presence import PresenceRow
from schemas.push import Push
from schemas.quarantined import Quarantined, Replayed
from schemas.receipt import Receipt
from schemas.writing import writer_for
from tests.builders import ONE_OF_EACH, an_id, delivered, entry, pending, stored

AVRO = files("schemas") / "avro"
VERSIONS = sorted(path.name.removesuffix(".avsc") for path in AVRO.iterdir() if path.name.endswith(".avsc"))


def example(name: str) -> dict[str, Any]:
    return json.loads((AVRO / "examples" / f"{name}.json").read_text())


@pytest.mark.parametrize("record", ONE_OF_EACH, ids=lambda record: type(record).__name__)
def test_a_record_comes_back_as_it_was(record: Any) -> None:
    assert decode(encode(record).value) == record


@pytest.mark.parametrize("record", ONE_OF_EACH, ids=lambda record: type(record).__name__)
def test_fastavro_writes_the_same_bytes(record: Any) -> None:
    assert_fastavro_agrees(record)


@given(
    at=st.integers(-(2**63), 2**63 - 1),
    producer=st.text(max_size=40),
    sealed=st.binary(max_size=300),
    count=st.integers(0, 300),
    caused=st.booleans(),
)
def test_fastavro_writes_the_same_bytes_whatever_is_in_them(
    at: int, producer: str, sealed: bytes, count: int, caused: bool
) -> None:
    cause = an_id("ev", 1) if caused else None
    assert_fastavro_agrees(stored(created_at_ms=at, producer=producer, sealed=sealed, causation_id=cause))
    assert_fastavro_agrees(delivered(*(entry(n, at) for n in range(count)), session_id=cause))


def assert_fastavro_agrees(record: Any) -> None:
    """fastavro reads what we wrote, and writes what it read."""
    value, schema = encode(record).value, fastavro.parse_schema(load_schema(SCHEMA_OF[type(record)]))
    again = io.BytesIO()
    fastavro.schemaless_writer(again, schema, fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), schema, None))
    assert again.getvalue() == value[HEADER_BYTES:]
    assert decode(value) == record


def test_a_type_that_nothing_writes_yet_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="double"):
        writer_for({"type": "record", "name": "r", "fields": [{"name": "f", "type": "double"}]})


def test_every_kind_of_record_has_a_schema_and_an_example() -> None:
    kinds = {*get_args(Fact), Push, GatewayLease, Receipt, Quarantined, Replayed, PresenceRow}
    assert set(SCHEMA_OF) == kinds == {type(record) for record in ONE_OF_EACH}
    assert set(SCHEMA_OF.values()) <= set(VERSIONS)
    assert {name.removesuffix(".json") for name in (p.name for p in (AVRO / "examples").iterdir())} == set(VERSIONS)


@pytest.mark.parametrize("name", VERSIONS)
def test_what_was_ever_written_can_be_read(name: str) -> None:
    record = decode(bytes.fromhex(example(name)["value"]))
    assert type_name(type(record)).rsplit(".", 1)[0] == "restante." + name.rsplit(".", 1)[0]


@pytest.mark.parametrize("record", ONE_OF_EACH, ids=lambda record: type(record).__name__)
def test_the_bytes_are_the_golden_ones(record: Any) -> None:
    golden, encoded = example(SCHEMA_OF[type(record)]), encode(record)
    assert encoded.value.hex() == golden["value"]
    assert encoded.key.decode() == golden["key"]
    assert {name: value.decode() for name, value in encoded.headers} == golden["headers"]


@pytest.mark.parametrize(
    ("schema", "fingerprint"),
    [
        ("null", 7195948357588979594),
        ("int", 8247732601305521295),
        ("string", -8142146995180207161),
        ({"fields": [], "type": "record", "name": "foo"}, -4824392279771201922),
    ],
)
def test_fingerprints_are_those_of_the_avro_project(schema: Any, fingerprint: int) -> None:
    """Figures of Avro's share/test/data/schema-tests.txt; single-object encoding wants them little-endian after C3 01."""
    assert single_object_prefix(schema) == b"\xc3\x01" + fingerprint.to_bytes(8, "little", signed=True)


@pytest.mark.parametrize("name", VERSIONS)
def test_fingerprints_follow_the_algorithm_of_the_specification(name: str) -> None:
    schema = load_schema(name)
    canonical = fastavro.schema.to_parsing_canonical_form(schema)
    assert single_object_prefix(schema)[2:] == rabin(canonical.encode()).to_bytes(8, "little")


def rabin(data: bytes) -> int:
    """The 64-bit Rabin fingerprint, as the specification gives it in Java."""
    empty = 0xC15D213AA4D7A795
    fingerprint = empty
    for byte in data:
        step = (fingerprint ^ byte) & 0xFF
        for _ in range(8):
            step = (step >> 1) ^ (empty if step & 1 else 0)
        fingerprint = (fingerprint >> 8) ^ step
    return fingerprint


@pytest.mark.parametrize("written_with", VERSIONS)
def test_every_version_reads_what_every_other_wrote(written_with: str) -> None:
    body = bytes.fromhex(example(written_with)["value"])[HEADER_BYTES:]
    for read_with in versions_of(written_with, VERSIONS):
        fastavro.schemaless_reader(
            io.BytesIO(body),
            fastavro.parse_schema(load_schema(written_with)),
            fastavro.parse_schema(load_schema(read_with)),
        )


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "no value"),
        (b"", "single-object"),
        (b"{}", "single-object"),
        (b"\x00\x00\x00\x00\x01abcdefgh", "single-object"),
        (b"\xc3\x01" + bytes(8), "fingerprint 0000000000000000"),
        (encode(stored()).value[:-1], "does not fit"),
        (encode(stored()).value[:HEADER_BYTES], "does not fit"),
        (encode(stored()).value + b"\x00", "1 bytes follow"),
    ],
)
def test_bytes_that_are_no_record_say_why(value: bytes | None, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        decode(value)


def test_a_word_that_no_enum_knows_is_an_error() -> None:
    value = encode(pending()).value.replace(b"no_session", b"no_sezzion")
    with pytest.raises(DecodeError, match="no_sezzion"):
        decode(value)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A record of any kind, with a few of its bytes changed, left out, put in or said twice."""
    value = bytearray(encode(draw(st.sampled_from(ONE_OF_EACH))).value)
    for _ in range(draw(st.integers(1, 4))):
        at, other = draw(st.integers(0, len(value))), draw(st.binary(max_size=12))
        value[at : at + draw(st.integers(0, 8))] = draw(st.sampled_from([other, bytes(value[at : at + 9]) * 2]))
    return bytes(value)


@settings(max_examples=300)
@given(mutations())
def test_a_broken_record_is_another_record_or_an_error_and_never_a_crash(value: bytes) -> None:
    with contextlib.suppress(DecodeError):
        record = decode(value)
        assert decode(encode(record).value) == record


@settings(max_examples=200)
@given(st.sampled_from(ONE_OF_EACH), st.binary(max_size=200))
def test_arbitrary_bytes_never_crash_the_reader(record: Any, body: bytes) -> None:
    for prefix in (b"", encode(record).value[:HEADER_BYTES]):
        with contextlib.suppress(DecodeError):
            decode(prefix + body)
