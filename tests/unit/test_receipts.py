"""Receipts: one a message and outcome, repeated where it may not be in the log, spared where it is."""

from dataclasses import replace

from processors.receipts import Receipts, Telling, receipt_id
from schemas.receipt import Outcome, Receipt
from tests.builders import ALICE, BOB, LAPTOP, T0_MS, an_id, delivered, entry, opened, pushed, read, recorded, stored, told
from tests.unit.test_desk import Reader

CAROL = an_id("acct", 3)


def asked(receipts: Receipts, fact: Telling, offset: int) -> list[tuple[int, Outcome]]:
    """Number of the message and outcome of what this record asks for."""
    return [
        (receipt.message_id.int & 0xFFFF, receipt.outcome) for receipt in receipts.of(fact, recorded(fact, offset=offset))
    ]


def test_an_acknowledgement_asks_for_one_receipt_an_entry() -> None:
    fact = delivered(entry(1, 7), replace(entry(2, 8), sender=CAROL))
    one, two = Receipts("processor/1").of(fact, recorded(fact, 20))
    assert one == Receipt(
        event_id=receipt_id(an_id("msg", 1), Outcome.DELIVERED),
        producer="processor/1",
        causation_id=fact.event_id,
        sender=ALICE,
        recipient=BOB,
        message_id=an_id("msg", 1),
        position=7,
        outcome=Outcome.DELIVERED,
        at_ms=T0_MS + 20_000,
    )
    assert (two.sender, two.position) == (CAROL, 8)


def test_an_erasure_asks_for_one_receipt_an_entry_and_once() -> None:
    receipts = Receipts("processor/1")
    assert asked(receipts, told(entry(1), entry(2)), 5) == [(1, Outcome.ERASED), (2, Outcome.ERASED)]
    assert asked(receipts, told(entry(2), entry(3)), 6) == [(3, Outcome.ERASED)]


def test_the_id_says_message_and_outcome() -> None:
    ids = {receipt_id(an_id("msg", number), outcome) for number in (1, 2) for outcome in Outcome}
    assert len(ids) == 6


def test_delivered_and_read_are_two_receipts() -> None:
    receipts = Receipts("processor/1")
    assert asked(receipts, delivered(entry(1)), 5) == [(1, Outcome.DELIVERED)]
    assert asked(receipts, read(entry(1)), 6) == [(1, Outcome.READ)]


def test_what_an_earlier_record_asked_for_is_spared() -> None:
    receipts = Receipts("processor/1")
    asked(receipts, delivered(entry(1), entry(2)), 5)
    assert asked(receipts, delivered(entry(2), entry(3), device=LAPTOP), 6) == [(3, Outcome.DELIVERED)]
    asked(receipts, read(entry(4)), 7)
    assert asked(receipts, read(entry(4)), 8) == []


def test_delivered_after_read_is_spared() -> None:
    receipts = Receipts("processor/1")
    asked(receipts, read(entry(1)), 5)
    assert asked(receipts, delivered(entry(1)), 6) == []


def test_a_record_that_is_read_again_asks_again() -> None:
    """Its receipts may not be in the log yet, and its offset is committed once the second reading is done."""
    receipts = Receipts("processor/1")
    for _ in range(2):
        assert asked(receipts, delivered(entry(1)), 5) == [(1, Outcome.DELIVERED)]
        assert asked(receipts, delivered(entry(1), device=LAPTOP), 6) == []
        assert asked(receipts, read(entry(1)), 7) == [(1, Outcome.READ)]


def test_a_record_before_the_one_that_asked_asks_and_is_the_first_from_then_on() -> None:
    receipts = Receipts("processor/1")
    asked(receipts, delivered(entry(1)), 9)
    assert asked(receipts, delivered(entry(1)), 5) == [(1, Outcome.DELIVERED)]
    assert asked(receipts, delivered(entry(1)), 9) == []


def test_memory_is_bounded_and_what_is_forgotten_is_asked_for_again() -> None:
    receipts = Receipts("processor/1", limit=3)
    asked(receipts, delivered(*(entry(number) for number in range(10))), 5)
    again = asked(receipts, delivered(*(entry(number) for number in range(9, 5, -1))), 6)
    assert again == [(6, Outcome.DELIVERED)]


def test_the_desk_asks_for_receipts_by_their_senders_and_after_what_somebody_waits_for() -> None:
    findings = Reader().reads(delivered(entry(1)), opened(), stored(2), read(entry(1)))
    records, partitions = findings.records()
    assert [type(record) for record in records][-2:] == [Receipt, Receipt]
    assert [type(record) for record in records].count(type(pushed())) == 1
    assert partitions[-2:] == [None, None]
    assert findings.rows.keys() == {opened().device_id}


def test_many_devices_ask_once() -> None:
    reader = Reader()
    facts = [delivered(entry(1), device=an_id("dev", number)) for number in range(5)]
    assert len(reader.reads(*facts).receipts) == 1
    assert len(reader.reads(*facts).receipts) == 0
