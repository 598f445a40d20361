"""What a socket has and lacks: given markers, pages and pushes, then this is sent, and that is asked for."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from api.session import HELD_MESSAGES, CaughtUpAt, Session, Wanted
from api.window import Window
from projections.reads import START, MailboxRow
from schemas.lifecycle import Status
from schemas.push import Push, PushedMessage
from tests.builders import ALICE, T0_MS, an_id, pushed

SIZE = 10


def row(position: int, size: int = SIZE) -> MailboxRow:
    return MailboxRow(
        message_id=an_id("msg", position),
        sender=ALICE,
        sender_name="alice",
        sealed=b"x" * size,
        stored_at_ms=T0_MS,
        position=position,
        status=Status.PENDING_SYNC,
    )


def push(position: int, before: int, epoch: int = 10) -> tuple[Push, PushedMessage, str]:
    message = PushedMessage(
        message_id=an_id("msg", position), sender=ALICE, position=position, stored_at_ms=T0_MS, sealed=b"x" * SIZE
    )
    return replace(pushed(), epoch=epoch, predecessor=before, message=message), message, "alice"


def sent(session: Session) -> list[int | str]:
    """What the writer would send since the last look."""
    items, session.outbox = session.outbox, []
    return ["caught_up" if isinstance(item, CaughtUpAt) else item.position for item in items]


def opened(at: int = 10, window: int = 100) -> Session:
    session = Session(Window(window, 10_000))
    session.marked(at)
    return session


def live(at: int = 10, window: int = 100) -> Session:
    """A session that has caught up with an empty mailbox."""
    session = opened(at, window)
    session.page(wanted(session), [], has_more=False)
    assert sent(session) == ["caught_up"]
    return session


def wanted(session: Session) -> Wanted:
    found = session.wants()
    assert found is not None
    return found


def test_before_its_marker_is_in_the_log_it_asks_for_nothing() -> None:
    assert Session(Window(4, 100)).wants() is None


def test_it_asks_for_the_whole_mailbox_of_a_projection_that_has_passed_the_marker() -> None:
    assert wanted(opened(10)) == Wanted(after=START, upto=10, limit=100, max_bytes=10_000)


def test_the_backlog_then_caught_up_then_live() -> None:
    session = opened(10)
    session.page(wanted(session), [row(2), row(7)], has_more=False)
    assert sent(session) == [2, 7, "caught_up"]
    assert session.handled == 10
    session.pushed(*push(11, before=10))
    session.pushed(*push(14, before=11))
    assert sent(session) == [11, 14]


def test_what_is_acknowledged_before_it_is_sent_does_not_pile_up() -> None:
    session = opened(1000, window=8)
    for position in range(0, 200, 8):
        rows = [row(position + n) for n in range(8)]
        session.page(wanted(session), rows, has_more=True)
        assert len(session.outbox) <= 9
        session.window.drop([one.message_id for one in rows], 0.0)
    session.page(wanted(session), [row(500)], has_more=False)
    assert sent(session) == [500, "caught_up"]


def test_page_by_page() -> None:
    session = opened(10)
    session.page(wanted(session), [row(2)], has_more=True)
    assert sent(session) == [2]
    assert wanted(session).after == 2
    session.page(wanted(session), [row(3)], has_more=False)
    assert sent(session) == [3, "caught_up"]


def test_what_a_page_shows_beyond_the_marker_is_sent_and_not_pushed_again() -> None:
    session = opened(10)
    session.page(wanted(session), [row(2), row(12)], has_more=False)
    session.pushed(*push(11, before=10))
    session.pushed(*push(12, before=11))
    session.pushed(*push(15, before=12))
    assert sent(session) == [2, 12, "caught_up", 15]


def test_it_has_caught_up_once_it_is_past_the_marker_however_much_more_there_is() -> None:
    session = opened(10)
    session.page(wanted(session), [row(2), row(12)], has_more=True)
    assert sent(session) == [2, 12, "caught_up"]
    assert session.wants() is None


def test_pushes_that_come_before_the_marker_is_known_wait_for_it() -> None:
    session = Session(Window(100, 10_000))
    session.pushed(*push(11, before=10))
    session.marked(10)
    session.page(wanted(session), [], has_more=False)
    assert sent(session) == ["caught_up", 11]


def test_a_gap_is_read_from_the_mailbox() -> None:
    session = live(10)
    session.pushed(*push(14, before=12))
    assert sent(session) == []
    assert (wanted(session).after, wanted(session).upto) == (10, 14)
    session.page(wanted(session), [row(12), row(14)], has_more=False)
    assert sent(session) == [12, 14]


def test_while_it_reads_pushes_are_held_and_then_sent_in_order() -> None:
    session = live(10)
    session.pushed(*push(14, before=12))
    asked = wanted(session)
    session.pushed(*push(16, before=14))
    session.page(asked, [row(12), row(14)], has_more=False)
    assert sent(session) == [12, 14, 16]


def test_held_pushes_that_the_page_had_are_not_sent_again() -> None:
    session = live(10)
    session.pushed(*push(14, before=12))
    asked = wanted(session)
    session.pushed(*push(16, before=14))
    session.page(asked, [row(12), row(14), row(16)], has_more=False)
    assert sent(session) == [12, 14, 16]


def test_it_holds_only_a_few_and_reads_the_others() -> None:
    session = live(10)
    session.pushed(*push(14, before=12))
    asked = wanted(session)
    last = 14 + HELD_MESSAGES + 3
    for position in range(15, last + 1):
        session.pushed(*push(position, before=position - 1))
    session.page(asked, [row(12), row(14)], has_more=False)
    assert sent(session) == [12, 14]
    assert wanted(session).upto == last


def test_a_full_window_waits_for_room_and_then_reads() -> None:
    session = live(10, window=2)
    for position in (11, 12, 13):
        session.pushed(*push(position, before=position - 1))
    assert sent(session) == [11, 12]
    assert session.wants() is None
    session.window.acknowledge([an_id("msg", 11)], 1.0)
    session.window.settle([an_id("msg", 11)])
    assert wanted(session) == Wanted(after=12, upto=13, limit=1, max_bytes=9_990)


def test_a_row_that_has_no_room_waits_for_it() -> None:
    session = Session(Window(10, 100))
    session.marked(10)
    session.page(wanted(session), [row(1, 60), row(2, 60)], has_more=False)
    assert sent(session) == [1]
    assert session.wants() is None
    session.window.settle([an_id("msg", 1)])
    session.page(wanted(session), [row(2, 60)], has_more=False)
    assert sent(session) == [2, "caught_up"]


def test_pushes_of_an_older_epoch_are_nobodys_business() -> None:
    session = live(10)
    session.marked(20)
    session.page(wanted(session), [], has_more=False)
    session.pushed(*push(21, before=10, epoch=10))
    assert sent(session) == []
    assert session.wants() is None


def test_a_newer_epoch_than_we_know_of_is_ours() -> None:
    session = live(10)
    session.pushed(*push(21, before=20, epoch=20))
    assert wanted(session).upto == 20
    session.page(wanted(session), [row(15)], has_more=False)
    assert sent(session) == [15, 21]
    session.marked(20)
    assert session.wants() is None


def test_a_sender_without_a_name_is_read_from_the_mailbox() -> None:
    session = live(10)
    session.pushed_unnamed(11)
    session.pushed(*push(12, before=11))
    session.page(wanted(session), [row(11)], has_more=False)
    assert sent(session) == [11, 12]


def test_the_same_message_twice_is_sent_once() -> None:
    session = live(10)
    session.pushed(*push(11, before=10))
    again, message, name = push(12, before=11)
    session.pushed(again, replace(message, message_id=an_id("msg", 11)), name)
    session.pushed(*push(13, before=12))
    assert sent(session) == [11, 13]


@given(
    messages=st.sets(st.integers(0, 40)),
    marker=st.integers(0, 40),
    late=st.lists(st.booleans(), min_size=50, max_size=50),
    lost=st.sets(st.integers(0, 40)),
    window=st.integers(1, 6),
)
def test_no_hole_and_no_repeat_whatever_is_lost_or_late(
    messages: set[int], marker: int, late: list[bool], lost: set[int], window: int
) -> None:
    """Messages at some positions, a marker among them, pushes of which some get lost, pages that come late, and a client
    that acknowledges everything at once."""
    stored = sorted(messages - {marker})
    session = Session(Window(window, 10_000))
    said: list[int | str] = []
    pushes = after(stored, marker)
    chain = dict(zip(pushes, [marker, *pushes], strict=False))
    session.marked(marker)
    asked: Wanted | None = None
    for step, position in enumerate([*pushes, 99]):
        if position in chain and position not in lost:
            session.pushed(*push(position, before=chain[position], epoch=marker))
        if asked is not None and not late[step]:
            seen = [one for one in stored if asked.after < one and one <= max(asked.upto, position)][: asked.limit + 1]
            session.page(asked, [row(one) for one in seen[: asked.limit]], has_more=len(seen) > asked.limit)
            asked = None
        asked = asked or session.wants()
        said += sent(session)
        settle(session)
    session.marked(99)  # the net: everything that got lost at the end
    for _ in range(100):
        asked = asked or session.wants()
        if asked is None:
            break
        seen = [one for one in stored if asked.after < one][: asked.limit + 1]
        session.page(asked, [row(one) for one in seen[: asked.limit]], has_more=len(seen) > asked.limit)
        asked = None
        said += sent(session)
        settle(session)
    assert [one for one in said if one != "caught_up"] == stored
    assert said.count("caught_up") == 1
    assert [one for one in said[: said.index("caught_up")] if one < marker] == [one for one in stored if one < marker]  # type: ignore[operator]


def after(stored: list[int], marker: int) -> list[int]:
    return [position for position in stored if position > marker]


def settle(session: Session) -> None:
    waiting = session.window.waiting()
    session.window.acknowledge(waiting, 1.0)
    session.window.settle(waiting)
