"""Names of senders: learned from pages, bounded, and forgotten for good once an account is erased."""

from dataclasses import replace

from api.names import Names
from projections.reads import MailboxRow
from schemas.lifecycle import Status
from tests.builders import ALICE, BOB, T0_MS, an_id

ROW = MailboxRow(
    message_id=an_id("msg", 1),
    sender=ALICE,
    sender_name="alice",
    sealed=b"",
    stored_at_ms=T0_MS,
    position=0,
    status=Status.STORED,
)


def test_the_oldest_are_forgotten() -> None:
    names = Names(2)
    names.learn(replace(ROW, sender=an_id("acct", number), sender_name=f"p{number}") for number in range(4))
    assert [an_id("acct", number) in names for number in range(4)] == [False, False, True, True]


def test_an_erased_account_has_no_name_whatever_older_rows_say() -> None:
    names = Names()
    names.learn([ROW, replace(ROW, sender=BOB, sender_name="bob")])
    assert names[ALICE] == "alice" and names.renamed(ROW) is ROW
    names.forget(ALICE)
    names.learn([ROW])
    assert (names[ALICE], names.renamed(ROW), names[BOB]) == (None, replace(ROW, sender_name=None), "bob")


def test_who_is_erased_before_it_was_heard_of_stays_without_a_name() -> None:
    names = Names(2)
    for number in range(4):
        names.forget(an_id("acct", number))
    names.learn([replace(ROW, sender=an_id("acct", 3))])
    assert names[an_id("acct", 3)] is None
    assert an_id("acct", 0) not in names
