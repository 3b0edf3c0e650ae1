"""From a line to a request, checked against the application: one decode for a good one, a diagnosis for any other.

Here: what a server reads. Not here: what it does then. Invariant: any bytes lead to requests or to a `Malformed` that
says why; nothing else is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from copy import copy
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from millstream.engine.application.agenda import PAGE_ENTRIES, EntryKind, PageSize, Verdict
from millstream.engine.application.app import App, tag_of
from millstream.engine.application.doors import BACKSLASH, NUL, without_nul
from millstream.engine.application.forms import require_readable
from millstream.engine.application.kinds import kind_of, nests
from millstream.engine.application.messages import Metadata
from millstream.engine.application.options import Options
from millstream.engine.application.validation import problem_with, reader, union_of
from millstream.engine.errors import InvalidMessage, MillstreamError, ProtocolViolated, UnknownMessage
from millstream.engine.wire.errors import INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR
from millstream.engine.wire.messages import Count, ReplyId

__all__ = ["Malformed", "Requests", "Unread", "params_of"]

_Seconds: TypeAlias = Annotated[float, Meta(ge=0, le=1e9)]

#: Characters of a caller's own text that an error repeats.
_TOLD_CHARS = 80
#: How lines begin and end, of which some are batches.
_BEGIN = b"{["
_END = b"}]"
#: A message is an object in the params' object, in the request's.
_AROUND = 2


class Malformed(NamedTuple):
    """A request that is none: whose it is (`UNSET`: that is not known), and why."""

    id: ReplyId | UnsetType
    error: MillstreamError


class Unread(NamedTuple):
    """A request that was not looked into, because its sender may not learn what is right: see `Requests.only`."""

    id: ReplyId | UnsetType
    line: bytes


class _Known(NamedTuple):
    """What all that read requests for one application have in common: classes made for it, and their readers."""

    params: Mapping[str, type[msgspec.Struct]]
    types: Mapping[str, type[msgspec.Struct]]
    read: Callable[[bytes], Any]
    read_batch: Callable[[bytes], Any]
    read_command: Callable[[bytes], Any]
    #: None where a request can be nested without end, and has to be looked at by itself.
    read_lines: Callable[[bytes], list[Any]] | None
    #: The same where some of the lines are batches.
    read_mixed: Callable[[bytes], list[Any]] | None

    @classmethod
    def of(cls, app: App) -> _Known:
        params = params_of(app)
        types = {name: _request(name, each) for name, each in params.items()}
        union: Any = union_of(types.values())
        require_readable(union, f"a command or query of {app!r}")
        lines = mixed = None
        if not nests(kind_of(union)):
            lines = msgspec.json.Decoder(union).decode_lines
            mixed = msgspec.json.Decoder(list[union] | union).decode_lines
        batch, command = reader(list[union], _AROUND + 1), reader(_any_of(app.commands))
        return cls(params, types, reader(union, _AROUND), batch, command, lines, mixed)


#: By application: to make them takes 10 ms, and a program, or its tests, may serve one application many times.
_known: WeakKeyDictionary[App, _Known] = WeakKeyDictionary()


class Requests:
    """Reads requests for one application.

    What `read` returns for a good one is an instance of the class that `types` has for its method. It has the fields
    ``id``, `UNSET` for a notification, and ``params``, with those that `params_of` lists.

    Args:
        app: whose commands and queries are read.
        batch_max: how many requests a batch may have.

    Raises:
        DefinitionError: the fields of a command or query are none that can be read from JSON.
    """

    def __init__(self, app: App, batch_max: int) -> None:
        self._app = app
        #: How many requests a batch may have, and commands an ``execute_many``.
        self.batch_max = batch_max
        known = _known.get(app)
        if known is None:
            known = _known[app] = _Known.of(app)
        self._params = known.params
        #: By method: the class of its requests.
        self.types = known.types
        self._is_limited = False
        self._decode = without_nul(known.read, lambda request: self._keys((request,)))
        self._decode_batch = without_nul(known.read_batch, self._keys)
        self._decode_command = without_nul(known.read_command, lambda command: self._keys_of((command,)))
        self._decode_lines, self._decode_mixed = known.read_lines, known.read_mixed

    def _keys(self, requests: Iterable[Any]) -> list[str | None]:
        """Those of the commands in them."""
        types: Mapping[str, Any] = self.types
        execute, many = types["execute"], types["execute_many"]
        commands: list[Any] = []
        for request in requests:
            if request.__class__ is execute:
                commands.append(request.params.command)
            elif request.__class__ is many:
                commands += request.params.commands
        return self._keys_of(commands)

    def _keys_of(self, commands: Iterable[Any]) -> list[str | None]:
        return [self._app.commands[type(command)].key_of(command) for command in commands]

    def only(self, methods: Iterable[str]) -> Requests:
        """A reader of these methods, for strangers: any other request is `Unread`, so that no error tells of the
        application's messages and their fields.
        """
        found = copy(self)
        found._params = {name: self._params[name] for name in methods}
        found.types = {name: self.types[name] for name in methods}
        union: Any = union_of(found.types.values())
        found._decode, found._decode_batch, found._is_limited = reader(union), reader(list[union]), True
        found._decode_lines = found._decode_mixed = None
        return found

    def read(self, line: bytes) -> Any:
        """A request, a `Malformed` or `Unread`, a list of them for a batch, or None for an empty line."""
        try:
            if line[:1] != b"[":
                return self._decode(line)
            return self._bounded(self._decode_batch(line))
        except Exception:  # noqa: BLE001 - whatever it is, the line is to blame, and looked at again with care
            return self._looked_at(line)

    def read_lines(self, data: bytes) -> list[Any] | None:
        """The requests of some lines, read at once, a list for a batch; None where one of the lines has to be looked at
        by itself, with `read`.

        The decoder is more lenient about line ends than `read` is: it takes one request that stands in two lines, and
        two that stand in one. The first can't be where each line ends with ``}`` or ``]`` and the next begins with
        ``{`` or ``[``: no JSON has that within a value. Then as many requests as lines means one in each.

        Args:
            data: lines with their ends.
        """
        lines, decode = data.count(b"\n"), self._decode_lines
        if data[:1] != b"{" or data[-2:] != b"}\n" or data.count(b"}\n{") != lines - 1:
            decode = self._decode_mixed
            if not _stand_alone(data):
                return None
        if decode is None or (BACKSLASH in data and data.find(NUL) >= 0):
            return None
        try:
            found: list[Any] = decode(data)
        except Exception:  # noqa: BLE001 - which line is to blame is found by looking at each
            return None
        if len(found) != lines or (decode is self._decode_mixed and not all(map(self._is_bounded, found))):
            return None
        return found

    def _is_bounded(self, found: Any) -> bool:
        return found.__class__ is not list or self._bounded(found) is found

    def command(self, line: bytes, index: int) -> Any:
        """One command of an ``execute_many``, whose request is good but for some of its commands.

        Args:
            line: its JSON.
            index: which it is.

        Raises:
            UnknownMessage, InvalidMessage, ProtocolViolated: as if it had come alone.
        """
        try:
            return self._decode_command(line)
        except Exception as error:
            given = msgspec.json.decode(line)
            wrong = self._wrong_message("command", self._app.commands, given) if isinstance(given, dict) else None
            if wrong is None:
                kind = type(given).__name__ if given is not None else "null"
                wrong = ProtocolViolated(INVALID_PARAMS, f"a command is an object, not {kind}: `$.commands[{index}]`")
            raise wrong from error

    def require_few(self, commands: int) -> None:
        """See that a request has no more commands than may be in flight.

        Raises:
            ProtocolViolated: it has.
        """
        if commands > self.batch_max:
            most = f"at most in_flight_max={self.batch_max:,} commands in one request"
            raise ProtocolViolated(INVALID_PARAMS, f"params of 'execute_many': {most}, not {commands:,}: split it")

    def _looked_at(self, line: bytes) -> Any:
        start = line.lstrip()[:1]
        if not start:
            return None
        if start == b"[":
            with suppress(Exception):  # explained by what follows
                return self._bounded(self._decode_batch(line))
        try:
            found = msgspec.json.decode(line)
        except RecursionError:
            return _violated(PARSE_ERROR, "this is no JSON that can be read: it is nested too deeply")
        except Exception as error:  # noqa: BLE001 - as above
            return _violated(PARSE_ERROR, f"this is no JSON in UTF-8 on one line: {error}")
        if not isinstance(found, list):
            return self._one(line, found)
        if not 0 < len(found) <= self.batch_max:
            return self._bounded(found)
        raws: list[Raw] = msgspec.json.decode(line, type=list[Raw])
        return self._bounded([self._one(bytes(raw), each) for raw, each in zip(raws, found, strict=True)])

    def _bounded(self, batch: list[Any]) -> Any:
        if not batch:
            return _violated(INVALID_REQUEST, "a batch has at least one request")
        if len(batch) > self.batch_max:
            return _violated(INVALID_REQUEST, f"a batch has at most in_flight_max={self.batch_max:,} requests")
        many: Any = self.types.get("execute_many")
        sizes = [len(each.params.commands) for each in batch if type(each) is many]
        if sizes and len(batch) - len(sizes) + sum(max(1, size) for size in sizes) > self.batch_max:
            most = f"in_flight_max={self.batch_max:,} requests, each command of an 'execute_many' counted"
            return _violated(INVALID_REQUEST, f"a batch has at most {most}")
        return batch

    def _one(self, line: bytes, found: Any) -> Any:
        """One request whose JSON is ``found``."""
        with suppress(Exception):  # explained by what follows
            return self._decode(line)
        if not isinstance(found, dict):
            return _violated(INVALID_REQUEST, "a request is an object")
        try:
            reply = msgspec.convert(found["id"], ReplyId) if "id" in found else UNSET
        except msgspec.ValidationError:
            return _violated(INVALID_REQUEST, "an id is a string, or a number of at most 64 bits")
        name, heard = found.get("method"), None if reply is UNSET else reply
        if found.get("jsonrpc") != "2.0":
            return _violated(INVALID_REQUEST, 'the field "jsonrpc" says "2.0"', heard)
        if not isinstance(name, str):
            return _violated(INVALID_REQUEST, 'the field "method" names the method', heard)
        if unknown := sorted(found.keys() - {"jsonrpc", "id", "method", "params"}):
            return _violated(INVALID_REQUEST, f"a request has no field {unknown[0][:_TOLD_CHARS]!r}", heard)
        if name not in self._params:
            if self._is_limited:
                return Unread(reply, line)
            known = ", ".join(self._params)
            problem = f"there is no method {name[:_TOLD_CHARS]!r}; there are: {known}"
            return _violated(METHOD_NOT_FOUND, problem, reply)
        params = found.get("params", UNSET)
        if name == "execute_many" and isinstance(params, dict) and isinstance(params.get("commands"), list):
            return self._many(line, reply, params)
        return Malformed(reply, self._wrong_params(name, params))

    def _many(self, line: bytes, reply: ReplyId | UnsetType, params: dict[str, Any]) -> Any:
        """An ``execute_many`` with commands that are none: they are left as they came, and looked at one by one, when
        their turn comes.
        """
        try:
            self.require_few(len(params["commands"]))
            read = _read_raws(line)
        except ProtocolViolated as error:
            return Malformed(reply, error)
        except Exception:  # noqa: BLE001 - something beside the commands, which `_wrong_params` finds
            return Malformed(reply, self._wrong_params("execute_many", {**params, "commands": []}))
        kept = self._params["execute_many"](**msgspec.structs.asdict(read.params))
        return self.types["execute_many"](jsonrpc="2.0", params=kept, id=read.id)

    def _wrong_params(self, method: str, params: Any) -> MillstreamError:
        if params is UNSET:
            return ProtocolViolated(INVALID_PARAMS, f"method {method!r} needs params")
        if not isinstance(params, dict):
            return ProtocolViolated(INVALID_PARAMS, "params are given by name: an object")
        for kind, messages in (("command", self._app.commands), ("query", self._app.queries)):
            given = params.get(kind)
            if kind in self._params[method].__struct_fields__ and isinstance(given, dict):
                wrong = self._wrong_message(kind, messages, given)
                if wrong is not None:
                    return wrong
        queries = params.get("queries")
        if method == "ask_all" and isinstance(queries, list):
            for each in queries:
                if isinstance(each, dict) and (wrong := self._wrong_message("query", self._app.queries, each)):
                    return wrong
        try:
            msgspec.convert(params, self._params[method])
        except Exception as error:  # noqa: BLE001 - its text is what the caller gets
            return ProtocolViolated(INVALID_PARAMS, f"params of {method!r}: {error}")
        return ProtocolViolated(INVALID_PARAMS, f"params of {method!r} can't be read")

    def _wrong_message(self, kind: str, messages: Iterable[type[Any]], given: dict[str, Any]) -> MillstreamError | None:
        """What is wrong with the application's own message, as the engine itself would say it."""
        tags = {message.__struct_config__.tag: message for message in messages}
        tag = given.get("type")
        message = tags.get(tag) if isinstance(tag, str | int) else None
        if message is None:
            known = tuple(map(str, tags))
            return UnknownMessage(
                kind, (tag if isinstance(tag, str) else repr(tag))[:_TOLD_CHARS], self._app.name, known
            )
        read = self._app.commands[message].read if kind == "command" else reader(message)
        problem = problem_with(given, read)
        return None if problem is None else InvalidMessage(message.__name__, problem)


def _stand_alone(data: bytes) -> bool:
    """Whether each line begins and ends as a request or a batch does. A look at each, as there are few where each is
    long.
    """
    at, last = -1, len(data) - 1
    while at < last:
        begin, at = at + 1, data.find(b"\n", at + 1)
        if at < 0 or data[begin] not in _BEGIN or data[at - 1] not in _END:
            return False
    return True


def params_of(app: App) -> Mapping[str, type[msgspec.Struct]]:
    """The methods of the protocol, and for each the class of its parameters for this application."""
    timeout = ("timeout", _Seconds | None, None)
    after = ("after", Count, 0)
    incomplete = ("incomplete", bool, False)
    return {
        "execute": _params(
            "execute",
            ("command", _any_of(app.commands)),
            ("command_id", str | None, None),
            ("expected_version", Count | None, None),
            ("metadata", Metadata | None, None),
            timeout,
            ("wait", bool, True),
            bases=(Options,),
        ),
        "execute_many": _many_params(_any_of(app.commands)),
        "ask": _params(
            "ask", ("query", _any_of(app.queries)), after, timeout, incomplete, ("at", Count | str | None, None)
        ),
        "ask_all": _params("ask_all", ("queries", _some_of(app.queries)), after, timeout, incomplete),
        "watch": _params(
            "watch",
            ("query", _any_of(app.queries)),
            after,
            ("every", bool, False),
            incomplete,
            ("rows", bool | str, False),
        ),
        "unwatch": _params("unwatch", ("watch", Count)),
        "follow": _params(
            "follow",
            after,
            ("keys", frozenset[str] | None, None),
            ("types", frozenset[str] | None, None),
            ("today", bool, False),
        ),
        "agenda": _params(
            "agenda",
            ("kind", EntryKind | None, None),
            ("parked", bool | None, None),
            ("after", str | None, None),
            ("entry", str | None, None),
            ("limit", PageSize, PAGE_ENTRIES),
        ),
        "settle": _params("settle", ("entry", str), ("verdict", Verdict), ("again", bool, False)),
        "describe": _params("describe"),
        "rpc.discover": _params("rpc.discover"),
        "health": _params("health"),
        "stats": _params("stats"),
        "authenticate": _params("authenticate", ("token", str), namespace={"__repr__": _secretive}),
    }


def _params(
    method: str, *fields: Any, namespace: dict[str, Any] | None = None, bases: tuple[type[msgspec.Struct], ...] = ()
) -> type[msgspec.Struct]:
    return msgspec.defstruct(
        f"{method}_params",
        fields,
        bases=bases,
        namespace=namespace,
        frozen=True,
        forbid_unknown_fields=True,
        gc=False,
        kw_only=True,
    )


def _many_params(command: Any) -> type[msgspec.Struct]:
    return _params(
        "execute_many",
        ("commands", list[command]),
        ("command_ids", list[str | None] | None, None),
        ("metadata", Metadata | None, None),
        ("timeout", _Seconds | None, None),
    )


def _secretive(_: Any) -> str:
    """A token is shown nowhere, not even where a traceback shows what its functions were called with."""
    return "authenticate_params(token='…')"


def _request(method: str, params: Any) -> type[msgspec.Struct]:
    """The class of one method's requests."""
    optional = not any(field.required for field in msgspec.structs.fields(params))
    return msgspec.defstruct(
        method,
        [
            ("jsonrpc", Literal["2.0"]),
            ("params", params, params() if optional else msgspec.NODEFAULT),
            ("id", ReplyId | UnsetType, UNSET),
        ],
        tag_field="method",
        tag=method,
        frozen=True,
        forbid_unknown_fields=True,
        gc=False,
        kw_only=True,
    )


def _violated(code: int, problem: str, reply: Any = None) -> Malformed:
    return Malformed(reply, ProtocolViolated(code, problem))


class _Never(msgspec.Struct, tag="", tag_field="type"):
    """Stands where an application has no message of a kind: there is none like this either."""

    never: Annotated[int, Meta(ge=1, le=0)]


def _some_of(messages: Iterable[type[Any]]) -> Any:
    return Annotated[list[_any_of(messages)], Meta(min_length=1)]  # type: ignore[misc]


def _any_of(messages: Iterable[type[Any]]) -> Any:
    return union_of(sorted(messages, key=tag_of) or (_Never,))


#: Reads an ``execute_many`` whose commands are left as they came.
_read_raws: Callable[[bytes], Any] = msgspec.json.Decoder(_request("execute_many", _many_params(Raw))).decode
