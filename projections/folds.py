"""What each topic means to the tables. The projector is one for all of them: it takes, checks, fences and moves on."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, get_args
from uuid import UUID

from prometheus_client import Gauge

from projections import apply, receipts
from projections.apply import Applied
from projections.database import Connection, Database
from schemas import metrics
from schemas.events import Fact, MessageStored, Place, Recorded
from schemas.receipt import Receipt
from schemas.topics import LIFECYCLE, RECEIPTS

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold(Generic[R]):
    """One topic. `kinds` are the records that belong into it, `owner` gives the account whose key a record carries, `placed`
    joins a record with its place and append time to what `apply` writes (each partition's in order, inside the caller's
    transaction). `woken` says whose waiting reads that concerns. The gauges tell the lag by partition; `measure` sets what
    else is measured."""

    topic: str
    kinds: frozenset[type[Any]]
    owner: Callable[[Any], UUID]
    placed: Callable[[Any, Place, int], R]
    apply: Callable[[Connection, Iterable[R]], Awaitable[Applied]]
    woken: Callable[[Sequence[R]], set[UUID]]
    lag_records: Gauge
    lag_seconds: Gauge
    measure: Callable[[Database], Awaitable[None]]


def _got_mail(records: Sequence[Recorded]) -> set[UUID]:
    return {recorded.fact.recipient for recorded in records if isinstance(recorded.fact, MessageStored)}


async def _count_waiting(database: Database) -> None:
    metrics.MESSAGES_PENDING.set((await database.tuples(apply.QUERIES["waiting"]))[0][0])


async def _nothing(database: Database) -> None:
    return None


FACTS: Final = Fold(
    topic=LIFECYCLE,
    kinds=frozenset(get_args(Fact)),
    owner=lambda fact: fact.recipient,
    placed=Recorded,
    apply=apply.apply,
    woken=_got_mail,
    lag_records=metrics.PROJECTION_LAG_RECORDS,
    lag_seconds=metrics.PROJECTION_LAG_SECONDS,
    measure=_count_waiting,
)
"""The lifecycle: mailboxes, statuses, trails."""

TOLD: Final = Fold(
    topic=RECEIPTS,
    kinds=frozenset({Receipt}),
    owner=lambda receipt: receipt.sender,
    placed=receipts.Told,
    apply=receipts.apply,
    woken=lambda records: {told.receipt.sender for told in records},
    lag_records=metrics.RECEIPTS_LAG_RECORDS,
    lag_seconds=metrics.RECEIPTS_LAG_SECONDS,
    measure=_nothing,
)
"""Receipts: what senders are told."""
