"""Errors as they travel: a code for each kind, its text, and its fields as data; and back.

``data`` is an object: ``error`` is the name of the class, the other fields are those that the class is made with. A
client that knows the class makes the same error from it; one that does not gets a `RemoteError`.

Invariant: whatever an application raises, and whatever a server sends, becomes one of these errors; nothing is raised.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, get_type_hints

import msgspec

from millstream.engine import errors
from millstream.engine.errors import MillstreamError, ProtocolViolated, RemoteError

__all__ = [
    "BRANCHES",
    "CODES",
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "METHOD_NOT_FOUND",
    "PARSE_ERROR",
    "ErrorObject",
    "error_from",
    "error_object",
]

#: Those of JSON-RPC 2.0 itself.
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

#: Ours. The thousand says who must act: 1 the caller, 2 no one, try again later, 3 an operator, at the store,
#: 4 the application's author. A code is never given to another error.
CODES: Mapping[str, int] = {
    "Rejected": 1001,
    "InvalidMessage": 1002,
    "UnknownMessage": 1003,
    "VersionConflict": 1004,
    "CommandIdReused": 1005,
    "CommitTooLarge": 1006,
    "NotAuthenticated": 1007,
    "NotPermitted": 1008,
    "NotOnAgenda": 1009,
    "AnswerTooLarge": 1010,
    "NotKept": 1011,
    "WrongShard": 1012,
    "Overloaded": 2001,
    "DeadlineExceeded": 2002,
    "ViewBehind": 2003,
    "NotYetVisible": 2004,
    "WriterUnavailable": 2005,
    "EngineClosed": 2006,
    "WatchOverrun": 2007,
    "WatchesFull": 2008,
    "NotLeader": 2009,
    "ConnectionLost": 2010,
    "LimitReached": 2011,
    "ViewUnavailable": 2012,
    "CommitFailed": 3001,
    "OutcomeUnknown": 3002,
    "LogCorrupt": 3003,
    "LogRefused": 3004,
    "LogLocked": 3005,
    "Fenced": 3006,
    "CommitsLost": 3007,
    "DefinitionError": 4001,
    "HandlerFailed": 4002,
    "ImpureHandler": 4003,
    "ApplyFailed": 4004,
    "AnswerFailed": 4005,
    "ViewFaulted": 4006,
    "SnapshotMismatch": 4007,
    "ViewIncomplete": 4008,
    "EventsUnreadable": 4009,
    "WrongLoop": 4010,
    "AnswerUnreadable": 4011,
    "AgendaUnreadable": 4012,
}

#: For errors of an application's own: who must act, and their text.
BRANCHES: Mapping[str, int] = {"CallerError": 1000, "TryAgainLater": 2000, "StorageError": 3000, "AuthorError": 4000}

#: What JSON-RPC says is wrong with a request: `ProtocolViolated`.
_VIOLATIONS = frozenset((PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS))


class ErrorObject(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error of JSON-RPC."""

    code: int
    message: str
    data: Any = None


class _Elsewhere(Exception):
    """What was raised in another process: all that came over is how it looked."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __repr__(self) -> str:
        return self.text


def error_object(error: BaseException) -> ErrorObject:
    """An error as it is sent: as its nearest class that has a code. Of an error that is not raised on purpose, only its
    kind is sent.
    """
    try:
        return _error_object(error)
    except Exception:  # noqa: BLE001 - an application's own error may raise anything when it is looked at
        return _untold(error)


def error_from(code: int, message: str, data: Any) -> MillstreamError:
    """The error that was sent; a `RemoteError` where it can't be made anew."""
    if code in _VIOLATIONS:
        return ProtocolViolated(code, message)
    name = data.get("error") if isinstance(data, dict) else None
    if isinstance(name, str) and CODES.get(name) == code:
        try:
            return _made(name, data)
        except Exception:  # noqa: BLE001 - its fields are not those that we know
            return RemoteError(code, message, data)
    return RemoteError(code, message, data)


def _error_object(error: BaseException) -> ErrorObject:
    if isinstance(error, ProtocolViolated | RemoteError):
        return ErrorObject(error.code, _sound(str(error)), _plain(getattr(error, "data", None)))
    for cls in type(error).__mro__:
        name = _NAMES.get(cls)
        if name is not None:
            shape = _SHAPES.get(name)
            fields = {} if shape is None else {each: _plain(getattr(error, each)) for each in shape.__struct_fields__}
            return ErrorObject(CODES[name] if shape else BRANCHES[name], _sound(str(error)), {"error": name, **fields})
    return _untold(error)


def _untold(error: BaseException) -> ErrorObject:
    return ErrorObject(INTERNAL_ERROR, f"the server failed: {type(error).__name__}; its log says more")


def _made(name: str, data: Any) -> MillstreamError:
    fields = msgspec.structs.asdict(msgspec.convert(data, _SHAPES[name], dec_hook=_revived))
    cls: type[MillstreamError] = getattr(errors, name)
    places = fields.pop("places", ())
    made = cls(*fields.values(), *places) if places else cls(**fields)
    str(made)  # what it can't say it says here, and not where the text is wanted
    return made


def _revived(kind: type[Any], value: Any) -> Any:
    if kind is BaseException and isinstance(value, str):
        return _Elsewhere(value)
    raise NotImplementedError(kind)


def _plain(value: Any) -> Any:
    """The value as JSON has it, or as text if JSON can't hold it: an application may put anything into its errors."""
    if not isinstance(value, BaseException):
        with suppress(Exception):  # whatever it is, it becomes text
            return msgspec.json.decode(msgspec.json.encode(value))
    try:
        return _sound(repr(value))
    except Exception:  # noqa: BLE001 - it does not even want to be looked at
        return f"<{type(value).__name__}>"


def _sound(text: str) -> str:
    """The text with what UTF-8 can't hold escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _shape(cls: type[MillstreamError]) -> type[msgspec.Struct]:
    """The fields that an error is made with, as a Struct that checks them."""
    hints = get_type_hints(cls.__init__, include_extras=True)  # with the bounds of what is a number
    fields: list[Any] = []
    for name, parameter in list(inspect.signature(cls.__init__).parameters.items())[1:]:
        kind: Any = hints[name]
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            fields.append((name, tuple[kind, ...], ()))
        elif parameter.default is inspect.Parameter.empty:
            fields.append((name, kind))
        else:
            fields.append((name, kind, parameter.default))
    return msgspec.defstruct(cls.__name__, fields, frozen=True)


_NAMES: Mapping[type[Any], str] = {getattr(errors, name): name for name in (*CODES, *BRANCHES)}
_SHAPES: Mapping[str, type[msgspec.Struct]] = {name: _shape(getattr(errors, name)) for name in CODES}
