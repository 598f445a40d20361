"""Messages: their states, as `evolve` has them, and what is wrong with the records about them."""

from collections.abc import Iterator
from uuid import UUID

from processors.audit.findings import Kind
from processors.audit.notes import Notes
from processors.audit.replay import Decision, follows
from processors.audit.rows import Life
from processors.audit.sessions import Acknowledgement, Sessions
from processors.audit.shelves import NEAR_ROWS, Disk, Shelf
from processors.decisions import POLICY
from schemas.events import DeliveryAttempted, Entry, MessagesErased, MessagesRead, MessageStored, PendingSync
from schemas.lifecycle import Status
from schemas.raw import RawRecord

_REPEATS_KEPT = 256


class Messages:
    """What the log says about them so far, in one partition."""

    def __init__(self, notes: Notes, sessions: Sessions, disk: Disk, *, near_rows: int = NEAR_ROWS) -> None:
        self._notes = notes
        self._sessions = sessions
        self._lives: Shelf[Life] = Shelf(disk, Life.pack, Life, near_rows=near_rows)

    def states(self) -> Iterator[tuple[int, Life, Status]]:
        """Every message by its number, with its state."""
        for number, life in self._lives.items():
            if life.position >= self._notes.start:
                yield number, life, self._status(life)

    def stored(self, fact: MessageStored, raw: RawRecord) -> None:
        """The message, or one more record of its id."""
        counts = self._notes.counts
        counts.stored += 1
        number, event = fact.message_id.int, fact.event_id.int
        life = self._lives.get(number)
        if life is None:
            counts.distinct += 1
            self._lives.put(number, Life(fact.recipient.int, fact.sender.int, raw.offset, event, raw.at_ms, fact.keyed))
            self._notes.latencies["Created to Stored"].add(raw.at_ms - fact.created_at_ms)
            self._sessions.alive(fact, raw)
            return
        counts.repeats += 1
        if event == life.event or not (fact.keyed and life.keyed) or fact.recipient.int != life.recipient:
            self._notes.find(
                Kind.DUPLICATE,
                raw.offset,
                f"the message at offset {life.position} was written again"
                + ("" if event != life.event else ", the same record"),
                message_id=fact.message_id,
            )
        life.repeats = (*life.repeats, (event, raw.offset, raw.at_ms))[-_REPEATS_KEPT:]

    def decided(self, fact: Decision, raw: RawRecord) -> None:
        """Whether it follows, and what it makes of the message."""
        life = self._life(fact.message_id, fact.position, fact.recipient, raw, "decided")
        if life is None:
            return
        if self._caused(fact, life, raw):
            self._replayed(fact, life, raw)
        if life.decisions:
            self._notes.counts.redecided += 1
        else:
            self._notes.latencies["Stored to decided"].add(raw.at_ms - life.stored_ms)
        life.decisions += 1
        self._resolve(life)
        if life.delivered_ms is not None or self._is_erased(life):
            self._notes.counts.late += 1
        elif isinstance(fact, DeliveryAttempted):
            if life.attempted_ms is None:
                life.attempted_ms = raw.at_ms
                life.flights = tuple(seen.session_id.int for seen in fact.sessions)
        elif life.pending_ms is None:
            self._pending(life, fact, raw)

    def _pending(self, life: Life, fact: PendingSync, raw: RawRecord) -> None:
        if fact.session_id is None:
            life.attempted_ms = life.attempted_ms or raw.at_ms
            life.pending_ms, life.flights = raw.at_ms, ()
        elif fact.session_id.int in life.flights:
            life.flights = tuple(session for session in life.flights if session != fact.session_id.int)
            if not life.flights and life.pending_ms is None:
                life.pending_ms = raw.at_ms

    def acknowledged(self, fact: Acknowledgement, raw: RawRecord) -> None:
        """By whom, and what it makes of the messages."""
        self._sessions.note(fact, raw)
        self._sessions.entitled(fact, raw)
        is_read = isinstance(fact, MessagesRead)
        for entry in fact.entries:
            life = self._life(entry.message_id, entry.position, fact.recipient, raw, "acknowledged", entry)
            if life is not None and not self._sessions.gone(life.recipient):
                self._resolve(life)
                if life.delivered_ms is None:
                    self._delivered(life, raw.at_ms)
                if is_read and life.read_ms is None:
                    assert life.delivered_ms is not None
                    life.read_ms = raw.at_ms
                    self._notes.latencies["Delivered to Read"].add(raw.at_ms - life.delivered_ms)

    def ended(self, fact: MessagesErased, raw: RawRecord) -> None:
        """Senders are told that their messages ended with the account."""
        self._sessions.note(fact, raw)
        if self._notes.whole and not self._sessions.gone(fact.recipient.int):
            text = f"messages are said to have ended with account {fact.recipient}, which was not erased"
            self._notes.find(Kind.UNCAUSED, raw.offset, text)
        for entry in fact.entries:
            self._life(entry.message_id, entry.position, fact.recipient, raw, "said to have ended", entry)

    def _delivered(self, life: Life, at_ms: int) -> None:
        life.delivered_ms, life.flights = at_ms, ()
        self._notes.latencies["Stored to Delivered"].add(at_ms - life.stored_ms)
        if life.pending_ms is not None:
            self._notes.latencies["PendingSync to Delivered"].add(at_ms - life.pending_ms)

    def _life(
        self, message_id: UUID, position: int, recipient: UUID, raw: RawRecord, what: str, entry: Entry | None = None
    ) -> Life | None:
        """The message that a record is about, where it is one of this account; else what is wrong is found."""
        life = self._lives.get(message_id.int)
        if position < self._notes.start:
            self._earlier(life, position)
            return None
        if life is None:
            text = f"{what}, but no record before this one stored the message for this account"
            self._notes.find(Kind.BEFORE_STORED, raw.offset, text, message_id=message_id)
            return None
        if life.recipient != recipient.int:
            text = (
                f"{what} for account {recipient}, but it was stored at offset {life.position} for {UUID(int=life.recipient)}"
            )
            self._notes.find(Kind.FORGED_ACK if entry else Kind.CONTRADICTION, raw.offset, text, message_id=message_id)
            return None
        if position != life.position and not (entry is None and any(position == at for _, at, _ in life.repeats)):
            text = f"{what} as the message at offset {position}, but it stands at {life.position}"
            self._notes.find(Kind.CONTRADICTION, raw.offset, text, message_id=message_id)
        if entry is not None and entry.sender.int != life.sender:
            text = f"{what} as sent by {entry.sender}, but it was sent by {UUID(int=life.sender)}"
            self._notes.find(Kind.CONTRADICTION, raw.offset, text, message_id=message_id)
        return life

    def _earlier(self, life: Life | None, position: int) -> None:
        """The message stands before the first offset read: what was taken for it is a repeat."""
        self._notes.counts.earlier += 1
        if life is not None and life.position >= self._notes.start:
            self._notes.counts.distinct -= 1
            self._notes.counts.repeats += 1
            life.repeats = (*life.repeats, (life.event, life.position, life.stored_ms))
            life.position = position

    def _caused(self, fact: Decision, life: Life, raw: RawRecord) -> bool:
        cause = fact.causation_id.int if fact.causation_id else None
        if cause == life.event or any(cause == event for event, _, _ in life.repeats):
            return True
        text = f"a {type(fact).__name__} that names event {fact.causation_id} as its cause, which did not store the message"
        self._notes.find(Kind.UNCAUSED, raw.offset, text, message_id=fact.message_id)
        return False

    def _replayed(self, fact: Decision, life: Life, raw: RawRecord) -> None:
        if fact.policy != POLICY:
            self._notes.counts.other_policy += 1
            return
        assert fact.causation_id is not None
        cause = fact.causation_id.int
        position = next((at for event, at, _ in life.repeats if event == cause), life.position)
        strange = [seen for seen in fact.sessions if not self._sessions.is_known(seen, fact.recipient)]
        if strange:
            text = f"it saw session {strange[0].session_id} at epoch {strange[0].epoch}, where the log has no such marker"
        elif not follows(fact, position, self._sessions.opened_at):
            text = f"the policy {POLICY} does not give this {type(fact).__name__} from the evidence in it"
        else:
            return
        self._notes.find(Kind.NOT_REPLAYED, raw.offset, text, message_id=fact.message_id)

    def _resolve(self, life: Life) -> None:
        """A message all of whose sessions have ended since it was stored waits for the next sync. (`evolve` notes it when
        the last one ends; the result is the same.)"""
        if not life.flights or life.pending_ms is not None or life.delivered_ms is not None:
            return
        latest = 0
        for session in life.flights:
            ended_ms = self._sessions.ended_since(session, life.position)
            if ended_ms is None:
                return
            latest = max(latest, ended_ms)
        life.pending_ms, life.flights = max(latest, life.attempted_ms or 0), ()

    def _is_erased(self, life: Life) -> bool:
        return life.delivered_ms is None and self._sessions.gone(life.recipient)

    def _status(self, life: Life) -> Status:
        self._resolve(life)
        if self._is_erased(life):
            return Status.ERASED
        proofs = (
            (life.read_ms, Status.READ),
            (life.delivered_ms, Status.DELIVERED),
            (life.pending_ms, Status.PENDING_SYNC),
            (life.attempted_ms, Status.DELIVERY_ATTEMPTED),
        )
        return next((status for at_ms, status in proofs if at_ms is not None), Status.STORED)
