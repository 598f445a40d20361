"""Messages as frames. What is done here is done for each message that is pushed, so it does nothing twice."""

import base64
from uuid import UUID

from msgspec import UNSET

from api.frames import CaughtUp, MessageFrame, encode
from api.keys import AccountKeys
from api.sealing import TEXT, parts_of, unseal
from api.statuses import NAMES
from api.times import rfc3339
from projections.reads import MailboxRow


def message_frame(keys: AccountKeys, user: UUID, row: MailboxRow, cursor: str) -> bytes:
    """A message of the user as a frame. Raises `NotOpened`."""
    kind, content_type, body = parts_of(unseal(keys, row.message_id, row.sender, user, row.sealed))
    is_text = kind == TEXT
    return encode(
        MessageFrame(
            id=row.message_id,
            from_=row.sender_name,
            from_id=row.sender,
            content_type=content_type,
            stored_at=rfc3339(row.stored_at_ms),
            position=row.position,
            status=NAMES[row.status],
            body=body.decode() if is_text else UNSET,
            body_base64=UNSET if is_text else base64.b64encode(body).decode(),
            cursor=cursor,
        )
    )


def caught_up_frame(cursor: str) -> bytes:
    """The frame that says that everything up to here was sent."""
    return encode(CaughtUp(cursor=cursor))
