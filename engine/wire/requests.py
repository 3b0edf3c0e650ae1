"""From a line to a request, checked against the application: one decode for a good one, a diagnosis for any other.

Here: what a server reads. Not here: what it does then. Invariant: any bytes lead to requests or to a `Malformed` that
says why; nothing else is raised.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated, Any, Literal, NamedTuple, Union

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from penstock.engine.app import App, tag_of
from penstock.engine.errors import InvalidMessage, PenstockError, ProtocolViolated, UnknownMessage
from penstock.engine.messages import Metadata
from penstock.engine.wire.faults import INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR
from penstock.engine.wire.messages import METHODS, ReplyId

__all__ = ["Malformed", "Requests"]

_Seconds = Meta(ge=0, le=1e9)


class Malformed(NamedTuple):
    """A request that is none: who is to hear it (`UNSET`: nobody), and why."""

    id: ReplyId | UnsetType
    error: PenstockError


class Requests:
    """Reads requests for one application.

    What `read` returns has the fields ``method``, by the name of its class, ``id``, `UNSET` for a notification, and
    ``params`` with those that docs/protocol.md lists.

    Args:
        app: whose commands and queries are read.
        batch_max: how many requests a batch may have.
    """

    def __init__(self, app: App, batch_max: int) -> None:
        self._app = app
        self._batch_max = batch_max
        self._params = {name: params or _params(app, name) for name, params in METHODS.items()}
        self._types = {name: _request(name, params) for name, params in self._params.items()}
        union: Any = Union[tuple(self._types.values())]  # noqa: UP007 - known only at run time
        self._decode = msgspec.json.Decoder(union).decode

    def read(self, line: bytes) -> Any:
        """A request, a `Malformed`, a list of both for a batch, or None for an empty line."""
        try:
            return self._decode(line)
        except Exception:  # noqa: BLE001 - whatever it is, the line is to blame, and looked at again with care
            return self._diagnosed(line)

    def _diagnosed(self, line: bytes) -> Any:
        if not line.strip():
            return None
        try:
            found = msgspec.json.decode(line)
        except RecursionError:
            return _violated(PARSE_ERROR, "this is no JSON that can be read: it is nested too deeply")
        except Exception as error:  # noqa: BLE001 - as above
            return _violated(PARSE_ERROR, f"this is no JSON in UTF-8 on one line: {error}")
        if not isinstance(found, list):
            return self._one(line, found)
        if not found:
            return _violated(INVALID_REQUEST, "a batch has at least one request")
        if len(found) > self._batch_max:
            return _violated(INVALID_REQUEST, f"a batch has at most in_flight_max={self._batch_max:,} requests")
        return [self._one(bytes(raw), each) for raw, each in zip(_raws(line), found, strict=True)]

    def _one(self, line: bytes, found: Any) -> Any:
        """One request whose JSON is ``found``."""
        with suppress(Exception):  # explained by what follows
            return self._decode(line)
        if not isinstance(found, dict):
            return _violated(INVALID_REQUEST, "a request is an object")
        name, reply = found.get("method"), found.get("id", UNSET)
        if isinstance(reply, bool | list | dict):
            return _violated(INVALID_REQUEST, "an id is a string or a number")
        if found.get("jsonrpc") != "2.0":
            return _violated(INVALID_REQUEST, 'the field "jsonrpc" says "2.0"', reply)
        if not isinstance(name, str):
            return _violated(INVALID_REQUEST, 'the field "method" names the method', reply)
        if name not in self._params:
            known = ", ".join(sorted(self._params))
            return _violated(METHOD_NOT_FOUND, f"there is no method {name!r:.80}; there are: {known}", reply)
        if unknown := sorted(set(found) - {"jsonrpc", "id", "method", "params"}):
            return _violated(INVALID_REQUEST, f"a request has no field {unknown[0]!r:.80}", reply)
        return Malformed(reply, self._wrong_params(name, found.get("params", UNSET)))

    def _wrong_params(self, name: str, params: Any) -> PenstockError:
        if params is UNSET:
            return ProtocolViolated(INVALID_PARAMS, f"method {name!r} needs params")
        if not isinstance(params, dict):
            return ProtocolViolated(INVALID_PARAMS, "params are given by name: an object")
        for kind, table in (("command", self._app.commands), ("query", self._app.queries)):
            given = params.get(kind)
            if kind in self._params[name].__struct_fields__ and isinstance(given, dict):
                known = {entry.tag: message for message, entry in table.items()}  # type: ignore[attr-defined]
                if (wrong := self._wrong_message(kind, known, given)) is not None:
                    return wrong
        try:
            msgspec.convert(params, self._params[name])
        except (msgspec.ValidationError, RecursionError) as error:
            return ProtocolViolated(INVALID_PARAMS, f"params of {name!r}: {error}")
        return ProtocolViolated(INVALID_PARAMS, f"params of {name!r} can't be read")

    def _wrong_message(self, kind: str, known: dict[str, Any], given: dict[str, Any]) -> PenstockError | None:
        """What is wrong with the application's own message, as the engine itself would say it."""
        tag = given.get("type")
        if not isinstance(tag, str) or tag not in known:
            told = tag[:80] if isinstance(tag, str) else repr(tag)[:80]
            return UnknownMessage(kind, told, self._app.name, tuple(known))
        try:
            msgspec.json.decode(msgspec.json.encode(given), type=known[tag])
        except Exception as error:  # noqa: BLE001 - its text is what the caller hears
            return InvalidMessage(tag, str(error) or repr(error))
        return None


def _violated(code: int, problem: str, reply: Any = None) -> Malformed:
    return Malformed(reply, ProtocolViolated(code, problem))


def _raws(line: bytes) -> list[Raw]:
    return msgspec.json.decode(line, type=list[Raw])


def _request(name: str, params: Any) -> type[msgspec.Struct]:
    """The class of one method's requests."""
    optional = params.__struct_fields__ == () or not _required(params)
    return msgspec.defstruct(
        name,
        [
            ("jsonrpc", Literal["2.0"]),
            ("params", params, params() if optional else msgspec.NODEFAULT),
            ("id", ReplyId | UnsetType, UNSET),
        ],
        tag_field="method",
        tag=name,
        frozen=True,
        forbid_unknown_fields=True,
        gc=False,
        kw_only=True,
    )


def _required(params: type[msgspec.Struct]) -> bool:
    return any(field.required for field in msgspec.structs.fields(params))


def _params(app: App, method: str) -> type[msgspec.Struct]:
    """The class of parameters that hold a message of the application."""
    timeout = ("timeout", Annotated[float, _Seconds] | None, None)
    after = ("after", Annotated[int, Meta(ge=0)], 0)
    incomplete = ("incomplete", bool, False)
    fields: dict[str, Iterable[Any]] = {
        "execute": [
            ("command", _union(app.commands)),
            ("command_id", str | None, None),
            ("expected_version", int | None, None),
            ("metadata", Metadata | None, None),
            timeout,
            ("wait", bool, True),
        ],
        "ask": [("query", _union(app.queries)), after, timeout, incomplete],
        "watch": [("query", _union(app.queries)), after, ("every", bool, False), incomplete],
    }
    return msgspec.defstruct(f"{method}_params", fields[method], frozen=True, forbid_unknown_fields=True, gc=False)


class _Never(msgspec.Struct, tag="", tag_field="type"):
    """Stands where an application has no message of a kind."""


def _union(messages: Iterable[type[Any]]) -> Any:
    return Union[tuple(sorted(messages, key=tag_of)) or (_Never,)]  # noqa: UP007 - known only at run time
