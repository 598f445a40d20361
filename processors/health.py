"""How the processor is, for the role's health calls."""

from dataclasses import dataclass, field

STALLED_AFTER_SECONDS = 60.0


@dataclass(slots=True)
class Health:
    """Filled by the processor, read by whoever asks. `lag`: records not yet decided, by partition, at the last look."""

    reading: bool = False
    log_refuses: bool = False
    lag: dict[int, int] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """True while records are read and their decisions find their way into the log."""
        return self.reading and not self.log_refuses

    @property
    def reasons(self) -> list[str]:
        """Why not, for people."""
        reasons = []
        if not self.reading:
            reasons.append("the processor has no partitions yet: it joins its group or recovers its table")
        if self.log_refuses:
            reasons.append("the log takes no decisions: look at Kafka")
        return reasons


class Watch:
    """Notices that records wait and none is processed, which a client may do for ever after an outage of all brokers."""

    def __init__(self, *, patience: float = STALLED_AFTER_SECONDS) -> None:
        self._patience = patience
        self._waiting: dict[int, tuple[int, float]] = {}

    def stalled(self, done: dict[int, int], ends: dict[int, int], now: float) -> list[int]:
        """Partitions with records waiting that have not moved for `patience` seconds. `now` is a monotonic time."""
        behind = {partition: offset for partition, offset in done.items() if offset < ends.get(partition, 0)}
        for partition in self._waiting.keys() - behind.keys():
            del self._waiting[partition]
        for partition, offset in behind.items():
            if self._waiting.get(partition, (None, 0.0))[0] != offset:
                self._waiting[partition] = (offset, now)
        return [partition for partition, (_, since) in self._waiting.items() if now - since >= self._patience]

    def forget(self) -> None:
        """Start anew: nobody could look, so nobody knows who waited."""
        self._waiting.clear()
