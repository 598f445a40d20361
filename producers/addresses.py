"""Where a record goes: topic by its kind, partition by its key."""

from collections.abc import Mapping

from producers.lanes import Place
from producers.log import MAX_RECORD_BYTES, RecordTooLarge
from schemas.codec import Encoded, Record, encode, key_of
from schemas.events import FactBase
from schemas.partitions import partition_for, partition_of_key
from schemas.push import Push
from schemas.receipt import Receipt
from schemas.topics import TOPIC_OF


def address(record: Record, partition: int | None, partitions: Mapping[str, int]) -> tuple[Place, Encoded]:
    """Place and bytes of a record. `partitions` holds the number of partitions by topic. Raises `RecordTooLarge`, and
    ValueError for a partition that does not exist or a push without one (only the gateway knows where it listens)."""
    topic = TOPIC_OF[type(record)]
    count = partitions[topic]
    if partition is None:
        partition = _partition_of(record, count)
    elif not 0 <= partition < count:
        raise ValueError(f"{topic} has {count} partitions, so there is no partition {partition}")
    encoded = encode(record)
    if len(encoded.value) > MAX_RECORD_BYTES:
        raise RecordTooLarge(
            f"a {type(record).__name__} of {len(encoded.value):,} bytes is over the limit of {MAX_RECORD_BYTES:,}. "
            "Limit what goes into it before it becomes a fact"
        )
    return (topic, partition), encoded


def _partition_of(record: Record, count: int) -> int:
    if isinstance(record, Push):
        raise ValueError("a push goes to the partition where its gateway listens: say which")
    if isinstance(record, FactBase):
        return partition_for(record.recipient, count)
    if isinstance(record, Receipt):
        return partition_for(record.sender, count)  # remembered, and as many as the messages
    return partition_of_key(key_of(record), count)
