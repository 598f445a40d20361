"""Which gateways are lost: pure, the clock is an argument (monotonic seconds of this process).

A gateway says on `restante.gateways` that it lives. It is lost when no renewal was *read* for a whole lease, and even then
judged only once both topics were read up to the ends that they had after the lease lapsed: a renewal, or the end of a
session, may wait there unread. While the log is away nobody can renew, so every clock begins anew; likewise where this
process itself stood still. What was never heard of has a lease from when it was first seen, which after a start or a
rebalance gives every gateway time to speak. `ended` lapses at once.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from schemas.gateways import GatewayLease

STANDSTILL: Final = 1 / 3
"""Of a lease. Who has not looked for so long, or never, does not know what the others could do meanwhile."""


@dataclass(frozen=True, slots=True)
class Reach:
    """An offset for each partition of the lifecycle and of the gateways topic: their ends, or up to where they were read."""

    lifecycle: Mapping[int, int]
    gateways: Mapping[int, int]

    def covers(self, ends: "Reach") -> bool:
        """Whether all that we read of the lifecycle, and all gateways' leases, were read up to these ends."""
        return all(offset >= ends.lifecycle.get(partition, 0) for partition, offset in self.lifecycle.items()) and all(
            self.gateways.get(partition, 0) >= end for partition, end in ends.gateways.items()
        )


@dataclass(slots=True)
class _Lease:
    since: float
    seconds: float
    ended: bool = False
    ends: Reach | None = None

    def lapsed(self, now: float) -> bool:
        return self.ended or now - self.since >= self.seconds


class Leases:
    """The leases as this process has read them. `seconds` is the lease of a gateway that was never heard of."""

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds
        self._known: dict[str, _Lease] = {}
        self._looked: float | None = None

    def heard(self, lease: GatewayLease, now: float) -> None:
        """A lease was read."""
        self._known[lease.gateway] = _Lease(now, lease.lease_ms / 1000, lease.ended)

    def lost(self, mentioned: Collection[str], now: float, ends: Reach | None, read: Reach) -> set[str]:
        """Which of the gateways that have sessions here are lost. To be asked several times a lease.

        `ends` was asked after `now` (None: the log did not answer), `read` is where reading stands after that.
        """
        stood_still = self._looked is None or now - self._looked > self._seconds * STANDSTILL
        self._looked = now
        if ends is None or stood_still:
            self._begin_anew(now)
            return set()
        self._forget(mentioned, now)
        return {gateway for gateway in mentioned if self._is_lost(gateway, now, ends, read)}

    def _is_lost(self, gateway: str, now: float, ends: Reach, read: Reach) -> bool:
        lease = self._known.setdefault(gateway, _Lease(now, self._seconds))
        if not lease.lapsed(now):
            return False
        if lease.ends is None:
            lease.ends = ends
        return read.covers(lease.ends)

    def _begin_anew(self, now: float) -> None:
        for lease in self._known.values():
            lease.since = now
            lease.ends = None

    def _forget(self, mentioned: Collection[str], now: float) -> None:
        """Gateways of long ago without sessions here: the topic keeps the last word of each for ever."""
        past = [name for name, lease in self._known.items() if name not in mentioned and now - lease.since >= lease.seconds]
        for name in past:
            del self._known[name]
