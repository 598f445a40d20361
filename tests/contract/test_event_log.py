"""The contract of the event log, held by the one in memory and the one on a real broker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

import pytest

from producers.apart import PushesApart
from producers.connection import KafkaConnection
from producers.kafka import KafkaLog
from producers.log import Appended, EventLog, LogUnavailable, RecordTooLarge
from producers.memory import MemoryLog
from producers.stripes import StripedLog
from producers.topics import create_topics
from schemas.codec import Encoded, Record, decode, encode
from schemas.events import MessageStored
from schemas.partitions import partition_for
from schemas.presence import PresenceRow
from schemas.topics import LIFECYCLE, PUSH, RECEIPTS, TOPIC_OF
from tests import builders
from tests.topic_reader import read_partition

pytestmark = pytest.mark.anyio

RECIPIENTS = [builders.an_id("acct", number) for number in range(100, 140)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Trial(Protocol):
    """A log under test and a way to look behind it."""

    log: EventLog

    async def another(self) -> EventLog:
        """A second log on the same records, or the same one where that cannot be."""

    async def read(self, topic: str, partition: int, first: int, last: int) -> Sequence[tuple[Encoded, int]]:
        """What a reader finds from offset `first` to `last`, with append times."""


Kind = type[KafkaLog] | type[StripedLog] | type[PushesApart]


@dataclass
class InMemory:
    log: MemoryLog

    async def another(self) -> EventLog:
        return self.log

    async def read(self, topic: str, partition: int, first: int, last: int) -> Sequence[tuple[Encoded, int]]:
        return [(held.encoded, held.appended.at_ms) for held in self.log.held(topic, partition)[first : last + 1]]


@dataclass
class OnKafka:
    kind: Kind
    log: EventLog
    connection: KafkaConnection
    stack: AsyncExitStack

    async def another(self) -> EventLog:
        return await self.stack.enter_async_context(self.kind(self.connection))

    async def read(self, topic: str, partition: int, first: int, last: int) -> Sequence[tuple[Encoded, int]]:
        found = await read_partition(self.connection.bootstrap, topic, partition, first, last)
        return [(Encoded(one.key, one.value, list(one.headers)), one.timestamp) for one in found]


@pytest.fixture(params=[None, KafkaLog, StripedLog, PushesApart], ids=["memory", "kafka", "stripes", "apart"])
def kind(request: pytest.FixtureRequest) -> Kind | None:
    """A log on Kafka; None for the one in memory."""
    return request.param


@pytest.fixture
def bootstrap(request: pytest.FixtureRequest, kind: object) -> str | None:
    """Address of a broker; None for the log in memory, which needs none."""
    return request.getfixturevalue("kafka") if kind else None


@pytest.fixture
async def trial(bootstrap: str | None, kind: Kind | None) -> AsyncIterator[Trial]:
    async with AsyncExitStack() as stack:
        if bootstrap is None or kind is None:
            yield InMemory(await stack.enter_async_context(MemoryLog(8)))
        else:
            connection = KafkaConnection(bootstrap=bootstrap)
            await create_topics(connection, partitions=8)
            yield OnKafka(kind, await stack.enter_async_context(kind(connection)), connection, stack)


def _facts(count: int, series: int = 0) -> list[MessageStored]:
    """Messages for many recipients in turn, each recognisable."""
    numbers = range(series * 10_000, series * 10_000 + count)
    return [builders.stored(number, recipient=RECIPIENTS[number % len(RECIPIENTS)]) for number in numbers]


def _appended(answers: Sequence[Appended | LogUnavailable]) -> list[Appended]:
    for answer in answers:
        if isinstance(answer, LogUnavailable):
            raise answer
    return [answer for answer in answers if isinstance(answer, Appended)]


async def test_a_record_is_found_where_the_answer_says(trial: Trial) -> None:
    fact = builders.stored()
    appended = await trial.log.append(fact)
    assert (appended.topic, appended.partition) == (LIFECYCLE, partition_for(fact.recipient, trial.log.partitions))
    [(found, at_ms)] = await trial.read(LIFECYCLE, appended.partition, appended.offset, appended.offset)
    assert (found, at_ms) == (encode(fact), appended.at_ms)
    assert decode(found.value) == fact


async def test_every_kind_of_record_goes_to_its_topic(trial: Trial) -> None:
    for record in builders.ONE_OF_EACH:
        if isinstance(record, PresenceRow):
            continue  # the processor's table writes these itself
        partition = 1 if TOPIC_OF[type(record)] == PUSH else None
        appended = await trial.log.append(record, partition=partition)
        assert appended.topic == TOPIC_OF[type(record)]
        [(found, _)] = await trial.read(appended.topic, appended.partition, appended.offset, appended.offset)
        assert decode(found.value) == record


async def test_answers_of_append_all_come_in_the_order_of_the_records(trial: Trial) -> None:
    facts = _facts(300)
    places = _appended(await trial.log.append_all(facts))
    assert [place.partition for place in places] == [partition_for(fact.recipient, trial.log.partitions) for fact in facts]
    assert await _records_at(trial, places) == [(fact, place.at_ms) for fact, place in zip(facts, places, strict=True)]


async def test_append_all_of_nothing_is_nothing(trial: Trial) -> None:
    assert await trial.log.append_all([]) == []


async def test_one_recipients_records_keep_their_order_in_a_crowd(trial: Trial) -> None:
    facts = _facts(1000)
    places = await asyncio.gather(*(trial.log.append(fact) for fact in facts))
    assert len({(place.partition, place.offset) for place in places}) == len(facts)
    _assert_ordered(facts, places)
    assert [fact for fact, _ in await _records_at(trial, places)] == facts


async def test_single_and_many_keep_the_order_of_the_calls(trial: Trial) -> None:
    facts = [builders.stored(number) for number in range(30)]
    many = asyncio.create_task(trial.log.append_all(facts[:10]))
    await asyncio.sleep(0)
    singles = [asyncio.create_task(trial.log.append(fact)) for fact in facts[10:20]]
    await asyncio.sleep(0)
    last = asyncio.create_task(trial.log.append_all(facts[20:]))
    places = [*_appended(await many), *(await asyncio.gather(*singles)), *_appended(await last)]
    _assert_ordered(facts, places)


async def test_two_logs_at_once_lose_and_mix_nothing(trial: Trial) -> None:
    other = await trial.another()
    ours, theirs = _facts(400, series=1), _facts(400, series=2)
    answers = await asyncio.gather(
        asyncio.gather(*(trial.log.append(fact) for fact in ours)),
        asyncio.gather(*(other.append(fact) for fact in theirs)),
    )
    places = [*answers[0], *answers[1]]
    assert len({(place.partition, place.offset) for place in places}) == 800
    _assert_ordered(ours, answers[0])
    _assert_ordered(theirs, answers[1])
    assert [fact for fact, _ in await _records_at(trial, places)] == [*ours, *theirs]


async def test_a_partition_that_was_asked_for_is_taken(trial: Trial) -> None:
    facts = _facts(3)
    places = _appended(await trial.log.append_all(facts, partitions=[5, 0, 5]))
    assert [place.partition for place in places] == [5, 0, 5]
    assert (await trial.log.append(facts[0], partition=7)).partition == 7


@pytest.mark.parametrize("partition", [-1, 8])
async def test_a_partition_that_is_not_there_is_an_error(trial: Trial, partition: int) -> None:
    with pytest.raises(ValueError, match="8 partitions"):
        await trial.log.append(builders.stored(), partition=partition)


async def test_a_push_needs_its_partition(trial: Trial) -> None:
    with pytest.raises(ValueError, match="gateway"):
        await trial.log.append(builders.pushed())


@pytest.mark.parametrize("size", [0, 64 * 1024 + 28, 1_000_000])
async def test_bodies_of_any_size_pass_beside_others(trial: Trial, size: int) -> None:
    facts = [builders.stored(number, sealed=bytes(size if number % 2 else 10)) for number in range(6)]
    places = _appended(await trial.log.append_all(facts))
    assert [fact for fact, _ in await _records_at(trial, places)] == facts


async def test_a_record_over_the_limit_stops_the_call_before_anything_is_sent(trial: Trial) -> None:
    before = await trial.log.ends()
    with pytest.raises(RecordTooLarge):
        await trial.log.append_all([builders.stored(), builders.stored(sealed=bytes(1_048_576))])
    assert await trial.log.ends() == before
    await trial.log.append(builders.stored())


async def test_ends_name_every_partition_and_grow_by_what_is_appended(trial: Trial) -> None:
    before = await trial.log.ends()
    assert set(before) == set(range(trial.log.partitions))
    places = _appended(await trial.log.append_all(_facts(50)))
    after = await trial.log.ends()
    for partition, end in after.items():
        assert end == before[partition] + sum(place.partition == partition for place in places)


async def test_ends_of_another_topic_grow_by_what_is_appended_there(trial: Trial) -> None:
    before, lifecycle = await trial.log.ends(RECEIPTS), await trial.log.ends()
    place = await trial.log.append(builders.receipt())
    after = await trial.log.ends(RECEIPTS)
    assert (place.topic, after[place.partition]) == (RECEIPTS, place.offset + 1)
    assert {at: end for at, end in after.items() if at != place.partition} == {
        at: end for at, end in before.items() if at != place.partition
    }
    assert await trial.log.ends() == lifecycle


async def test_ends_see_what_was_answered_before_the_question(trial: Trial) -> None:
    """The property that makes every read complete, under as many askers as there are."""

    async def append_and_ask(fact: MessageStored) -> None:
        place = await trial.log.append(fact)
        ends = await trial.log.ends()
        assert ends[place.partition] > place.offset

    for series in range(5):
        await asyncio.gather(*(append_and_ask(fact) for fact in _facts(60, series)))


async def test_a_log_in_use_is_healthy_and_a_closed_one_rejects(trial: Trial) -> None:
    await trial.log.append(builders.stored())
    assert trial.log.healthy
    await trial.log.__aexit__(None, None, None)
    assert not trial.log.healthy
    with pytest.raises(LogUnavailable) as failure:
        await trial.log.append(builders.stored())
    assert failure.value.outcome == "rejected"
    [answer] = await trial.log.append_all([builders.stored()])
    assert isinstance(answer, LogUnavailable)
    assert answer.outcome == "rejected"


async def test_a_caller_who_tries_without_a_pause_does_not_stop_the_others(trial: Trial) -> None:
    await trial.log.__aexit__(None, None, None)

    async def stubborn() -> None:
        while True:
            with contextlib.suppress(LogUnavailable):
                await trial.log.append(builders.stored())

    trying = asyncio.create_task(stubborn())
    done, _ = await asyncio.wait({trying}, timeout=0.05)
    trying.cancel()
    assert not done


async def test_closing_waits_for_what_is_under_way(trial: Trial) -> None:
    under_way = [asyncio.create_task(trial.log.append(fact)) for fact in _facts(200)]
    await asyncio.sleep(0)
    await trial.log.__aexit__(None, None, None)
    assert len(await asyncio.gather(*under_way)) == 200


def _assert_ordered(facts: Sequence[MessageStored], places: Sequence[Appended]) -> None:
    """The offsets of each recipient rise in the order of the calls."""
    for recipient in {fact.recipient for fact in facts}:
        offsets = [place.offset for fact, place in zip(facts, places, strict=True) if fact.recipient == recipient]
        assert offsets == sorted(offsets)


async def _records_at(trial: Trial, places: Sequence[Appended]) -> list[tuple[Record, int]]:
    """What a reader finds at these places of the lifecycle log, with append times."""
    found: dict[tuple[int, int], tuple[Record, int]] = {}
    for partition in {place.partition for place in places}:
        offsets = [place.offset for place in places if place.partition == partition]
        first = min(offsets)
        for index, (encoded, at_ms) in enumerate(await trial.read(LIFECYCLE, partition, first, max(offsets))):
            found[partition, first + index] = (decode(encoded.value), at_ms)
    return [found[place.partition, place.offset] for place in places]
