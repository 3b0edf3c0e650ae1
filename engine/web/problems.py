"""Errors over HTTP: a status for each, by who must act, and a body as RFC 9457 has it, ``application/problem+json``.

Here: the one table of statuses. Not here: codes and values of errors, which are those of the socket (`wire.errors`).

Invariant: whatever is raised while a request is answered becomes such a body; nothing else is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from millstream.engine import errors
from millstream.engine.errors import TryAgainLater
from millstream.engine.wire.errors import error_object

__all__ = ["PROBLEM", "STATUSES", "Problem", "Status", "problem_event", "problem_of", "problem_response", "status_of"]

#: The media type.
PROBLEM = "application/problem+json"


class Status(NamedTuple):
    """What is answered for one class of errors, and after how many seconds it may be tried again, if it may."""

    status: int
    retry_after_seconds: int | None = None


#: By class of error, and for errors of an application's own by what they derive from.
STATUSES: Mapping[str, Status] = {
    "Rejected": Status(409),
    "InvalidMessage": Status(422),
    "UnknownMessage": Status(404),
    "VersionConflict": Status(412),
    "WrongShard": Status(421),
    "CommandIdReused": Status(422),
    "CommitTooLarge": Status(422),
    "AnswerTooLarge": Status(422),
    "NotAuthenticated": Status(401),
    "NotPermitted": Status(403),
    "NotOnAgenda": Status(404),
    "NotKept": Status(422),
    "ProtocolViolated": Status(400),
    "CallerError": Status(400),
    "Overloaded": Status(503, 1),
    "DeadlineExceeded": Status(504, 1),
    "ViewBehind": Status(503, 1),
    "NotYetVisible": Status(503, 1),
    "WriterUnavailable": Status(503, 5),
    "EngineClosed": Status(503, 5),
    "ViewUnavailable": Status(503, 5),
    "WatchOverrun": Status(503, 1),
    "WatchesFull": Status(503, 10),
    "NotLeader": Status(503, 10),
    "ConnectionLost": Status(502, 1),
    "LimitReached": Status(429, 1),
    "TryAgainLater": Status(503, 1),
    "CommitFailed": Status(500),
    "OutcomeUnknown": Status(500),
    "LogCorrupt": Status(500),
    "LogRefused": Status(500),
    "LogLocked": Status(500),
    "Fenced": Status(500),
    "CommitsLost": Status(500),
    "StorageError": Status(500),
    "DefinitionError": Status(500),
    "HandlerFailed": Status(500),
    "ImpureHandler": Status(500),
    "ApplyFailed": Status(500),
    "AnswerFailed": Status(500),
    "AnswerUnreadable": Status(500),
    "ViewFaulted": Status(500),
    "ViewIncomplete": Status(500),
    "SnapshotMismatch": Status(500),
    "EventsUnreadable": Status(500),
    "AgendaUnreadable": Status(500),
    "WrongLoop": Status(500),
    "AuthorError": Status(500),
    "RemoteError": Status(502),
}
_BY_CLASS: Mapping[type[Any], Status] = {getattr(errors, name): status for name, status in STATUSES.items()}


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body. ``code`` and ``data`` are those that the socket has for the same error; without a code the server, and
    no application, says so.
    """

    type: str
    title: str
    status: int
    detail: str
    code: int | None = None
    data: Any = None


def status_of(error: BaseException) -> Status:
    """The status of an error: that of its nearest class that has one; 500 for what was not raised on purpose."""
    for cls in type(error).__mro__:
        if cls in _BY_CLASS:
            found = _BY_CLASS[cls]
            # What may have happened is to be looked at before it is sent again.
            is_in_doubt = getattr(error, "sent", False) is True or getattr(error, "decided", False) is True
            return found._replace(retry_after_seconds=None) if is_in_doubt else found
    return Status(500)


def problem_of(error: BaseException) -> Problem:
    """An error as the body of an answer. Never raises."""
    if isinstance(error, HTTPException):
        return Problem("about:blank", HTTPStatus(error.status_code).phrase, error.status_code, error.detail)
    told = error_object(error)
    name = told.data.get("error") if isinstance(told.data, dict) else None
    title = name if isinstance(name, str) else type(error).__name__ if type(error) in _BY_CLASS else "InternalError"
    return Problem(f"urn:millstream:{title}", title, status_of(error).status, told.message, told.code, told.data)


def problem_response(error: BaseException) -> Response:
    """The whole answer."""
    problem, headers = problem_of(error), dict[str, str]()
    if isinstance(error, HTTPException):
        headers.update(error.headers or {})
    elif isinstance(error, TryAgainLater):
        seconds = status_of(error).retry_after_seconds
        if seconds is not None:
            headers["Retry-After"] = str(seconds)
    elif problem.status == HTTPStatus.UNAUTHORIZED:
        headers |= {"WWW-Authenticate": "Bearer", "Connection": "close"}  # one guess a connection
    headers["Cache-Control"] = "no-store"
    return Response(_written(problem), problem.status, headers, PROBLEM)


def problem_event(error: BaseException) -> bytes:
    """The last event of a stream: ``problem``."""
    return b"event: problem\ndata: %b\n\n" % _written(problem_of(error))


def _written(problem: Problem) -> bytes:
    try:
        return msgspec.json.encode(problem)
    except Exception:  # noqa: BLE001 - each of its values could just be written, all of them together could not
        return msgspec.json.encode(Problem(problem.type, problem.title, problem.status, problem.title, problem.code))
