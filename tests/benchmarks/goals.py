"""The table of figures to reach, and whether they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

Figures = Mapping[str, float]


class Verdict(StrEnum):
    """How a figure stands to its goal."""

    AIM = "aim reached"
    REACHED = "reached"
    MISSED = "missed"
    NONE = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound: absolute in the figure's unit, or a multiple of the peer's figure."""

    value: float
    times_peer: bool = False

    def shown(self, unit: str) -> str:
        """As in the table of the issue."""
        return f"{self.value:g} x diy" if self.times_peer else f"{self.value:,g} {unit}".strip()


def times(value: float) -> Limit:
    """A multiple of the peer's figure."""
    return Limit(value, times_peer=True)


@dataclass(frozen=True, slots=True)
class Goal:
    """A row. `figure` and `peer` name figures of the two services; without a peer there is no ratio."""

    label: str
    figure: str
    unit: str
    peer: str | None = None
    more_is_better: bool = True
    reach: Limit | None = None
    aim: Limit | None = None

    def verdict(self, ours: Figures, peers: Figures) -> Verdict:
        """Whether it is reached; NONE where there is no goal or nothing to compare."""
        if self.figure not in ours:
            return Verdict.NONE
        met = [limit is not None and self._met(ours[self.figure], limit, peers) for limit in (self.reach, self.aim)]
        if None in met or not (self.reach or self.aim):
            return Verdict.NONE
        if met[1] and (met[0] or self.reach is None):
            return Verdict.AIM
        if self.reach is None:
            return Verdict.NONE
        return Verdict.REACHED if met[0] else Verdict.MISSED

    def ratio(self, ours: Figures, peers: Figures) -> float | None:
        """Ours by the peer's."""
        if self.figure not in ours or not self.peer or not peers.get(self.peer):
            return None
        return ours[self.figure] / peers[self.peer]

    def _met(self, value: float, limit: Limit, peers: Figures) -> bool | None:
        if limit.times_peer and (self.peer is None or self.peer not in peers):
            return None
        bound = limit.value * (peers[self.peer] if limit.times_peer and self.peer else 1.0)
        return value >= bound if self.more_is_better else value <= bound


GOALS: tuple[Goal, ...] = (
    Goal("POST one by one, 64 connections", "accept_per_s", "msg/s", "accept_per_s", reach=times(1), aim=times(1.5)),
    Goal("  p50", "accept_p50_ms", "ms", "accept_p50_ms", more_is_better=False),
    Goal("  p99", "accept_p99_ms", "ms", "accept_p99_ms", more_is_better=False, aim=times(0.5)),
    Goal("POST in batches of 100", "batch_per_s", "msg/s", "accept_per_s", reach=times(4), aim=Limit(40_000)),
    Goal("  p50 of a batch", "batch_p50_ms", "ms", more_is_better=False),
    Goal("  p99 of a batch", "batch_p99_ms", "ms", more_is_better=False),
    Goal("one by one until decided and in the mailbox", "sustained_per_s", "msg/s", "sustained_per_s",
         reach=times(0.6), aim=times(1)),
    Goal("  in batches of 100", "batch_sustained_per_s", "msg/s", "sustained_per_s", reach=times(0.6), aim=times(1)),
    Goal("CPU of a whole life, all roles", "life_cpu_us", "us/msg", "life_cpu_us", more_is_better=False,
         reach=times(2), aim=times(1)),
    Goal("  while accepting", "accept_cpu_us", "us/msg", "accept_cpu_us", more_is_better=False),
    Goal("  to drain", "drain_cpu_us", "us/msg", "drain_cpu_us", more_is_better=False),
    Goal("drain, 20 a recipient", "drain_20_per_s", "msg/s", "drain_20_per_s", reach=times(0.5), aim=times(1)),
    Goal("drain, 100 a recipient", "drain_100_per_s", "msg/s", "drain_100_per_s", reach=times(0.5), aim=times(1)),
    Goal("first page of the deep mailbox, median of 20", "deep_first_page_ms", "ms", "deep_first_page_ms",
         more_is_better=False, reach=Limit(15), aim=Limit(5)),
    Goal("  the very first", "deep_first_page_cold_ms", "ms", "deep_first_page_cold_ms", more_is_better=False,
         reach=Limit(15), aim=Limit(5)),
    Goal("  of a mailbox of one page", "shallow_first_page_ms", "ms", "shallow_first_page_ms", more_is_better=False),
    Goal("drain of the deep mailbox alone", "deep_drain_per_s", "msg/s", "deep_drain_per_s"),
    Goal("push: from 202 to frame at 500 msg/s, p50", "push_p50_ms", "ms", more_is_better=False,
         reach=Limit(20), aim=Limit(8)),
    Goal("  p99", "push_p99_ms", "ms", more_is_better=False, reach=Limit(80), aim=Limit(30)),
    Goal("pushed and acknowledged, sent in batches of 100", "pushed_per_s", "msg/s", reach=Limit(2_000), aim=Limit(4_000)),
    Goal("  sent one by one", "pushed_single_per_s", "msg/s", reach=Limit(2_000), aim=Limit(4_000)),
    Goal("connect to caught_up, 10,000 waiting (quick: 2,000)", "caught_up_s", "s", more_is_better=False,
         reach=Limit(1.5), aim=Limit(0.5)),
    Goal("memory an idle socket, 2,000 of them (quick: 200)", "socket_kib", "KiB", more_is_better=False,
         reach=Limit(40), aim=Limit(26)),
    Goal("  sockets that stayed open", "idle_sockets", ""),
    Goal("  all roles' time meanwhile", "idle_sockets_cpu_percent", "% of a core", more_is_better=False),
    Goal("2,000 long polls waiting (quick: 200)", "long_polls_cpu_percent", "% of a core", more_is_better=False,
         reach=Limit(2)),
    Goal("memory, Python roles, all waiting by none", "memory_ratio", "", more_is_better=False, reach=Limit(1.2)),
    Goal("  by just started and signed up", "memory_ratio_fresh", "", more_is_better=False, reach=Limit(1.2)),
)  # fmt: skip


def complete(figures: dict[str, float]) -> dict[str, float]:
    """Add the figures that are made of others."""
    waiting = figures.get("pss_waiting_mib")
    for name, when in (("memory_ratio", "none"), ("memory_ratio_fresh", "fresh")):
        if waiting and figures.get(f"pss_{when}_mib"):
            figures[name] = waiting / figures[f"pss_{when}_mib"]
    return figures
