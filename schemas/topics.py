"""The table of topics. One row is the whole truth about a topic; creation, verification and the documents read it here."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from schemas.codec import SCHEMA_OF
from schemas.gateways import GatewayLease
from schemas.presence import PresenceRow
from schemas.push import Push
from schemas.quarantined import Quarantined, Replayed
from schemas.receipt import Receipt


class Kept(StrEnum):
    """How long a topic keeps its records."""

    FOR_EVER = "for ever"
    BRIEFLY = "10 minutes"
    COMPACTED = "compacted"


class Role(StrEnum):
    """The processes that touch a topic."""

    API = "api"
    GATEWAY = "gateway"
    PROCESSOR = "processor"
    PROJECTOR = "projector"
    NOTARY = "notary"
    AUDIT = "audit"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic. `partitioned` topics have RESTANTE_PARTITIONS partitions, the others one."""

    name: str
    key: str
    kept: Kept
    written_by: tuple[Role, ...]
    read_by: tuple[Role, ...]
    why: str
    partitioned: bool = True


APP_ID: Final = "restante-processor"
"""Group of the processors; Faust derives the changelog's name from it."""

PRESENCE_TABLE: Final = "presence"

LIFECYCLE: Final = "restante.lifecycle"
PUSH: Final = "restante.push"
GATEWAYS: Final = "restante.gateways"
RECEIPTS: Final = "restante.receipts"
QUARANTINE: Final = "restante.quarantine"
CHANGELOG: Final = f"{APP_ID}-{PRESENCE_TABLE}-changelog"

BRIEFLY_MS: Final = 600_000

TOPICS: Final[tuple[Topic, ...]] = (
    Topic(
        name=LIFECYCLE,
        key="recipient's user id",
        kept=Kept.FOR_EVER,
        written_by=(Role.API, Role.GATEWAY, Role.PROCESSOR, Role.OPERATOR),
        read_by=(Role.PROCESSOR, Role.PROJECTOR, Role.NOTARY, Role.AUDIT),
        why="the truth: every fact about a recipient, in one order",
    ),
    Topic(
        name=PUSH,
        key="gateway",
        kept=Kept.BRIEFLY,
        written_by=(Role.PROCESSOR,),
        read_by=(Role.GATEWAY,),
        why="orders to the gateways; a lost one costs an append and a query, so it need not last",
    ),
    Topic(
        name=GATEWAYS,
        key="gateway",
        kept=Kept.COMPACTED,
        written_by=(Role.GATEWAY,),
        read_by=(Role.PROCESSOR,),
        why="which gateways are alive; every processor reads it wholly",
        partitioned=False,
    ),
    Topic(
        name=RECEIPTS,
        key="sender's user id",
        kept=Kept.FOR_EVER,
        written_by=(Role.PROCESSOR, Role.OPERATOR),
        read_by=(Role.PROJECTOR, Role.GATEWAY, Role.NOTARY),
        why="what became of a sender's messages, in one order a sender",
    ),
    Topic(
        name=QUARANTINE,
        key="source topic and partition",
        kept=Kept.FOR_EVER,
        written_by=(Role.PROCESSOR, Role.PROJECTOR, Role.OPERATOR),
        read_by=(Role.OPERATOR, Role.AUDIT),
        why="records that could not be understood, so that what follows them flows on",
        partitioned=False,
    ),
    Topic(
        name=CHANGELOG,
        key="device",
        kept=Kept.COMPACTED,
        written_by=(Role.PROCESSOR,),
        read_by=(Role.PROCESSOR,),
        why="the processor's table of live sessions, for the next processor",
    ),
)

_OTHERS: Final[dict[type[Any], str]] = {
    Push: PUSH,
    GatewayLease: GATEWAYS,
    Receipt: RECEIPTS,
    Quarantined: QUARANTINE,
    Replayed: QUARANTINE,
    PresenceRow: CHANGELOG,
}

SIGNED: Final[tuple[str, ...]] = tuple(topic.name for topic in TOPICS if Role.NOTARY in topic.read_by)
"""The topics whose chains the notary signs."""

TOPIC_OF: Final[dict[type[Any], str]] = {cls: _OTHERS.get(cls, LIFECYCLE) for cls in SCHEMA_OF}
"""The topic that each kind of record belongs to."""
