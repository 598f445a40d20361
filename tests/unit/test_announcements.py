"""What a transaction tells those who wait: short enough for PostgreSQL, and naming few who are not meant."""

from uuid import UUID

from uuid_utils.compat import uuid7

from projections.progress import EVERYBODY, announcements, tail
from schemas.topics import LIFECYCLE


def test_users_who_signed_up_together_have_names_of_their_own() -> None:
    users = [uuid7() for _ in range(1000)]
    assert len({user.bytes[:4] for user in users}) <= 2
    assert len({tail(user) for user in users}) == len(users)


def test_every_recipient_is_named_and_no_payload_is_too_long() -> None:
    users = [UUID(int=number) for number in range(2000)]
    payloads = announcements(LIFECYCLE, 3, 17, users)
    assert all(payload.startswith(f"{LIFECYCLE} 3 17 ") and len(payload) < 8000 for payload in payloads)
    assert {name for payload in payloads for name in payload.split(" ")[3].split(",")} == {tail(user) for user in users}


def test_a_partition_that_moved_without_mail_says_so() -> None:
    assert announcements(LIFECYCLE, 3, 17, []) == [f"{LIFECYCLE} 3 17 "]


def test_very_many_recipients_are_everybody() -> None:
    users = [UUID(int=number) for number in range(10_000)]
    assert announcements(LIFECYCLE, 3, 17, users) == [f"{LIFECYCLE} 3 17 {EVERYBODY}"]
