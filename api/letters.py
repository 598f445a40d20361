"""The frames of a session in their order: ready, messages, caught_up."""

import base64
from uuid import UUID

from msgspec import UNSET

from api.frames import CaughtUp, MessageFrame, Ready, encode
from api.keys import AccountKeys
from api.sealing import TEXT, parts_of, unseal
from api.session import StreamOptions
from api.statuses import NAMES
from api.times import rfc3339
from projections.reads import MailboxRow


def message_frame(keys: AccountKeys, user: UUID, row: MailboxRow, name: str | None, cursor: str) -> bytes:
    """A message of the user as a frame; `name` is the sender's. Raises `NotOpened`."""
    kind, content_type, body = parts_of(unseal(keys, row.message_id, row.sender, user, row.sealed))
    is_text = kind == TEXT
    return encode(
        MessageFrame(
            id=row.message_id,
            from_=name,
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


def ready_frame(options: StreamOptions, session: UUID, expires_at: int) -> bytes:
    """The first frame of a session; `expires_at` is the token's, in seconds since the epoch."""
    return encode(
        Ready(
            session=session,
            window=options.window,
            heartbeat_seconds=options.heartbeat,
            ack_timeout_seconds=options.ack_timeout,
            expires_at=rfc3339(expires_at * 1000),
        )
    )


def caught_up_frame(cursor: str) -> bytes:
    """The frame that says that everything up to here was sent."""
    return encode(CaughtUp(cursor=cursor))
