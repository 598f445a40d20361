"""What an audit can find: a closed list, each kind with its meaning and what to do."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """Each is a reason for exit code 1. What is odd but allowed is counted elsewhere (`report.Counts`)."""

    GAP = "gap"
    DAMAGED = "damaged"
    UNREADABLE = "unreadable"
    FOREIGN = "foreign"
    MISPLACED = "misplaced"
    MISLABELLED = "mislabelled"
    WRONG_WRITER = "wrong_writer"
    BEFORE_STORED = "before_stored"
    CONTRADICTION = "contradiction"
    UNCAUSED = "uncaused"
    NOT_REPLAYED = "not_replayed"
    FORGED_ACK = "forged_ack"
    FORGED_SESSION = "forged_session"
    AFTER_END = "after_end"
    DUPLICATE = "duplicate"
    STUCK = "stuck"
    CONSERVATION = "conservation"


_FORGED: Final = "somebody has the credentials of a writer: change them, then look at who wrote it (`restante trail`)"
MEANINGS: Final[dict[Kind, tuple[str, str]]] = {
    Kind.GAP: ("offsets that no record has", "records were deleted: compare the topic's retention with `restante topics`"),
    Kind.DAMAGED: ("a batch of records does not fit its checksum", "restore the partition from a replica"),
    Kind.UNREADABLE: (
        "a record that no schema can read",
        "look at restante.quarantine; a newer version may have written it",
    ),
    Kind.FOREIGN: ("a record of a kind that is no fact", "find the program that writes to this topic"),
    Kind.MISPLACED: ("the key or the partition is not the account's", "find the program that writes to this topic"),
    Kind.MISLABELLED: ("the `ce_type` header is not the record's kind, so processors may have passed it over", _FORGED),
    Kind.WRONG_WRITER: ("a role wrote what is not its to write", _FORGED),
    Kind.BEFORE_STORED: ("a record about a message that was not stored for this account before it", _FORGED),
    Kind.CONTRADICTION: ("a record says another position or sender than its message has", _FORGED),
    Kind.UNCAUSED: ("no record of the log caused this one", _FORGED),
    Kind.NOT_REPLAYED: (
        "the recorded evidence does not give this decision",
        "compare the versions of the processors; else forged",
    ),
    Kind.FORGED_ACK: ("acknowledged by a device, session or account that is not the recipient's", _FORGED),
    Kind.FORGED_SESSION: ("a session of a device that the account does not have", _FORGED),
    Kind.AFTER_END: ("a device or an account acts long after it was removed", _FORGED),
    Kind.DUPLICATE: ("the same message was written twice, not by a client that repeated its key", _FORGED),
    Kind.STUCK: (
        "not pushed, pending or acknowledged for longer than the limit",
        "is a processor running? see its log and lag",
    ),
    Kind.CONSERVATION: ("records and messages do not add up", "report this: the audit itself or its disk is broken"),
}
"""What each kind means, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, with the record that shows it. `end` is beyond the last of several offsets."""

    kind: Kind
    partition: int
    offset: int
    text: str
    end: int | None = None
    message_id: str | None = None


@dataclass(slots=True)
class Findings:
    """All of them counted, and the first `most` of each kind kept."""

    most: int = 100
    counts: Counter[Kind] = field(default_factory=Counter)
    kept: list[Finding] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        """One more."""
        self.counts[finding.kind] += 1
        if self.counts[finding.kind] <= self.most:
            self.kept.append(finding)

    def include(self, others: Iterable[Finding], counts: Counter[Kind]) -> None:
        """Those of another partition."""
        before = Counter(finding.kind for finding in self.kept)
        for finding in others:
            before[finding.kind] += 1
            if before[finding.kind] <= self.most:
                self.kept.append(finding)
        self.counts += counts
