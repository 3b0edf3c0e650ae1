"""From what a user writes for a command or a query to its JSON. No I/O.

Two ways to write one: its JSON as one word, or its name and its fields: ``Deposit account=ann amount:=100``. What
stands behind ``=`` is text, what stands behind ``:=`` is JSON, as the program HTTPie has it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from millstream.engine.application.app import App, tag_in
from millstream.engine.application.messages import Query
from millstream.engine.application.validation import reader
from millstream.engine.errors import InvalidMessage, UnknownMessage

__all__ = ["message_in", "message_of", "query_in"]

#: What msgspec raises over what is no JSON, no UTF-8, or nested too deeply.
_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_FIELD = re.compile(r"([^\W\d]\w*)(:?=)(.*)", re.DOTALL)


def message_in(words: Sequence[str]) -> bytes:
    """A message as JSON.

    Args:
        words: at least one.

    Raises:
        InvalidMessage: they are not of either form; says what is expected instead.
    """
    name, *fields = words
    if name.lstrip().startswith("{"):
        if fields:
            raise InvalidMessage(name, "a message in JSON is one word: nothing follows it")
        return message_of(_bytes(name))
    found: dict[str, object] = {"type": name}
    for field in fields:
        parts = _FIELD.fullmatch(field)
        if parts is None:
            raise InvalidMessage(name, f"a field is written name=text or name:=JSON, not {field!r}")
        if parts[1] in found:
            raise InvalidMessage(name, f"field {parts[1]!r} is given twice")
        found[parts[1]] = _json_in(name, parts[1], parts[3]) if parts[2] == ":=" else parts[3]
    try:
        return msgspec.json.encode(found)
    except UnicodeEncodeError as error:
        raise InvalidMessage(ascii(name)[1:-1], f"it is no text in UTF-8: {error}") from error


def message_of(data: bytes) -> bytes:
    """A message that is written as JSON already.

    Raises:
        InvalidMessage: it is no object in JSON.
    """
    try:
        msgspec.convert(msgspec.json.decode(data), dict)
    except _NO_JSON as error:
        name = ascii(data[:40].decode("utf-8", "replace"))[1:-1]
        raise InvalidMessage(name, f"it is no object in JSON: {error}") from error
    return data


def query_in(app: App, data: bytes) -> Query[Any]:
    """A query of an application, from its JSON.

    Raises:
        InvalidMessage: it is no object in JSON, or has not the fields that the query has.
        UnknownMessage: the application has no such query.
    """
    try:
        tag = tag_in(message_of(data))
        for query, entry in app.queries.items():
            if entry.tag == tag:
                return reader(query)(data)
    except msgspec.ValidationError as error:
        raise InvalidMessage(ascii(data[:40].decode("utf-8", "replace"))[1:-1], str(error)) from error
    raise UnknownMessage("query", tag, app.name, tuple(entry.tag for entry in app.queries.values()))


def _json_in(name: str, field: str, text: str) -> msgspec.Raw:
    data = _bytes(text)
    try:
        msgspec.json.decode(data)
    except _NO_JSON as error:
        problem = f"what stands behind {field}:= is no JSON: {error}; write {field}={text} if it is text"
        raise InvalidMessage(name, problem) from error
    return msgspec.Raw(data)


def _bytes(text: str) -> bytes:
    """A word of the command line as it was given; Python keeps what is no UTF-8 in surrogates."""
    return text.encode("utf-8", "surrogateescape")
