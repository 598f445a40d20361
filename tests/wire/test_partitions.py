"""Kafka's partitioner, checked against the figures of the Java client's own test (UtilsTest.testMurmur2)."""

import uuid

import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st

from schemas.partitions import murmur2, partition_for, recipient_key


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_the_java_clients(data: bytes, expected: int) -> None:
    assert murmur2(data) == expected & 0xFFFFFFFF


@given(st.binary(max_size=64))
def test_murmur2_is_the_python_clients(data: bytes) -> None:
    assert murmur2(data) == aiokafka_murmur2(data) & 0xFFFFFFFF


@given(st.uuids(), st.integers(1, 64))
def test_a_recipient_has_one_partition(recipient: uuid.UUID, partitions: int) -> None:
    assert recipient_key(recipient) == str(recipient).encode()
    assert 0 <= partition_for(recipient, partitions) < partitions
