"""A status for every error, by who must act."""

from __future__ import annotations

import json

import pytest
from starlette.exceptions import HTTPException

from millstream.engine import (
    CallerError,
    ConnectionLost,
    DeadlineExceeded,
    ProtocolViolated,
    Rejected,
    RemoteError,
    TryAgainLater,
    errors,
)
from millstream.engine.web.problems import STATUSES, problem_of, problem_response, status_of
from millstream.engine.wire.errors import BRANCHES, CODES


def test_every_error_has_a_status_and_nothing_else_has_one() -> None:
    assert STATUSES.keys() == {*CODES, *BRANCHES, "ProtocolViolated", "RemoteError"}


@pytest.mark.parametrize("name", list(STATUSES))
def test_a_status_says_who_must_act_and_when_it_may_succeed_later(name: str) -> None:
    kind, (status, retry_after) = getattr(errors, name), STATUSES[name]
    branch = next(each for each in (*BRANCHES, "RemoteError") if issubclass(kind, getattr(errors, each)))
    allowed = {
        "CallerError": range(400, 500),
        "TryAgainLater": (429, 502, 503, 504),
        "StorageError": (500,),
        "AuthorError": (500,),
        "RemoteError": (502,),
    }
    assert status in allowed[branch]
    assert (retry_after is not None) == issubclass(kind, TryAgainLater)


class Closed(Rejected):
    """An application's own."""


class Tired(TryAgainLater):
    def __str__(self) -> str:
        return "not today"


def test_an_applications_own_error_is_told_as_what_it_derives_from() -> None:
    assert problem_of(Closed("closed", "come tomorrow")).title == "Rejected"
    problem = problem_of(Tired())
    assert (problem.title, problem.status, problem.detail, problem.code) == ("TryAgainLater", 503, "not today", 2000)


def test_of_what_nobody_raised_on_purpose_only_its_kind_is_told() -> None:
    problem = problem_of(ZeroDivisionError("a secret"))
    assert (problem.status, problem.title) == (500, "InternalError")
    assert "secret" not in problem.detail


def test_what_has_a_code_of_another_kind_keeps_its_name() -> None:
    assert problem_of(ProtocolViolated(-32600, "no request")).title == "ProtocolViolated"
    assert (problem_of(RemoteError(9_999, "what")).title, problem_of(RemoteError(9_999, "what")).code) == (
        "RemoteError",
        9_999,
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DeadlineExceeded("Add", 1.0, decided=False), "1"),
        (DeadlineExceeded("Add", 1.0, decided=True), None),
        (ConnectionLost("tcp://a:1", "gone", False), "1"),
        (ConnectionLost("tcp://a:1", "gone", True), None),
    ],
)
def test_what_may_have_happened_is_not_to_be_sent_again_blindly(error: Exception, told: str | None) -> None:
    assert status_of(error).status in (502, 504)
    assert problem_response(error).headers.get("retry-after") == told


def test_a_refusal_of_http_itself_has_no_type_of_its_own() -> None:
    answer = problem_response(HTTPException(405, "no", {"Allow": "GET"}))
    assert json.loads(bytes(answer.body)) == {
        "type": "about:blank",
        "title": "Method Not Allowed",
        "status": 405,
        "detail": "no",
    }
    assert answer.headers["allow"] == "GET"


def test_an_error_that_holds_what_can_not_be_written_is_told_all_the_same() -> None:
    deep: list[object] = []
    for _ in range(900):
        deep = [deep]
    error = Rejected("deep", "x", {f"d{index}": deep for index in range(3)})
    assert json.loads(bytes(problem_response(error).body))["title"] in ("Rejected", "InternalError")
    assert isinstance(error, CallerError)
