"""Faust's transport, bent in one place: the lifecycle topic is read in runs, and its offsets are ours.

Stock Faust makes an event of each record (about 90 us) and guesses from acknowledged events what may be committed; both its
guesses and its `finally` acknowledgements lose records (docs/decisions/0004). Here one fetch is one event, with a run of
records for each partition that had some. Faust's acknowledgements are off for that topic, and `ledger` alone says what is
committed. Changelogs keep Faust's ways.

Lifecycle records are fetched only while Faust is not rebalancing or recovering and the ledger has room. So nothing of ours
sits in Faust's queues when it empties them, and memory is bounded without its back-pressure, which sleeps a second.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP, AppT, ConsumerMessage
from faust.types.tuples import Message

from processors.errors import LogHasHole
from processors.ledger import Ledger, Refused, Run

FEW_RECORDS = 400
"""After a fetch of fewer, nothing is fetched ahead of the next one."""

PATIENCE = 5
"""How often in a row a partition may come with a gap before it counts as a hole in the log."""

_PAUSE_SECONDS = 0.02
PACE_SECONDS = 0.015
"""From one fetch that brought something to the next at the least. A broker that flushes partition by partition hands out
records a few at a time; waiting makes fewer and longer runs."""


class OnDemand(AIOKafkaConsumerThread):
    """Fetches when it is asked, and not ahead of it.

    aiokafka fetches ahead: at once, answered with the first record that comes, and that partition is not asked again until
    this is taken. What comes meanwhile waits for the take after the next one. And where every partition has such a record,
    it asks for the changelogs alone: the broker holds that request for half a second, and nothing else is asked meanwhile.
    """

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Mapping[TP, list[Any]]:
        assigned = consumer.assignment()
        consumer.pause(*(at for at in assigned if at not in active_partitions))
        consumer.resume(*(at for at in assigned if at in active_partitions))
        fetched = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        if 0 < sum(map(len, fetched.values())) < FEW_RECORDS:
            consumer.pause(*consumer.assignment())
        return fetched


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one fetch brought of the lifecycle topic: runs to take up, and partitions that must be fetched again."""

    runs: list[Run]
    gaps: list[TP]


class RunConsumer(Consumer):
    """Reads the lifecycle topic in runs, everything else as Faust does."""

    transport: "RunTransport"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._ledger = self.transport.ledger
        self._lifecycle = self.transport.lifecycle
        self._room = asyncio.Event()
        self._fetching = asyncio.Lock()
        self._gaps: dict[int, int] = {}
        self._fetched = 0.0

    def _new_consumer_thread(self) -> OnDemand:
        return OnDemand(self, loop=self.loop, beacon=self.beacon)

    def finish(self, run: Run) -> None:
        """All that a run asked for is in the log: its records need not be read again."""
        self._ledger.finish(run)
        self._room.set()

    async def rewind(self, partition: int) -> None:
        """Read a partition again from where everything is done."""
        offset = self._ledger.done(partition)
        if offset is not None:
            self._ledger.restart(partition, offset)
            self._room.set()
            await self.seek_wait({TP(self._lifecycle, partition): offset})

    def end(self, partition: int) -> int | None:
        """The end of a partition as the latest fetch reported it, None before the first."""
        tp = TP(self._lifecycle, partition)
        return self.highwater(tp) if tp in self.assignment() else None

    # -- reading ---------------------------------------------------------------------------------------------------

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Mapping[TP, list[Any]]:
        wanted = active_partitions or set()
        if self.app.rebalancing or not self._ledger.has_room:
            wanted = {tp for tp in wanted if tp.topic != self._lifecycle}
            if not wanted:
                await self._wait_for_room(timeout)
                return {}
        await asyncio.sleep(max(0.0, self._fetched + PACE_SECONDS - self.loop.time()))
        async with self._fetching:
            fetched = await super()._getmany(wanted, timeout) if self.flow_active else {}
        if fetched:
            self._fetched = self.loop.time()
        return self._as_one(fetched)

    def _as_one(self, fetched: Mapping[TP, list[Any]]) -> dict[TP, list[Any]]:
        """All of the lifecycle topic under the first of its partitions: an event costs Faust two tasks."""
        own = {tp: records for tp, records in fetched.items() if tp.topic == self._lifecycle}
        others = {tp: records for tp, records in fetched.items() if tp.topic != self._lifecycle}
        return others | {min(own): [own]} if own else others

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Seek once the fetch under way is over.

        Faust drops what a fetch brings while its flow is stopped, and seeks changelogs then. A fetch that began before the
        seek and ended after it would take records along that the table's recovery then awaits for ever. (Faust means to wait
        for it, too, but its `not_waiting_next_records` is never cleared.) The lifecycle topic need not wait: a record of it
        that is lost in this way is a gap to the ledger, and is fetched again.
        """
        if all(tp.topic == self._lifecycle for tp in partitions):
            await super().seek_wait(partitions)
        else:
            async with self._fetching:
                await super().seek_wait(partitions)

    async def _wait_for_room(self, timeout: float) -> None:
        if self.app.rebalancing:
            await asyncio.sleep(_PAUSE_SECONDS)
            return
        self._room.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._room.wait()
        except TimeoutError:
            return

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        if tp.topic != self._lifecycle:
            return super()._to_message(tp, record)
        message = super()._to_message(tp, record[tp][0])
        message.offset = max(
            message.offset, self._read_offset[tp] or 0
        )  # Faust drops what it takes for old; the ledger says
        offers = {part: self._offer(part, records) for part, records in record.items()}
        message.value = Fetched(  # type: ignore[assignment]
            [run for run in offers.values() if isinstance(run, Run)],
            [part for part, run in offers.items() if run is Refused.GAP],
        )
        return message

    def _offer(self, tp: TP, records: list[Any]) -> Run | Refused:
        run = Refused.GAP if self.app.rebalancing else self._ledger.offer(tp.partition, records)
        if isinstance(run, Run):
            self._gaps.pop(tp.partition, None)
        return run

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """Messages as Faust wants them; fetched records that make no run are left out, and fetched again where needed."""
        async for tp, message in super().getmany(timeout):
            value: object = message.value
            if not isinstance(value, Fetched):
                yield tp, message
                continue
            for gap in value.gaps:
                await self._fetch_again(gap)
            if value.runs:
                yield tp, message

    async def _fetch_again(self, tp: TP) -> None:
        wanted = self._ledger.wanted(tp.partition)
        if wanted is None:
            return
        if not self.app.rebalancing:
            self._gaps[tp.partition] = self._gaps.get(tp.partition, 0) + 1
            if self._gaps[tp.partition] > PATIENCE:
                raise LogHasHole(f"{tp.topic}/{tp.partition} has no record at offset {wanted}, though later ones are there")
        await self.seek_wait({tp: wanted})

    def on_buffer_full(self, tp: TP) -> None:
        """Faust would stop fetching and sleep; the ledger bounds what is in memory."""
        if tp.topic != self._lifecycle:
            super().on_buffer_full(tp)

    # -- offsets ---------------------------------------------------------------------------------------------------

    async def perform_seek(self) -> None:
        """Go back to what is committed. Where nothing is, to the beginning: stock Faust stays where it is, and skips."""
        await super().perform_seek()
        own = [tp for tp in self.assignment() if tp.topic == self._lifecycle]
        fresh = [tp for tp in own if not self._committed_offset[tp]]
        starts = {tp: self._committed_offset[tp] or 0 for tp in own}
        if fresh:
            starts |= await self.earliest_offsets(*fresh)
            await self.seek_wait({tp: starts[tp] for tp in fresh})
        self._gaps.clear()
        for tp in own:
            self._ledger.restart(tp.partition, starts[tp])
        self._room.set()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Commit what is done while we still may, so that the next owner replays little."""
        await self.commit()
        self._ledger.drop(tp.partition for tp in revoked if tp.topic == self._lifecycle)
        await super().on_partitions_revoked(revoked)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        ours = (TP(self._lifecycle, partition) for partition in self._ledger.partitions)
        others: Iterable[TP] = super()._filter_tps_with_pending_acks(topics)
        yield from (tp for tp in others if tp.topic != self._lifecycle)
        yield from (tp for tp in ours if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic != self._lifecycle:
            return super()._new_offset(tp)
        return self._ledger.committable(tp.partition)


class RunTransport(Transport):
    """The aiokafka transport with the consumer above."""

    Consumer = RunConsumer

    def __init__(self, app: AppT, *, lifecycle: str, ledger: Ledger) -> None:
        super().__init__(app.conf.broker_consumer, app)
        self.lifecycle = lifecycle
        self.ledger = ledger
