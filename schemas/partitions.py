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


NOT_AT_HOME = "the key or the partition is not the one of the account that it is about"


def at_home(key: bytes | None, partition: int, partitions: int, account: UUID) -> bool:
    """Whether a record about `account` stands under its key and in that key's partition. Elsewhere who reads by account
    would miss it, or somebody else would find it."""
    return _home(key, partitions) == (account.int, partition)


@lru_cache(maxsize=65_536)
def _home(key: bytes | None, partitions: int) -> tuple[int, int] | None:
    """The account that a key names and the partition where it belongs; None for what is no key of ours."""
    try:
        account = UUID((key or b"").decode())
    except ValueError:
        return None
    return (account.int, partition_of_key(key or b"", partitions)) if recipient_key(account) == key else None


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
