"""Questions to the projection. Each is one statement by key (a message's rows: one a table), and returns dataclasses.

`floors` (partition -> offset) is what the answer must contain: the log's ends as they were when the request came. Wait for
them first (`Progress.reached`) and pass them on: each statement checks them in its own snapshot and raises
`ProjectionBehind` where the projection has gone back since (a restore, a rebuild). Without floors: whatever is there.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

from psycopg.types.numeric import Int2, Int8

from projections import columns
from projections.database import Connection, Database, load_queries
from projections.life import AckRow, DecisionRow, EndRow, MessageView, OtherRow, Rows, StoredRow, Trail, trail, view
from schemas.events import Entry
from schemas.lifecycle import Status
from schemas.topics import LIFECYCLE, RECEIPTS

Floors = Mapping[int, int]
NO_FLOORS: Final[Floors] = {}

START: Final = -1
"""The position before every message: `after=START` reads from the beginning (0 is a position)."""

COUNTED: Final = 10_000
"""`Page.pending` is exact up to this; more is said as this."""

QUERIES: Final = load_queries("projections", "reads.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxRow:
    """A message in a device's mailbox. `sealed` is the encrypted body; `sender_name` is None once the sender is erased."""

    message_id: UUID
    sender: UUID
    sender_name: str | None
    sealed: bytes
    stored_at_ms: int
    position: int
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some of a mailbox, oldest first. `pending` counts all of it (exact to COUNTED)."""

    rows: list[MailboxRow]
    has_more: bool
    pending: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A message that is the user's: has this device acknowledged it, has the user read it?"""

    message_id: UUID
    position: int
    sender: UUID
    delivered_to_device: bool
    read: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """What is known of an id that is taken."""

    message_id: UUID
    recipient: UUID
    sender: UUID
    digest: bytes
    partition: int
    position: int
    stored_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How much of something: in all, and by sender (as integers) where it is more than `others`."""

    total: int
    by_sender: Mapping[int, int]
    others: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What of an account's mail no device has acknowledged, counted up to the limit of messages that was asked for. What the
    partition holds below `applied` is in it."""

    applied: int
    messages: Measured
    bytes: Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptRow:
    """What became of a message that the asker sent. `recipient_name` is None once the recipient is erased; `at_ms` is when
    the recipient's fact was appended."""

    position: int
    message_id: UUID
    recipient_name: str | None
    outcome: str
    at_ms: int


class _OfMessage(Protocol):
    @property
    def message_id(self) -> UUID: ...


R = TypeVar("R", bound=_OfMessage)


class Reads:
    """The questions. Every method may raise `DatabaseUnavailable`, and with floors `ProjectionBehind`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        user: UUID,
        device: UUID,
        *,
        after: int,
        limit: int,
        max_bytes: int,
        floors: Floors = NO_FLOORS,
        counted: bool = True,
    ) -> Page:
        """The first `limit` messages above position `after` that the device has not acknowledged, as far as their sealed
        bodies stay within `max_bytes` (one at least). Costs the same however deep the mailbox is. Without `counted` nobody
        counts the mailbox: `pending` is what the page has."""
        async with self._database.connection() as connection:
            found = await connection.tuples(
                QUERIES["page"],
                user=user,
                device=device,
                after=Int8(after),
                limit=Int8(limit),
                max_bytes=Int8(max_bytes),
                **_floors(floors),
            )
            rows = [_mailbox_row(row) for row in found]
            has_more = bool(found) and len(found) < found[0][6]
            if not counted or (after <= START and not has_more):
                return Page(rows=rows, has_more=has_more, pending=len(rows))
            return Page(rows=rows, has_more=has_more, pending=await self._pending(connection, user, device))

    async def pending(self, user: UUID, device: UUID) -> int:
        """How many messages the device has not acknowledged (exact to COUNTED)."""
        async with self._database.connection() as connection:
            return await self._pending(connection, user, device)

    async def held(
        self, user: UUID, *, partition: int, limit: int, small: tuple[int, int], floors: Floors = NO_FLOORS
    ) -> Held:
        """Count what no device has acknowledged, up to `limit` messages; senders of no more than `small` messages and bytes
        are not named. Reads that many rows, so ask seldom."""
        ((applied, total, size, senders, counts, sizes),) = await self._database.tuples(
            QUERIES["held"],
            user=user,
            partition=Int2(partition),
            limit=Int8(limit),
            small=Int8(small[0]),
            small_size=Int8(small[1]),
            **_floors(floors),
        )
        named = [sender.int for sender in senders or ()]
        return Held(
            applied=applied,
            messages=Measured(total=total, others=small[0], by_sender=dict(zip(named, counts or (), strict=True))),
            bytes=Measured(total=size, others=small[1], by_sender=dict(zip(named, sizes or (), strict=True))),
        )

    async def outstanding(self, user: UUID, device: UUID, ids: Sequence[UUID], *, floors: Floors = NO_FLOORS) -> list[Found]:
        """What is known of those of these messages whose recipient is the user; the others are left out. No order."""
        return await self._database.all(
            Found, QUERIES["outstanding"], user=user, device=device, ids=columns.uuids(ids), **_floors(floors)
        )

    async def up_to(
        self, user: UUID, device: UUID, position: int, *, after: int, limit: int, floors: Floors = NO_FLOORS
    ) -> list[Entry]:
        """The first `limit` messages above position `after` and up to `position` that the device has not acknowledged."""
        return await self._database.all(
            Entry,
            QUERIES["up_to"],
            user=user,
            device=device,
            position=Int8(position),
            after=Int8(after),
            limit=Int8(limit),
            **_floors(floors),
        )

    async def stragglers(
        self, users: Sequence[UUID], devices: Sequence[UUID], after: Sequence[int], *, stored_before_ms: int
    ) -> list[UUID]:
        """Of these devices, each with its user and a position, those whose mailbox has a message above that position which
        was stored before that time."""
        rows = await self._database.tuples(
            QUERIES["stragglers"],
            users=columns.uuids(users),
            devices=columns.uuids(devices),
            positions=columns.bigints(after),
            stored_before=Int8(stored_before_ms),
        )
        return [device for (device,) in rows]

    async def receipts(self, user: UUID, *, after: int, limit: int, floors: Floors = NO_FLOORS) -> list[ReceiptRow]:
        """The first `limit` receipts above position `after` that are the user's, oldest first. Positions and floors are
        those of the receipts topic."""
        return await self._database.all(
            ReceiptRow,
            QUERIES["receipts"],
            user=user,
            after=Int8(after),
            limit=Int8(limit),
            **_floors(floors, RECEIPTS),
        )

    async def stored_all(
        self, sender: UUID, ids: Sequence[UUID], *, floors: Floors = NO_FLOORS
    ) -> dict[UUID, StoredMessage]:
        """The messages of this sender that took these ids, by id."""
        rows = await self._database.all(
            StoredMessage, QUERIES["stored"], user=sender, ids=columns.uuids(ids), **_floors(floors)
        )
        return {row.message_id: row for row in rows}

    async def messages(self, user: UUID, ids: Sequence[UUID], *, floors: Floors = NO_FLOORS) -> list[MessageView]:
        """What is known of those of these messages that the user sent or got, in the order of `ids`."""
        return [view(rows) for rows in await self._rows(user, ids, floors)]

    async def trail(self, user: UUID, message_id: UUID, *, floors: Floors = NO_FLOORS) -> Trail | None:
        """Every record that proves something about a message, or None where the user neither sent nor got it."""
        found = await self._rows(user, [message_id], floors)
        return trail(found[0]) if found else None

    async def erased_and_back(self) -> list[UUID]:
        """Some accounts that the log has as erased, and that are there all the same."""
        return [row[0] for row in await self._database.tuples(QUERIES["erased_and_back"])]

    async def untold_accounts(self) -> list[UUID]:
        """Some erased accounts to which somebody wrote who has yet to be told."""
        return [row[0] for row in await self._database.tuples(QUERIES["untold_accounts"])]

    async def untold(self, user: UUID, *, after: int, limit: int, floors: Floors = NO_FLOORS) -> list[Entry]:
        """The first `limit` messages above position `after` that ended with the user's account and whose senders have yet to
        be told."""
        return await self._database.all(
            Entry, QUERIES["untold"], user=user, after=Int8(after), limit=Int8(limit), **_floors(floors)
        )

    async def offsets(self) -> dict[int, int]:
        """How far each partition has been folded: partition -> offset after the last record."""
        return dict(await self._database.tuples(QUERIES["offsets"], topic=LIFECYCLE))

    async def _pending(self, connection: Connection, user: UUID, device: UUID) -> int:
        rows = await connection.tuples(QUERIES["pending"], user=user, device=device, limit=Int8(COUNTED))
        return int(rows[0][0])

    async def _rows(self, user: UUID, ids: Sequence[UUID], floors: Floors) -> list[Rows]:
        async with self._database.snapshot() as snapshot:
            stored = await snapshot.all(StoredRow, QUERIES["messages"], user=user, ids=columns.uuids(ids), **_floors(floors))
            if not stored:
                return []
            asked = columns.uuids([row.message_id for row in stored])
            decisions = _by_message(await snapshot.all(DecisionRow, QUERIES["decisions"], ids=asked))
            ends = _by_message(await snapshot.all(EndRow, QUERIES["ends"], ids=asked))
            deliveries = _by_message(await snapshot.all(AckRow, QUERIES["deliveries"], ids=asked))
            readings = _by_message(await snapshot.all(AckRow, QUERIES["readings"], ids=asked))
            erasures = _by_message(await snapshot.all(OtherRow, QUERIES["erasures"], ids=asked))
            repeats = _by_message(await snapshot.all(OtherRow, QUERIES["repeats"], ids=asked))
        known = {row.message_id: row for row in stored}
        return [
            Rows(
                stored=known[message_id],
                decisions=decisions[message_id],
                ends=ends[message_id],
                deliveries=deliveries[message_id],
                readings=readings[message_id],
                erasures=erasures[message_id],
                repeats=repeats[message_id],
            )
            for message_id in dict.fromkeys(ids)
            if message_id in known
        ]


def _mailbox_row(row: tuple[Any, ...]) -> MailboxRow:
    position, message_id, sender, sender_name, sealed, stored_at_ms, _, status = row
    return MailboxRow(
        message_id=message_id,
        sender=sender,
        sender_name=sender_name,
        sealed=sealed,
        stored_at_ms=stored_at_ms,
        position=position,
        status=Status(status),
    )


def _by_message(rows: Iterable[R]) -> defaultdict[UUID, list[R]]:
    found: defaultdict[UUID, list[R]] = defaultdict(list)
    for row in rows:
        found[row.message_id].append(row)
    return found


def _floors(floors: Floors, topic: str = LIFECYCLE) -> dict[str, Any]:
    return {
        "topic": topic,
        "partitions": columns.smallints(list(floors.keys())),
        "ends": columns.bigints(list(floors.values())),
    }
