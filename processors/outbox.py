"""Appending decisions until the log has them all."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from schemas.codec import Record
from schemas.events import FactBase

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 5.0
MOST_AT_ONCE = 2_000
"""A run of acknowledgements may ask for 250,000 receipts; a log refuses what does not fit into its memory as a whole."""


class Log(Protocol):
    """What the processor needs of the log (the EventLog port of `producers`, which must not be imported here)."""

    async def append_all(
        self, records: Sequence[Record], *, partitions: Sequence[int | None] | None = None
    ) -> Sequence[Any]:
        """Append each record on its own. Answers in the same order: an exception for one that may not be in the log."""

    async def ends(self) -> Mapping[int, int]:
        """For each lifecycle partition the offset after its last readable record."""


async def append_until_held(
    log: Log, records: Sequence[Record], partitions: Sequence[int | None], *, waiting: Callable[[bool], None]
) -> None:
    """Returns once the log has every record, however long that takes; an unknown outcome is written again, with the same id.

    Facts come first, and the rest once the log has them: a client that acknowledges what it was pushed must not overtake the
    record that says so. None among `partitions` is the one of the record's key. `waiting` is told True when the log refused
    some, and False when it has them all.
    """
    pairs = list(zip(records, partitions, strict=True))
    facts = [pair for pair in pairs if isinstance(pair[0], FactBase)]
    rest = [pair for pair in pairs if not isinstance(pair[0], FactBase)]
    for part in (facts, rest):
        for first in range(0, len(part), MOST_AT_ONCE):
            await _append(log, part[first : first + MOST_AT_ONCE], waiting)


async def _append(log: Log, left: list[tuple[Record, int | None]], waiting: Callable[[bool], None]) -> None:
    pause = FIRST_PAUSE_SECONDS
    while left:
        answers = await log.append_all([record for record, _ in left], partitions=[place for _, place in left])
        left = [pair for pair, answer in zip(left, answers, strict=True) if isinstance(answer, Exception)]
        waiting(bool(left))
        if left:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
