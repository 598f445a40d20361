"""Who the processes are to Kafka and to PostgreSQL: one name each, the same in both, and what they do with the topics."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from schemas.topics import Role


class Principal(StrEnum):
    """A process role, or a person's, by the name that it logs in with. The value is also a certificate's common name."""

    API = "restante_api"
    PROCESSOR = "restante_processor"
    PROJECTOR = "restante_projector"
    NOTARY = "restante_notary"
    AUDITOR = "restante_auditor"
    OPERATOR = "restante_operator"
    ADMIN = "restante_admin"


ACTS_AS: Final[Mapping[Principal, tuple[Role, ...]]] = {
    Principal.API: (Role.API, Role.GATEWAY),
    Principal.PROCESSOR: (Role.PROCESSOR,),
    Principal.PROJECTOR: (Role.PROJECTOR,),
    Principal.NOTARY: (Role.NOTARY,),
    Principal.AUDITOR: (Role.AUDIT, Role.NOTARY),
    Principal.OPERATOR: (Role.OPERATOR,),
    Principal.ADMIN: (Role.PROJECTOR,),
}
"""What the table of topics says of these roles is what Kafka lets a principal do. Whoever audits may also verify what the
notary signs, and writes nothing; the operator sees to the quarantine; the admin makes topics and tables and, with
`restante rebuild`, folds as the projector does."""
