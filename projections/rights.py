"""Who may do what in PostgreSQL: one row a table (`grants` makes it so).

A database role has what its rows say and nothing else; the admin's owns everything. Rows of the projection that belong to
an account are hidden from the API's role unless the statement has said that it reads for that account (`restante.reader`,
see sql/reads.sql): a second net below the statements, which ask for the account anyway (docs/decisions/0012).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, LiteralString

from projections.pointer import PLACES
from schemas.principals import Principal

ADMIN: Final = Principal.ADMIN
ROLES: Final = (Principal.API, Principal.PROJECTOR, Principal.NOTARY, Principal.AUDITOR)
"""Those with rights on tables. The processor and the operator have no business in the database and no role in it."""

_READER: Final[LiteralString] = "nullif(current_setting('restante.reader', true), '')::uuid"
_OWN: Final[LiteralString] = "account = " + _READER
_OF_BOTH: Final[LiteralString] = "(SELECT " + _READER + ") IN (recipient, sender)"
_AMONG_MINE: Final[LiteralString] = "contacts.account = {this}.account AND contacts.sender = (SELECT " + _READER + ")"
_WRITTEN_TO: Final[LiteralString] = _OWN + " OR EXISTS (SELECT FROM {schema}.contacts WHERE " + _AMONG_MINE + ")"
_OF_MESSAGE: Final[LiteralString] = "EXISTS (SELECT FROM {schema}.messages WHERE messages.message_id = {this}.message_id)"
_OF_DEVICE: Final[LiteralString] = "device_id IN (SELECT device_id FROM {schema}.devices WHERE " + _OWN + ")"  # noqa: S608


@dataclass(frozen=True, slots=True)
class Table:
    """What each role may do with a table. `api_sees` is the condition of the rows that the API's role sees; None: every row,
    because they say nothing about anybody's messages, or because `why`."""

    name: str
    api: str = ""
    projector: str = ""
    notary: str = ""
    auditor: str = ""
    api_sees: LiteralString | None = None
    why: str = ""

    def of(self, role: Principal) -> list[tuple[str, str]]:
        """The rights of a role: privileges, each with a column, or with "" for the whole table."""
        given: str = getattr(self, role.name.lower())
        rights = []
        for right in given.split("; ") if given else ():
            privilege, _, columns = right.partition(" (")
            rights += [(privilege, column) for column in columns.removesuffix(")").split(", ")]
        return rights


_READ = "SELECT"
_FOLD = "SELECT; INSERT"

_MIGRATIONS = Table("migrations", api=_READ, projector=_READ, notary=_READ, auditor=_READ)

ACCOUNTS: Final = (
    _MIGRATIONS,
    Table("accounts", api="SELECT; INSERT; UPDATE", auditor="SELECT (user_id, name, created_at, erased_at)"),
    Table("devices", api="SELECT; INSERT; UPDATE", auditor="SELECT (device_id, user_id, label, created_at, removed_at)"),
    Table("refresh_families", api="SELECT; INSERT; UPDATE; DELETE"),
    Table("refresh_tokens", api="SELECT; INSERT; UPDATE; DELETE"),
)

POINTER: Final = (_MIGRATIONS, Table("projection", api=_READ, projector=_READ, notary=_READ, auditor=_READ))

PROJECTION: Final = (
    _MIGRATIONS,
    Table(
        "offsets",
        api=_READ,
        projector="SELECT; INSERT; UPDATE",
        notary="SELECT (topic, partition, next_offset, chain)",
        auditor=_READ,
    ),
    Table("mailbox", api=_READ, projector="SELECT; INSERT; DELETE", auditor=_READ, api_sees=_OWN),
    Table("owed", api=_READ, projector="SELECT; INSERT; DELETE", auditor=_READ, api_sees=_OF_DEVICE),
    Table("messages", api=_READ, projector=_FOLD, auditor=_READ, api_sees=_OF_BOTH),
    Table("repeats", api=_READ, projector=_FOLD, auditor=_READ, api_sees=_OF_MESSAGE),
    Table("devices", api=_READ, projector="SELECT; INSERT; UPDATE", auditor=_READ, api_sees=_OWN),
    Table("sessions", api=_READ, projector="SELECT; INSERT; UPDATE", auditor=_READ, api_sees=_WRITTEN_TO),
    Table("session_ends", api=_READ, projector=_FOLD, auditor=_READ, api_sees=_WRITTEN_TO),
    Table(
        "decisions",
        api=_READ,
        projector=_FOLD,
        auditor=_READ,
        why="a look at the message for each row cost a sync of 100 messages a sixth of its query (docs/decisions/0012)",
    ),
    Table("deliveries", api=_READ, projector=_FOLD, auditor=_READ, api_sees=_OF_MESSAGE),
    Table("reads", api=_READ, projector=_FOLD, auditor=_READ, api_sees=_OF_MESSAGE),
    Table(
        "erased",
        api=_READ,
        projector=_FOLD,
        auditor=_READ,
        why="an API process that starts compares it with the accounts; it holds ids only",
    ),
    Table(
        "untold",
        api=_READ,
        projector="SELECT; INSERT; DELETE",
        auditor=_READ,
        why="whoever finishes an erasure asks for all accounts; it holds ids only",
    ),
    Table("receipts", api=_READ, projector=_FOLD, auditor=_READ, api_sees=_OWN),
    Table(
        "contacts",
        api=_READ,
        projector=_FOLD,
        auditor=_READ,
        api_sees="(SELECT " + _READER + ") IN (account, sender)",
    ),
)

SCHEMAS: Final[Mapping[str, tuple[Table, ...]]] = {
    "accounts": ACCOUNTS,
    "pointer": POINTER,
    **{place: PROJECTION for place in PLACES},
}
