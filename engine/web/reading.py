"""From a path and a body, or a query string, to a command or a question, checked against the application.

Here: what a request's message is. Not here: its headers (`headers`), and how its body comes in (`bodies`).

Invariant: whatever comes leads to a message, or to an error that says why not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import inspect
from starlette.exceptions import HTTPException

from millstream.engine.application.app import App
from millstream.engine.application.kinds import kind_of
from millstream.engine.application.messages import Command, Event, Query
from millstream.engine.application.validation import encode, reader
from millstream.engine.errors import InvalidMessage, UnknownMessage

__all__ = ["Messages"]

_SEVERAL = (
    inspect.ListType,
    inspect.SetType,
    inspect.FrozenSetType,
    inspect.VarTupleType,
    inspect.TupleType,
)


class Messages:
    """Reads an application's messages.

    Args:
        app: the application.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._commands = {entry.tag: (command, entry.read) for command, entry in app.commands.items()}
        self._queries = {entry.tag: (query, reader(query)) for query, entry in app.queries.items()}
        self._events = {entry.tag: event for event, entry in app.events.items()}
        self._several = {query: _several(query) for query in app.queries}

    def command(self, name: str, body: bytes) -> Command[Any]:
        """A command of this name, from a JSON object with its fields; an empty body is one without any.

        Raises:
            UnknownMessage: the application has none of that name.
            InvalidMessage: its fields are not what its class declares.
            HTTPException: 400, it is no JSON.
        """
        command, read = self._known("command", name, self._commands)
        found: Command[Any] = _read(command, read, body)
        return found

    def query(self, name: str, body: bytes) -> Query[Any]:
        """A question of this name, in the same way.

        Raises:
            UnknownMessage, InvalidMessage, HTTPException: as `command`.
        """
        query, read = self._known("query", name, self._queries)
        found: Query[Any] = _read(query, read, body)
        return found

    def query_of(self, name: str, fields: Iterable[tuple[str, str]]) -> Query[Any]:
        """The same from the fields of a query string. What has several values is given several times.

        Raises:
            UnknownMessage, InvalidMessage: as `command`.
        """
        query, read = self._known("query", name, self._queries)
        several, given = self._several[query], dict[str, Any]()
        for field, text in fields:
            if field in several:
                given.setdefault(field, []).append(text)
            elif field in given:
                raise InvalidMessage(query.__name__, f"the field {field!r:.80} is given several times")
            else:
                given[field] = text
        try:
            found: Query[Any] = read(encode(msgspec.convert(given, query, strict=False)))
        except Exception as error:
            raise InvalidMessage(query.__name__, str(error) or repr(error)) from error
        return found

    def events(self, names: Iterable[str]) -> list[type[Event]]:
        """The classes of events of these names; all, if there are none.

        Raises:
            UnknownMessage: the application has none of that name.
        """
        wanted = [self._known("event", name, self._events) for name in names]
        return wanted or list(self._events.values())

    def _known(self, kind: str, name: str, known: dict[str, Any]) -> Any:
        if name not in known:
            raise UnknownMessage(kind, name[:80], self._app.name, tuple(known))
        return known[name]


def _read(message: type[Any], read: Callable[[bytes], Any], body: bytes) -> Any:
    try:
        return read(body or b"{}")
    except msgspec.ValidationError as error:
        raise InvalidMessage(message.__name__, str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HTTPException(400, f"the body is no JSON: {error}") from error


def _several(query: type[Any]) -> frozenset[str]:
    """The fields that may have several values, by their names in JSON."""
    kind = kind_of(query)
    fields: Iterable[inspect.Field] = getattr(kind, "fields", ())
    return frozenset(field.encode_name for field in fields if _has_several(field.type))


def _has_several(kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.UnionType):
        return any(map(_has_several, kind.types))
    return isinstance(kind, _SEVERAL)
