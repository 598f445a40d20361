"""A batch as it was sent: its messages one by one, so that a bad one does not refuse the others."""

from typing import Final

import msgspec

from api.calls import decoded, faulty
from api.models import MAX_IDS, BatchMessage
from api.problems import Problem, invalid


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """A batch before its messages are looked at."""

    messages: msgspec.Raw


_ENVELOPE: Final = msgspec.json.Decoder(Envelope)
_ALL: Final = msgspec.json.Decoder(list[BatchMessage])
_LOOSE: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ONE: Final = msgspec.json.Decoder(BatchMessage)


def messages_of(raw: bytes) -> list[BatchMessage | Problem]:
    """The messages of a batch, each valid or with what is wrong with it. Raises `Problem` where it is no batch at all."""
    messages = decoded(raw, _ENVELOPE).messages
    found: list[BatchMessage | Problem]
    try:
        found = [*decoded(messages, _ALL)]
    except Problem as problem:
        if problem.code != "invalid_request":
            raise
        found = [_item(item) for item in _loose(messages)]
    if not 1 <= len(found) <= MAX_IDS:
        raise invalid("messages", f"must have 1 to {MAX_IDS} messages")
    return found


def _loose(messages: msgspec.Raw) -> list[msgspec.Raw]:
    try:
        return _LOOSE.decode(messages)
    except msgspec.ValidationError as error:
        raise faulty(error, at="messages") from error


def _item(item: msgspec.Raw) -> BatchMessage | Problem:
    try:
        return _ONE.decode(item)
    except msgspec.ValidationError as error:
        return faulty(error)
