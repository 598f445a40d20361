"""What each topic must be like for our promises to hold, and how a live topic falls short. Pure.

A setting that is stronger than needed is no drift: only what could lose or reorder something, or stop it from being written.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from producers.log import MAX_RECORD_BYTES
from schemas.topics import BRIEFLY_MS, Kept, Topic

MAX_MESSAGE_BYTES: Final = 2 * MAX_RECORD_BYTES
"""A batch holds one record of the largest size, or several up to that; with room for Kafka's own bytes."""

_ROLL_MS = 600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTopic:
    """A topic as the cluster has it. `replication` is that of its worst partition; `settings` are the effective ones."""

    partitions: int
    replication: int
    settings: Mapping[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One way in which a live topic is weaker than it should be: what is, what should be, what could happen, what to do."""

    topic: str
    setting: str
    live: str
    wanted: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.setting} is {self.live}, should be {self.wanted}: {self.why}. {self.remedy}"


@dataclass(frozen=True, slots=True)
class _Rule:
    wanted: str
    holds: Callable[[str], bool]
    why: str


def wanted_settings(topic: Topic, replication: int) -> dict[str, str]:
    """The settings that a topic is created with."""
    return {name: rule.wanted for name, rule in _rules(topic, replication).items()} | _comforts(topic)


def find_drift(topic: Topic, live: LiveTopic | None, partitions: int) -> Iterator[Drift]:
    """What is weaker than the promise. `live` is None where the topic is missing, `partitions` is RESTANTE_PARTITIONS."""
    if live is None:
        yield _drift(topic, "topic", "missing", "there", topic.why, "Run `restante topics`")
        return
    wanted = partitions if topic.partitioned else 1
    if live.partitions != wanted:
        yield _drift(
            topic,
            "partitions",
            str(live.partitions),
            str(wanted),
            "keys would move to other partitions and a recipient's order would be lost",
            f"Set RESTANTE_PARTITIONS={live.partitions}" if topic.partitioned else "Move its records to a new topic",
        )
    for name, rule in _rules(topic, live.replication).items():
        value = live.settings.get(name)
        if value is None or not rule.holds(value):
            change = f"--entity-type topics --entity-name {topic.name} --add-config {name}={rule.wanted}"
            remedy = f"Run kafka-configs.sh --alter {change}"
            yield _drift(topic, name, "not set" if value is None else value, rule.wanted, rule.why, remedy)


def _rules(topic: Topic, replication: int) -> dict[str, _Rule]:
    return (
        _kept(topic, replication)
        | {
            "message.timestamp.type": _Rule(
                "LogAppendTime", "LogAppendTime".__eq__, "times would come from clients' clocks"
            ),
            "max.message.bytes": _Rule(
                str(MAX_MESSAGE_BYTES), lambda value: int(value) >= MAX_MESSAGE_BYTES, "large records would be refused"
            ),
            "unclean.leader.election.enable": _Rule(
                "false", "false".__eq__, "a replica that lacks acknowledged records could become leader"
            ),
        }
        | _durable(topic, replication)
    )


def _kept(topic: Topic, replication: int) -> dict[str, _Rule]:
    unlimited = _Rule("-1", "-1".__eq__, "old records would be deleted")
    match topic.kept:
        case Kept.FOR_EVER:
            policy = _Rule(
                "delete", lambda value: value in ("delete", ""), "compaction would delete all but the last record of a key"
            )
            return {"cleanup.policy": policy, "retention.ms": unlimited, "retention.bytes": unlimited}
        case Kept.BRIEFLY:
            policy = _Rule(
                "delete", lambda value: value in ("delete", ""), "compaction would delete records that wait to be read"
            )
            long_enough = _Rule(
                str(BRIEFLY_MS),
                lambda value: int(value) == -1 or int(value) >= BRIEFLY_MS,
                "records would go before they are read",
            )
            return {"cleanup.policy": policy, "retention.ms": long_enough, "retention.bytes": unlimited}
        case Kept.COMPACTED:
            policy = _Rule("compact", "compact".__eq__, "the last record of a key could be deleted, or old ones never")
            return {"cleanup.policy": policy}


def _durable(topic: Topic, replication: int) -> dict[str, _Rule]:
    if replication > 1:
        two = _Rule("2", lambda value: int(value) >= 2, "one broker alone could acknowledge, and be lost")
        return {"min.insync.replicas": two}
    if topic.kept is Kept.FOR_EVER:
        synced = _Rule(
            "1", "1".__eq__, "with one replica a power loss would take what was acknowledged and not yet on the disk"
        )
        return {"flush.messages": synced}
    return {}


def _comforts(topic: Topic) -> dict[str, str]:
    """What a topic is created with, but may be changed by those who run it."""
    match topic.kept:
        case Kept.FOR_EVER:
            return {}
        case Kept.BRIEFLY:
            return {"segment.ms": str(_ROLL_MS)}
        case Kept.COMPACTED:
            return {"segment.ms": str(_ROLL_MS), "min.cleanable.dirty.ratio": "0.1"}


def _drift(topic: Topic, setting: str, live: str, wanted: str, why: str, remedy: str) -> Drift:
    return Drift(topic=topic.name, setting=setting, live=live, wanted=wanted, why=why, remedy=remedy)
