"""SECURITY.md: every test that it names is there, and every risk of the list has one."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)))


@pytest.mark.parametrize(("file", "test"), NAMED, ids=["::".join(filter(None, one)) for one in NAMED])
def test_what_it_names_is_there(file: str, test: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert re.search(rf"def {test}\b" if test else r"def test_", text)


def test_every_risk_is_held_by_a_test() -> None:
    rows = re.findall(r"^\| (API\d+) .*$", PAGE, re.MULTILINE)
    assert rows == [f"API{number}" for number in range(1, 11)]
    for line in re.findall(r"^\| API.*$", PAGE, re.MULTILINE):
        assert "`tests/" in line.split("|")[3], line


def test_nothing_that_looks_like_a_test_is_left_out() -> None:
    assert len(re.findall(r"`tests/", PAGE)) == len(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE))
