"""The table of topics: legal, without orphans, and the same as in the documents."""

import re
from pathlib import Path

from schemas.codec import SCHEMA_OF
from schemas.topics import APP_ID, CHANGELOG, LIFECYCLE, PRESENCE_TABLE, TOPIC_OF, TOPICS, Kept


def test_names_are_legal_and_unique() -> None:
    names = [topic.name for topic in TOPICS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z.-]{1,249}", name) for name in names)


def test_every_kind_of_record_has_its_topic() -> None:
    assert set(TOPIC_OF) == set(SCHEMA_OF)
    assert set(TOPIC_OF.values()) <= {topic.name for topic in TOPICS}


def test_every_topic_has_writers_readers_and_a_reason() -> None:
    for topic in TOPICS:
        assert topic.written_by and topic.read_by and topic.why and topic.key


def test_the_truth_is_kept_for_ever() -> None:
    assert {topic.name: topic.kept for topic in TOPICS}[LIFECYCLE] is Kept.FOR_EVER


def test_the_changelog_has_the_name_that_faust_gives_it() -> None:
    assert f"{APP_ID}-{PRESENCE_TABLE}-changelog" == CHANGELOG


def test_the_documents_show_this_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "topics.md").read_text()
    for topic in TOPICS:
        cells = [f"`{topic.name}`", topic.key, topic.kept.value, ", ".join(topic.written_by), ", ".join(topic.read_by)]
        assert "| " + " | ".join([*cells, topic.why]) + " |" in text
