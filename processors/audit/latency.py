"""Times counted in classes: any number of them in a few kilobytes, percentiles exact to about 3 %."""

from dataclasses import dataclass, field
from typing import Final

_FINE_BITS: Final = 5


@dataclass(slots=True)
class Latency:
    """Milliseconds. Below 64 each has a class of its own; above, every power of two is cut into 32."""

    classes: dict[int, int] = field(default_factory=dict)
    count: int = 0

    def add(self, milliseconds: int) -> None:
        """One more time; what a clock makes negative counts as none."""
        value = milliseconds if milliseconds > 0 else 0
        shift = max(0, value.bit_length() - _FINE_BITS - 1)
        lowest = value >> shift << shift
        self.classes[lowest] = self.classes.get(lowest, 0) + 1
        self.count += 1

    def include(self, other: "Latency") -> None:
        """Those of another partition."""
        for lowest, count in other.classes.items():
            self.classes[lowest] = self.classes.get(lowest, 0) + count
        self.count += other.count

    def percentile(self, percent: float) -> int | None:
        """The lower bound of the class in which this share of the times is reached; None where there are none."""
        wanted, seen = self.count * percent / 100, 0
        for lowest in sorted(self.classes):
            seen += self.classes[lowest]
            if seen >= wanted:
                return lowest
        return None
