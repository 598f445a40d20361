"""The frames of a session in their order: ready, messages, caught_up."""

from uuid import UUID

from api.common import Me
from api.frames import CaughtUp, MessageFrame, Ready, encode
from api.keys import AccountKeys
from api.opening import opened
from api.session import StreamOptions
from api.times import rfc3339
from projections.reads import MailboxRow


def message_frame(keys: AccountKeys, me: Me, row: MailboxRow, cursor: str) -> bytes:
    """A message of the user as a frame."""
    return encode(MessageFrame(**opened(keys, me.user, row, str(me.session)), cursor=cursor))


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
