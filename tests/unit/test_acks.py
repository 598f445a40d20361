"""Acknowledgements over a socket: what goes together, and what each request is told."""

from __future__ import annotations

from api.acks import MAX_IDS, MAX_REQUESTS, Kind, Plan, Request, Requests
from api.window import Window
from projections.reads import Found
from schemas.events import MAX_ENTRIES, Entry, MessagesDelivered, MessagesRead
from tests.builders import ALICE, an_id


def request(n: int, *numbers: int, kind: Kind = MessagesDelivered) -> Request:
    return Request(n, kind, [an_id("msg", number) for number in numbers])


def waiting(*requests: Request) -> Requests:
    made = Requests()
    for one in requests:
        made.add(one)
    return made


def window(*numbers: int) -> Window:
    made = Window(100, 100_000)
    for number in numbers:
        made.add(Entry(message_id=an_id("msg", number), position=number, sender=ALICE), 10)
    return made


def found(number: int, *, delivered: bool = False, read: bool = False) -> Found:
    message_id = an_id("msg", number)
    return Found(message_id=message_id, position=number, sender=ALICE, delivered_to_device=delivered, read=read)


def told(plan: Plan) -> list[tuple[int, list[int], list[int], list[int]]]:
    def numbers(ids: list[object]) -> list[int]:
        return [one.int & 0xFFFF for one in ids]  # type: ignore[attr-defined]

    return [
        (acked.n, *(numbers(list(ids)) for ids in (acked.acknowledged, acked.already, acked.unknown)))  # type: ignore[misc]
        for acked in plan.answers()
    ]


def test_requests_of_one_kind_go_together_in_their_order() -> None:
    made = waiting(request(1, 1), request(2, 2), request(3, 3, kind=MessagesRead), request(4, 4))
    assert [[one.n for one in made.take()] for _ in range(3)] == [[1, 2], [3], [4]]
    assert not made


def test_as_many_go_together_as_one_fact_can_hold() -> None:
    half = MAX_ENTRIES // 2
    made = waiting(request(1, *range(half)), request(2, *range(half, 2 * half)), request(3, 9999))
    assert [one.n for one in made.take()] == [1, 2]
    assert [one.n for one in made.take()] == [3]


def test_a_request_of_its_own_size_goes_alone() -> None:
    made = waiting(request(1, *range(MAX_ENTRIES)), request(2, 9999))
    assert [one.n for one in made.take()] == [1]


def test_so_many_may_wait() -> None:
    assert waiting(*(request(n, n) for n in range(MAX_REQUESTS))).full
    assert not waiting(*(request(n, n) for n in range(MAX_REQUESTS - 1))).full
    many = waiting(*(request(n, *range(500)) for n in range(MAX_IDS // 500)))
    many.take()
    assert not many.full
    assert waiting(*(request(n, *range(500)) for n in range(MAX_IDS // 500))).full


def test_what_the_window_knows_needs_no_question() -> None:
    plan = Plan.of([request(1, 3, 2)], window(1, 2, 3))
    assert plan.foreign == []
    assert [entry.position for entry in plan.in_order()] == [2, 3]
    assert told(plan) == [(1, [3, 2], [], [])]


def test_an_id_that_two_requests_name_belongs_to_the_first() -> None:
    plan = Plan.of([request(1, 2), request(2, 2, 3, 3)], window(2, 3))
    assert told(plan) == [(1, [2], [], []), (2, [3], [2], [])]


def test_what_the_projection_knows() -> None:
    plan = Plan.of([request(1, 1, 7, 8, 9)], window(1))
    assert plan.foreign == [an_id("msg", number) for number in (7, 8, 9)]
    plan.learn([found(7), found(8, delivered=True)])
    assert told(plan) == [(1, [1, 7], [8], [9])]
    assert [entry.position for entry in plan.in_order()] == [1, 7]


def test_reading_is_new_until_it_was_read() -> None:
    plan = Plan.of([request(1, 7, 8, kind=MessagesRead)], window())
    plan.learn([found(7, delivered=True), found(8, delivered=True, read=True)])
    assert told(plan) == [(1, [7], [8], [])]


def test_without_the_projection_requests_with_foreign_ids_are_dropped_and_the_rest_is_acknowledged() -> None:
    plan = Plan.of([request(1, 1, 9), request(2, 2)], window(1, 2))
    assert [one.n for one in plan.drop_foreign()] == [1]
    assert [entry.position for entry in plan.in_order()] == [1, 2]
    assert told(plan) == [(2, [2], [], [])]
