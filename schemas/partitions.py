"""Which partition a key lives in: Kafka's own rule (murmur2, as the Java client), so that any client finds the same one."""

from functools import lru_cache
from uuid import UUID

_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def recipient_key(recipient: UUID) -> bytes:
    """The record key of everything about one recipient: the id as text, readable in any Kafka tool."""
    return str(recipient).encode()


@lru_cache(maxsize=65536)
def partition_for(recipient: UUID, partitions: int) -> int:
    """The partition (0 to partitions - 1) of a recipient's facts."""
    return partition_of_key(recipient_key(recipient), partitions)


def partition_of_key(key: bytes, partitions: int) -> int:
    """The partition of any key, as Kafka's default partitioner chooses it."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """MurmurHash2 with Kafka's seed, as an unsigned 32-bit integer."""
    length = len(data)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little")
        k = (k * _M) & _MASK
        k ^= k >> 24
        h = ((h * _M) & _MASK) ^ ((k * _M) & _MASK)
    rest = data[whole:]
    if rest:
        h ^= int.from_bytes(rest, "little")
        h = (h * _M) & _MASK
    h ^= h >> 13
    h = (h * _M) & _MASK
    return h ^ (h >> 15)
