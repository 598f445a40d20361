"""What a topic must be like: one weakness at a time is found, and strength is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from producers.promises import LiveTopic, find_drift, wanted_settings
from schemas.topics import GATEWAYS, LIFECYCLE, PUSH, QUARANTINE, RECEIPTS, TOPICS, Topic

BY_NAME = {topic.name: topic for topic in TOPICS}


def _live(topic: Topic, replication: int = 1, **settings: str) -> LiveTopic:
    """The topic as it was created, with these settings changed (`_` for `.`)."""
    changed = {name.replace("_", "."): value for name, value in settings.items()}
    return LiveTopic(
        partitions=8 if topic.partitioned else 1,
        replication=replication,
        settings={"flush.messages": "9223372036854775807", **wanted_settings(topic, replication), **changed},
    )


def _found(topic: Topic, live: LiveTopic | None, partitions: int = 8) -> list[str]:
    return [row.setting for row in find_drift(topic, live, partitions)]


@pytest.mark.parametrize("replication", [1, 2, 3])
@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_a_topic_as_we_create_it_has_no_drift(topic: Topic, replication: int) -> None:
    assert _found(topic, _live(topic, replication)) == []


@pytest.mark.parametrize("name", [LIFECYCLE, RECEIPTS, QUARANTINE])
@pytest.mark.parametrize(
    "weakness",
    [
        {"retention_ms": "604800000"},
        {"retention_bytes": "1073741824"},
        {"cleanup_policy": "compact"},
        {"cleanup_policy": "compact,delete"},
        {"message_timestamp_type": "CreateTime"},
        {"max_message_bytes": "1048588"},
        {"unclean_leader_election_enable": "true"},
        {"flush_messages": "9223372036854775807"},
    ],
    ids=str,
)
def test_each_weakness_of_a_lasting_topic_is_found(name: str, weakness: dict[str, str]) -> None:
    topic = BY_NAME[name]
    assert _found(topic, _live(topic, **weakness)) == [setting.replace("_", ".") for setting in weakness]


def test_replicas_without_a_second_in_sync_one_are_weak() -> None:
    topic = BY_NAME[LIFECYCLE]
    assert _found(topic, _live(topic, 3, min_insync_replicas="1")) == ["min.insync.replicas"]


def test_replicas_need_no_flush() -> None:
    topic = BY_NAME[LIFECYCLE]
    assert _found(topic, _live(topic, 3, flush_messages="9223372036854775807")) == []


@pytest.mark.parametrize(
    ("name", "strength"),
    [
        (LIFECYCLE, {"max_message_bytes": "10485760"}),
        (LIFECYCLE, {"min_insync_replicas": "3"}),
        (LIFECYCLE, {"cleanup_policy": ""}),
        (PUSH, {"retention_ms": "3600000"}),
        (PUSH, {"retention_ms": "-1"}),
        (GATEWAYS, {"segment_ms": "60000", "flush_messages": "1"}),
    ],
)
def test_strength_is_no_drift(name: str, strength: dict[str, str]) -> None:
    assert _found(BY_NAME[name], _live(BY_NAME[name], 3, **strength)) == []


def test_the_other_kinds_have_their_own_weaknesses() -> None:
    assert _found(BY_NAME[PUSH], _live(BY_NAME[PUSH], retention_ms="60000")) == ["retention.ms"]
    assert _found(BY_NAME[GATEWAYS], _live(BY_NAME[GATEWAYS], cleanup_policy="delete")) == ["cleanup.policy"]


def test_a_topic_that_is_missing_or_has_other_partitions_is_found() -> None:
    topic = BY_NAME[LIFECYCLE]
    assert _found(topic, None) == ["topic"]
    assert _found(topic, _live(topic), partitions=4) == ["partitions"]
    assert _found(BY_NAME[QUARANTINE], replace(_live(BY_NAME[QUARANTINE]), partitions=8)) == ["partitions"]


def test_a_setting_that_is_not_told_counts_as_weak() -> None:
    topic = BY_NAME[LIFECYCLE]
    live = _live(topic)
    untold = {name: value for name, value in live.settings.items() if name != "retention.ms"}
    [row] = find_drift(topic, replace(live, settings=untold), 8)
    assert (row.setting, row.live) == ("retention.ms", "not set")


def test_drift_says_what_to_do() -> None:
    topic = BY_NAME[LIFECYCLE]
    [row] = find_drift(topic, _live(topic, retention_ms="1000"), 8)
    assert (row.live, row.wanted) == ("1000", "-1")
    assert "--entity-name restante.lifecycle --add-config retention.ms=-1" in row.remedy
    [row] = find_drift(topic, _live(topic), 4)
    assert "RESTANTE_PARTITIONS=8" in row.remedy
