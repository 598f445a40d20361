"""Problems: one closed table, written as RFC 9457."""

from typing import get_args

import pytest

from api.problems import PROBLEMS, Code, Problem, invalid


def test_every_code_has_a_row_and_every_row_a_code() -> None:
    assert set(get_args(Code)) == set(PROBLEMS)


def test_the_document_says_what_the_contract_lists() -> None:
    said = invalid("to", "is missing").document("r-1")
    assert said["type"] == "urn:restante:problem:invalid_request"
    assert (said["status"], said["code"], said["request_id"]) == (422, "invalid_request", "r-1")
    assert said["title"] == PROBLEMS["invalid_request"].title
    assert [(fault.field, fault.detail) for fault in said["errors"]] == [("to", "is missing")]


def test_what_does_not_apply_is_left_out() -> None:
    assert not {"errors", "outcome", "id", "results"} & set(Problem("not_found", "x").document("r").keys())


def test_an_unknown_outcome_names_the_message() -> None:
    said = Problem("log_unavailable", "x", outcome="unknown", message_id="m-1").document("r")
    assert (said["outcome"], said["id"]) == ("unknown", "m-1")


@pytest.mark.parametrize("code", [code for code, kind in PROBLEMS.items() if kind.status == 401])
def test_every_401_has_a_challenge(code: Code) -> None:
    headers = dict(Problem(code, "x").headers())
    assert headers[b"www-authenticate"].startswith(b"Bearer")


def test_every_503_says_when_to_come_back_and_not_always_the_same() -> None:
    said = {int(dict(Problem("overloaded", "x").headers())[b"retry-after"]) for _ in range(200)}
    assert len(said) > 1
    assert min(said) >= 1


def test_405_names_the_methods() -> None:
    assert dict(Problem("method_not_allowed", "x", allow="GET, HEAD").headers()) == {b"allow": b"GET, HEAD"}
