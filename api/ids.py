"""New ids: UUID version 7, which sort by the time they were made."""

from uuid import UUID

from uuid_utils import uuid7

from schemas.ids import uuid_of


def new_id() -> UUID:
    """An id that nobody has yet."""
    return uuid_of(uuid7().bytes)
