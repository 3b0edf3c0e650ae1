"""From queries to calls.

Here: one question, and several in one call. Not here: what comes back (`decoding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from millstream.engine.application.messages import At, Query, Token, position_of
from millstream.engine.application.validation import encode
from millstream.engine.client.calls import Call
from millstream.engine.client.executions import deadline_in, json_of
from millstream.engine.errors import InvalidMessage

__all__ = ["question", "questions"]


def question(
    query: Query[Any], promise: Any, after: Token | None, at: At | None, timeout: float | None, incomplete: bool
) -> Call:
    """The call that asks a question.

    Args:
        query: the question.
        promise: is given the answer as JSON, or the error.
        after: the caller's, and so are the others.
        at: a position or a time.
        timeout: seconds.
        incomplete: whether an incomplete answer will do.

    Raises:
        InvalidMessage: one of them is not what it should be.
    """
    params = b'"query":' + json_of(query)
    if at is not None:
        params += b',"at":%b' % _json_of_at(at)
    return _asking(b"ask", type(query).__name__, params, promise, after, timeout, incomplete)


def questions(
    queries: Sequence[Query[Any]], promise: Any, after: Token | None, timeout: float | None, incomplete: bool
) -> Call:
    """The call that asks several, to be answered at one position. As `question`, which has the others.

    Args:
        queries: the questions.
        promise: is given the answers as JSON, or the error.
        after: the caller's, and so are the others.
        timeout: seconds.
        incomplete: whether incomplete answers will do.

    Raises:
        InvalidMessage: one of them is not what it should be.
    """
    params = b'"queries":[%b]' % b",".join(map(json_of, queries))
    return _asking(b"ask_all", "ask_all", params, promise, after, timeout, incomplete)


def _asking(
    method: bytes,
    name: str,
    params: bytes,
    promise: Any,
    after: Token | None,
    timeout: float | None,
    incomplete: bool,
) -> Call:
    if after is not None:
        params += b',"after":%d' % max(0, position_of(after))
    if incomplete:
        params += b',"incomplete":true'
    return Call(method, params, promise, name=name, deadline=None if timeout is None else deadline_in(timeout))


def _json_of_at(at: At) -> bytes:
    if not isinstance(at, datetime):
        if (position := position_of(at, "at")) < 0:
            raise InvalidMessage("at", f"position {position:,} is before the log: 0 is before its first event")
        return b"%d" % position
    if at.tzinfo is None:
        raise InvalidMessage("at", f"{at.isoformat()} is a time without a zone: say which, as UTC")
    return encode(at.isoformat())
