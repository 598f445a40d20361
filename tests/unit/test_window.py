"""What is on its way to a client, and since when it waits."""

from api.window import Window
from schemas.events import Entry
from tests.builders import ALICE, an_id


def entry(number: int) -> Entry:
    return Entry(message_id=an_id("msg", number), position=number, sender=ALICE)


def holding(*numbers: int, messages: int = 8, size: int = 800) -> Window:
    window = Window(messages, size)
    for number in numbers:
        window.add(entry(number), 100)
        window.written(entry(number).message_id, float(number))
    return window


def ids(*numbers: int) -> list[object]:
    return [an_id("msg", number) for number in numbers]


def test_it_takes_so_many_messages_and_so_many_bytes() -> None:
    assert holding(*range(7)).takes(100)
    assert not holding(*range(8)).takes(0)
    assert not holding(*range(7)).takes(101)


def test_one_message_may_be_as_large_as_it_is() -> None:
    assert holding().takes(5000)
    assert not holding(1).takes(5000)


def test_room_is_only_told_by_the_quarter() -> None:
    assert holding(*range(6)).room() == (2, 200)
    assert holding(*range(7)).room() == (0, 0)
    assert holding(*range(3), messages=100, size=399).room() == (0, 0)
    assert holding().room() == (8, 800)


def test_an_acknowledgement_makes_room_only_once_the_log_has_it() -> None:
    window = holding(1, 2)
    window.acknowledge([an_id("msg", 1)], 9.0)
    assert len(window) == 2
    window.settle([an_id("msg", 1)])
    assert len(window) == 1
    assert window.room() == (7, 700)


def test_what_is_acknowledged_can_still_be_named_until_it_is_settled() -> None:
    window = holding(1)
    window.acknowledge([an_id("msg", 1)], 9.0)
    assert window.entry(an_id("msg", 1)) == entry(1)
    window.settle([an_id("msg", 1)])
    assert window.entry(an_id("msg", 1)) is None


def test_the_oldest_waits_since_it_was_written() -> None:
    assert holding(3, 4).waits_since() == 3.0
    assert holding().waits_since() is None


def test_what_is_not_written_does_not_wait() -> None:
    window = Window(8, 800)
    window.add(entry(1), 100)
    assert window.waits_since() is None


def test_acknowledging_the_oldest_gives_the_next_its_time() -> None:
    window = holding(3, 4)
    window.acknowledge([an_id("msg", 3)], 12.0)
    assert window.waits_since() == 12.0


def test_acknowledging_another_one_gives_the_oldest_no_time() -> None:
    window = holding(3, 4)
    window.acknowledge([an_id("msg", 4)], 12.0)
    assert window.waits_since() == 3.0
    assert window.waiting() == ids(3)


def test_ids_that_it_does_not_hold_change_nothing() -> None:
    window = holding(3)
    window.acknowledge([an_id("msg", 9)], 12.0)
    window.settle([an_id("msg", 9)])
    window.written(an_id("msg", 9), 13.0)
    assert (len(window), window.waits_since()) == (1, 3.0)
