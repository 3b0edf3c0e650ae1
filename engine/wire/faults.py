"""Errors as they travel: a code for each kind, its text, and its fields as data; and back.

``data`` is an object: ``error`` is the name of the class, the other fields are those that the class is made with. A
client that knows the class makes the same error from it; one that does not gets a `RemoteError`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from penstock.engine import errors
from penstock.engine.errors import PenstockError, ProtocolViolated, RemoteError
from penstock.engine.messages import UnreadableEvent

__all__ = ["CODES", "INTERNAL_ERROR", "INVALID_PARAMS", "INVALID_REQUEST", "METHOD_NOT_FOUND", "PARSE_ERROR",
           "ErrorObject", "error_from", "error_object"]  # fmt: skip

#: Those of JSON-RPC 2.0 itself.
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

#: Ours. The thousand tells who must act: 1 the caller, 2 nobody, try again later, 3 whoever looks after the store,
#: 4 the application's author. A code is never given to another error.
CODES: dict[str, int] = {
    "Rejected": 1001,
    "InvalidMessage": 1002,
    "UnknownMessage": 1003,
    "VersionConflict": 1004,
    "CommandIdReused": 1005,
    "CommitTooLarge": 1006,
    "NotAuthenticated": 1007,
    "NotPermitted": 1008,
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
    "CommitFailed": 3001,
    "OutcomeUnknown": 3002,
    "LogCorrupt": 3003,
    "LogRefused": 3004,
    "LogLocked": 3005,
    "Fenced": 3006,
    "DefinitionError": 4001,
    "HandlerFailed": 4002,
    "ImpureHandler": 4003,
    "ApplyFailed": 4004,
    "AnswerFailed": 4005,
    "ViewFaulted": 4006,
    "SnapshotMismatch": 4007,
    "ViewIncomplete": 4008,
    "EventsUnreadable": 4009,
}


class ErrorObject(msgspec.Struct, frozen=True):
    """An error of JSON-RPC."""

    code: int
    message: str
    data: Any = None


def error_object(error: BaseException) -> ErrorObject:
    """An error as it is sent. Of one that penstock did not raise on purpose only its kind is told."""
    if isinstance(error, ProtocolViolated | RemoteError):
        return ErrorObject(error.code, str(error), getattr(error, "data", None))
    name = type(error).__name__
    if not isinstance(error, PenstockError) or name not in CODES:
        return ErrorObject(INTERNAL_ERROR, f"the server failed: {name}; its log says more")
    return ErrorObject(CODES[name], str(error), {"error": name, **_fields(error)})


def error_from(code: int, message: str, data: Any) -> PenstockError:
    """The error that was sent; a `RemoteError` where it can't be made anew."""
    if PARSE_ERROR <= code <= INVALID_REQUEST and code != INTERNAL_ERROR:
        return ProtocolViolated(code, message)
    if isinstance(data, dict) and isinstance(name := data.get("error"), str) and CODES.get(name) == code:
        try:
            return _made(name, data)
        except (TypeError, KeyError, ValueError):
            pass
    return RemoteError(code, message, data)


def _fields(error: PenstockError) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in _PARAMETERS[type(error).__name__]:
        value = getattr(error, name)
        if isinstance(value, BaseException):
            value = repr(value)
        fields[name] = _plain(value)
    return fields


def _plain(value: Any) -> Any:
    """The value as JSON has it, or as text if JSON can't hold it: an application may put anything into its errors."""
    try:
        return msgspec.to_builtins(value, str_keys=True)
    except Exception:  # noqa: BLE001 - whatever it is, it becomes text
        return repr(value)


def _made(name: str, data: Mapping[str, Any]) -> PenstockError:
    cls: type[PenstockError] = getattr(errors, name)
    values = {each: data[each] for each in _PARAMETERS[name] if each in data}
    for each, revive in _REVIVED.items():
        if each in values and name in ("ViewFaulted", "EventsUnreadable", "UnknownMessage", "DefinitionError"):
            values[each] = revive(values[each])
    if name == "DefinitionError":
        return errors.DefinitionError(values["problem"], *values.get("places", ()))
    made = cls(**values)
    str(made)  # a field of the wrong type shows here, and not where the text is wanted
    return made


def _parameters(cls: type[PenstockError]) -> tuple[str, ...]:
    return tuple(list(inspect.signature(cls.__init__).parameters)[1:])


_PARAMETERS = {name: _parameters(getattr(errors, name)) for name in CODES}
_REVIVED: dict[str, Callable[[Any], Any]] = {
    "cause": RuntimeError,
    "known": tuple,
    "events": lambda events: msgspec.convert(events, tuple[UnreadableEvent, ...]),
}
