"""What a process remembers of its own acknowledgements, and of what it has shown."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from api import own
from api.own import Handed, HandedOut, OwnAcks
from tests.builders import an_id

BOB, CAROL, DAVE = (an_id("acct", number) for number in range(3))
PHONE, TABLET = (an_id("device", number) for number in range(2))


def noted(*places: tuple[int, UUID]) -> OwnAcks:
    async def note() -> OwnAcks:
        acks = OwnAcks()
        for offset, account in places:
            with acks.appending(0, account) as append:
                append(offset)
        return acks

    return asyncio.run(note())


def test_acknowledgements_of_others_are_passed_over_down_to_what_is_not_known() -> None:
    acks = noted((5, BOB), (6, CAROL), (7, DAVE), (9, CAROL))
    assert acks.others_from(0, 0, 8, BOB) == 6  # 5 is his own
    assert acks.others_from(0, 0, 8, CAROL) == 7
    assert acks.others_from(0, 0, 8, TABLET) == 5  # 4 is not known
    assert acks.others_from(0, 0, 10, BOB) == 9  # 8 is not known
    assert acks.others_from(0, 7, 8, BOB) == 7
    assert acks.others_from(0, 12, 10, BOB) == 10
    assert acks.others_from(1, 0, 8, BOB) == 8


def test_only_the_newest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "MOST_APPENDED", 3)
    assert noted(*((offset, CAROL) for offset in range(10))).others_from(0, 0, 10, BOB) == 7


def test_an_append_that_fails_is_not_known() -> None:
    async def scenario() -> None:
        acks = OwnAcks()
        with pytest.raises(RuntimeError), acks.appending(0, CAROL):
            raise RuntimeError("no answer")
        assert acks.others_from(0, 0, 1, BOB) == 1
        await acks.settled(0, 5)

    asyncio.run(scenario())


def test_settled_is_when_what_was_on_its_way_has_its_answer() -> None:
    async def scenario() -> None:
        acks = OwnAcks()
        with acks.appending(0, CAROL) as note:
            waiting = asyncio.create_task(acks.settled(0, 60))
            await asyncio.sleep(0)
            assert not waiting.done()
            note(0)
        await waiting
        assert acks.others_from(0, 0, 1, BOB) == 0

    asyncio.run(scenario())


def handed(number: int) -> Handed:
    return Handed(an_id("msg", number), number, CAROL, 100)


def test_a_device_that_was_shown_nothing_takes_no_room() -> None:
    out = HandedOut()
    out.add(PHONE, [])
    assert len(out) == 0
    out.add(TABLET, [handed(1)])
    assert len(out) == 1
    out.add(TABLET, [])
    out.remove(TABLET, [an_id("msg", 1)])
    assert len(out) == 0


def test_what_was_shown_to_a_device_until_it_acknowledges() -> None:
    out = HandedOut()
    out.add(PHONE, [handed(1), handed(2)])
    assert out.all(PHONE, [an_id("msg", 2), an_id("msg", 1)]) == [handed(2), handed(1)]
    assert out.all(PHONE, [an_id("msg", 1), an_id("msg", 3)]) is None
    assert out.all(TABLET, [an_id("msg", 1)]) is None
    out.remove(PHONE, [an_id("msg", 1), an_id("msg", 3)])
    assert out.all(PHONE, [an_id("msg", 1)]) is None
    assert out.all(PHONE, [an_id("msg", 2)]) == [handed(2)]


def test_the_device_that_came_longest_ago_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "MOST_HANDED", 2)
    out = HandedOut()
    out.add(PHONE, [handed(1)])
    out.add(TABLET, [handed(1)])
    out.add(PHONE, [handed(1)])
    out.add(BOB, [handed(1)])
    assert [out.all(device, [an_id("msg", 1)]) is None for device in (PHONE, TABLET, BOB)] == [False, True, False]
    out.remove(PHONE, [an_id("msg", 1)])
    out.add(TABLET, [handed(1)])
    assert out.all(BOB, [an_id("msg", 1)]) == [handed(1)]
