"""Where messages are: GET /messages/{id}, POST /messages/status, GET /messages/{id}/trail. For sender and recipient only."""

from uuid import UUID

import msgspec
from msgspec import UNSET

from api.calls import Answer, Call, answer
from api.freshness import Freshness
from api.models import (
    DeliveredTo,
    IdList,
    LogPlace,
    MessageStatus,
    Statuses,
    StatusName,
    TrailAnswer,
    TrailAttempt,
    TrailEvent,
)
from api.outages import asking_projection
from api.problems import Problem
from api.times import maybe_rfc3339, rfc3339
from projections.life import Attempt, MessageView, Trail
from projections.life import TrailEvent as Proved
from projections.reads import Reads
from schemas.events import Place
from schemas.lifecycle import Status

IDS_ON_THE_WIRE = 262_144
_IDS = msgspec.json.Decoder(IdList)
NAMES: dict[Status, StatusName] = {status: status.label for status in Status}  # type: ignore[misc]


class MessageStatuses:
    """The handlers. A sender's message lies in its recipient's partition, which its id does not tell: so each call waits for
    all partitions, which is one question all the same."""

    def __init__(self, *, reads: Reads, freshness: Freshness) -> None:
        self._reads = reads
        self._freshness = freshness

    async def one(self, call: Call) -> Answer:
        """GET /messages/{id}."""
        message_id = _id_in(call)
        floors, user = await self._freshness.of_all(), call.principal.user
        with asking_projection():
            views = await self._reads.messages(user, [message_id], floors=floors)
        if not views:
            raise _unknown()
        return answer(status_of(views[0], user))

    async def several(self, call: Call) -> Answer:
        """POST /messages/status."""
        ids = list(dict.fromkeys((await call.body(_IDS, IDS_ON_THE_WIRE)).ids))
        floors, user = await self._freshness.of_all(), call.principal.user
        with asking_projection():
            views = await self._reads.messages(user, ids, floors=floors)
        known = {view.message_id: view for view in views}
        unknown = [message_id for message_id in ids if message_id not in known]
        return answer(Statuses([status_of(view, user) for view in known.values()], unknown))

    async def trail(self, call: Call) -> Answer:
        """GET /messages/{id}/trail."""
        message_id = _id_in(call)
        floors, user = await self._freshness.of_all(), call.principal.user
        with asking_projection():
            trail = await self._reads.trail(user, message_id, floors=floors)
        if trail is None:
            raise _unknown()
        return answer(trail_of(trail, user))


def status_of(view: MessageView, user: UUID) -> MessageStatus:
    """A message's status as this user may see it."""
    devices = [DeliveredTo(device.device_id, rfc3339(device.delivered_at_ms)) for device in view.devices]
    return MessageStatus(
        id=view.message_id,
        from_=view.sender_name,
        to=view.recipient_name,
        status=NAMES[view.status],
        created_at=rfc3339(view.created_at_ms),
        stored_at=rfc3339(view.stored_at_ms),
        delivery_attempted_at=maybe_rfc3339(view.attempted_at_ms),
        pending_since=maybe_rfc3339(view.pending_at_ms),
        delivered_at=maybe_rfc3339(view.delivered_at_ms),
        read_at=maybe_rfc3339(view.read_at_ms),
        devices=devices if user == view.recipient else UNSET,
    )


def trail_of(trail: Trail, user: UUID) -> TrailAnswer:
    """A message's trail as this user may see it: what the recipient's devices and sessions did is the recipient's."""
    full = user == trail.view.recipient
    return TrailAnswer(
        id=trail.view.message_id,
        events=[_event(event, full) for event in trail.events],
        repeats=[_place(place) for place in trail.repeats],
        attempts=[_attempt(attempt) for attempt in trail.attempts] if full else UNSET,
    )


def _event(event: Proved, full: bool) -> TrailEvent:
    return TrailEvent(
        state=NAMES[event.status],
        at=rfc3339(event.at_ms),
        by=event.by,
        log=_place(event.place),
        reason=event.reason or UNSET,
        evidence=event.evidence if full and event.evidence is not None else UNSET,
    )


def _attempt(attempt: Attempt) -> TrailAttempt:
    return TrailAttempt(
        device_id=attempt.device_id,
        session=attempt.session_id,
        pushed_at=rfc3339(attempt.pushed_at_ms),
        result=attempt.result,
        log=_place(attempt.place),
    )


def _place(place: Place) -> LogPlace:
    return LogPlace(place.topic, place.partition, place.offset)


def _id_in(call: Call) -> UUID:
    text = call.path("id")
    try:
        message_id = UUID(text)
    except ValueError as error:
        raise _unknown() from error
    if str(message_id) != text:
        raise _unknown()
    return message_id


def _unknown() -> Problem:
    return Problem("message_unknown", "No message with this id was sent by you or to you.")
