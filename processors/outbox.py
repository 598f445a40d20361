"""Appending decisions until the log has them all."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from schemas.codec import Record
from schemas.events import FactBase
from schemas.push import Push

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 5.0
MOST_AT_ONCE = 2_000
"""A run of acknowledgements may ask for 250,000 receipts; a log refuses what does not fit into its memory as a whole."""

_Part = list[tuple[Record, int | None]]


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

    A push leaves once the log has the facts: a client that acknowledges it must not overtake the record that says so. The
    rest waits for nothing, and nothing for it. None among `partitions` is the one of the record's key. `waiting` is told
    True when the log refused some, and False when it has them all.
    """
    facts, pushes, rest = _Part(), _Part(), _Part()
    for record, partition in zip(records, partitions, strict=True):
        part = facts if isinstance(record, FactBase) else pushes if isinstance(record, Push) else rest
        part.append((record, partition))
    if not rest:
        await _append_in_turn(log, (facts, pushes), waiting)
    elif not facts and not pushes:
        await _append_in_turn(log, (rest,), waiting)
    else:
        await asyncio.gather(_append_in_turn(log, (facts, pushes), waiting), _append_in_turn(log, (rest,), waiting))


async def _append_in_turn(log: Log, parts: Iterable[_Part], waiting: Callable[[bool], None]) -> None:
    for part in parts:
        for first in range(0, len(part), MOST_AT_ONCE):
            await _append(log, part[first : first + MOST_AT_ONCE], waiting)


async def _append(log: Log, left: _Part, waiting: Callable[[bool], None]) -> None:
    pause = FIRST_PAUSE_SECONDS
    while left:
        answers = await log.append_all([record for record, _ in left], partitions=[place for _, place in left])
        left = [pair for pair, answer in zip(left, answers, strict=True) if isinstance(answer, Exception)]
        waiting(bool(left))
        if left:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
