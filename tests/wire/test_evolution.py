"""A field and a fact are added, as docs/evolution.md says: what each release writes, reads, and sets aside on the way."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

import pytest

from schemas.codec import SCHEMA_OF, Codec, DecodeError, all_schemas, load_schema
from schemas.events import FactBase, MessageStored
from tests.builders import ONE_OF_EACH, an_id, stored

V1, V2, PINNED = "message_stored.v1", "message_stored.v2", "message_pinned.v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageStoredSince2(MessageStored):
    """The class with one field more."""

    subject: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagePinned(FactBase):
    """A fact that did not exist."""

    message_id: UUID
    device_id: UUID


def second_version() -> dict[str, Any]:
    schema = deepcopy(load_schema(V1))
    schema["fields"].append({"name": "subject", "type": ["null", "string"], "default": None})
    return schema


def pinned_schema() -> dict[str, Any]:
    """The fields of every fact, as another fact has them, and its own."""
    common = {field.name for field in fields(FactBase)}
    other = load_schema("device_registered.v1")
    uuid = "Uuid"
    own = [{"name": name, "type": uuid} for name in ("message_id", "device_id")]
    return other | {"name": "MessagePinned", "fields": [one for one in other["fields"] if one["name"] in common] + own}


SCHEMAS = all_schemas()
TODAY = Codec(SCHEMA_OF, SCHEMAS)
READY = Codec(SCHEMA_OF, SCHEMAS | {V2: second_version()})
"""The release in between: it can read what the next one writes, and writes what the last one reads."""
_NEXT = {cls: name for cls, name in SCHEMA_OF.items() if cls is not MessageStored} | {MessageStoredSince2: V2}
NEXT = Codec(_NEXT, SCHEMAS | {V2: second_version()})


def later(record: MessageStored, subject: str | None) -> MessageStoredSince2:
    return MessageStoredSince2(**{field.name: getattr(record, field.name) for field in fields(record)}, subject=subject)


def test_the_next_release_reads_what_was_ever_written() -> None:
    for record in ONE_OF_EACH:
        expected = later(record, None) if isinstance(record, MessageStored) else record
        assert NEXT.decode(TODAY.encode(record).value) == expected
    assert NEXT.decode(NEXT.encode(later(stored(), "hello")).value) == later(stored(), "hello")


def test_the_release_in_between_reads_what_the_next_one_writes_without_the_new_field() -> None:
    assert READY.decode(NEXT.encode(later(stored(), "hello")).value) == stored()
    assert READY.encode(stored()) == TODAY.encode(stored())


def test_a_release_that_was_skipped_sets_aside_what_it_cannot_read_until_it_can() -> None:
    written = NEXT.encode(later(stored(), "hello"))
    with pytest.raises(DecodeError, match="a newer version may have written it"):
        TODAY.decode(written.value)
    assert READY.decode(written.value) == stored(), "after the update `restante quarantine replay` brings it back"


def test_the_kind_in_the_headers_names_the_version() -> None:
    assert ("ce_type", b"restante.message_stored.v2") in NEXT.encode(later(stored(), None)).headers


def test_a_new_field_without_a_default_is_found_out() -> None:
    schema = second_version()
    del schema["fields"][-1]["default"]
    codec = Codec(_NEXT, SCHEMAS | {V2: schema})
    with pytest.raises(DecodeError, match="does not fit"):
        codec.decode(TODAY.encode(stored()).value)


def test_a_new_fact_is_read_by_who_knows_it_and_set_aside_by_who_does_not() -> None:
    knows = Codec(SCHEMA_OF | {MessagePinned: PINNED}, SCHEMAS | {PINNED: pinned_schema()})
    common = {field.name: getattr(stored(), field.name) for field in fields(FactBase)}
    fact = MessagePinned(**common, message_id=an_id("msg", 1), device_id=an_id("dev", 1))
    written = knows.encode(fact)
    assert knows.decode(written.value) == fact
    assert written.key == TODAY.encode(stored()).key
    with pytest.raises(DecodeError, match="a newer version may have written it"):
        TODAY.decode(written.value)


def test_every_later_version_can_become_the_one_before_and_the_other_way_round() -> None:
    known = SCHEMAS | {V2: second_version()}
    for name in (name for name in known if not name.endswith(".v1")):
        base, _, number = name.rpartition(".v")
        before = known[f"{base}.v{int(number) - 1}"]
        for written, read in ((known[name], before), (before, known[name])):
            needed = {one["name"] for one in read["fields"] if "default" not in one}
            assert needed <= {one["name"] for one in written["fields"]}
