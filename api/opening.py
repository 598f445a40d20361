"""Messages of a mailbox as their owner sees them: opened, or with the reason why they do not open.

One record that does not open, damaged or sealed under another key, must not keep its owner from all the others, nor be
left out in silence: it is handed over like any other, with a problem in place of what was in it, and goes with its
acknowledgement.
"""

import base64
from typing import Any
from uuid import UUID

import structlog
from msgspec import UNSET, UnsetType

from api.keys import AccountKeys
from api.problems import Problem
from api.sealing import TEXT, NotOpened, parts_of, unseal
from api.statuses import NAMES
from api.times import rfc3339
from projections.reads import MailboxRow
from schemas.metrics import BODIES_UNREADABLE

_log = structlog.stdlib.get_logger(__name__)

_UNREADABLE = "What is stored does not open: it is damaged, or another key sealed it. Tell the operator its id."


def opened(keys: AccountKeys, user: UUID, row: MailboxRow, request_id: str) -> dict[str, Any]:
    """The fields of `api.models.Received`; `request_id` goes into the problem, if there is one."""
    content_type, body, body_base64, problem = _content(keys, user, row, request_id)
    return {
        "id": row.message_id,
        "from_": row.sender_name,
        "from_id": row.sender,
        "stored_at": rfc3339(row.stored_at_ms),
        "position": row.position,
        "status": NAMES[row.status],
        "content_type": content_type,
        "body": body,
        "body_base64": body_base64,
        "problem": problem,
    }


_Part = str | UnsetType


def _content(
    keys: AccountKeys, user: UUID, row: MailboxRow, request_id: str
) -> tuple[_Part, _Part, _Part, dict[str, Any] | UnsetType]:
    try:
        kind, content_type, body = parts_of(unseal(keys, row.message_id, row.sender, user, row.sealed))
        if kind == TEXT:
            return content_type, body.decode(), UNSET, UNSET
        return content_type, UNSET, base64.b64encode(body).decode(), UNSET
    except (NotOpened, IndexError, UnicodeDecodeError) as error:
        BODIES_UNREADABLE.inc()
        _log.error("unreadable_body", message_id=str(row.message_id), error=type(error).__name__, request_id=request_id)
        return UNSET, UNSET, UNSET, Problem("body_unreadable", _UNREADABLE).document(request_id)
