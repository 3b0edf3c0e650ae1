"""What is served, as an OpenAPI 3.1 document (https://spec.openapis.org/oas/v3.1.0): every message with its schema.

Here: addresses, bodies, headers, answers and errors of one application. Not here: what they do (`app`).

Headers, statuses and schemas come from what requests are read with, so what is described is what is understood. What
OpenAPI has no word for, the data of a stream's events, is under ``x-data``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from inspect import cleandoc
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from millstream.engine.application.app import App
from millstream.engine.application.happened import Happened
from millstream.engine.application.messages import Event, Receipt
from millstream.engine.application.validation import encode
from millstream.engine.stats import Health
from millstream.engine.web.headers import ANSWER_HEADERS, HEADERS, AnswerHeader, Header, Operation
from millstream.engine.web.operating import OPERATIONS
from millstream.engine.web.problems import PROBLEM, STATUSES, Problem
from millstream.engine.wire.schemas import answers_of, events_of, schemas_of

__all__ = ["RAISED", "Described", "describe_http", "described"]

_JSON = "application/json"
_STREAM = "text/event-stream"

_EVERYWHERE = ("InvalidMessage", "UnknownMessage", "NotAuthenticated", "NotPermitted", "LimitReached", "EngineClosed")
_ELSEWHERE = ("ConnectionLost", "RemoteError", "ProtocolViolated")
_ASKING = ("NotYetVisible", "ViewBehind", "DeadlineExceeded", "ViewFaulted", "ViewIncomplete", "AnswerFailed")
#: By operation: the errors that it may be answered with.
RAISED: Mapping[Operation, Sequence[str]] = {
    "commands": (
        "Rejected",
        "VersionConflict",
        "WrongShard",
        "CommandIdReused",
        "CommitTooLarge",
        "AnswerTooLarge",
        *_EVERYWHERE,
        "Overloaded",
        "DeadlineExceeded",
        "WriterUnavailable",
        "NotLeader",
        *_ELSEWHERE,
        "CommitFailed",
        "OutcomeUnknown",
        "Fenced",
        "HandlerFailed",
        "ApplyFailed",
        "ImpureHandler",
        "AnswerUnreadable",
    ),
    "queries": (*_EVERYWHERE, *_ASKING, *_ELSEWHERE),
    "watch": (*_EVERYWHERE, *_ASKING, "WatchesFull", *_ELSEWHERE),
    "events": (*_EVERYWHERE, *_ELSEWHERE),
}
#: What HTTP itself refuses, where there is a body.
_BODY_REFUSALS = {
    400: "it is no JSON",
    408: "it took too long",
    413: "it is too long",
    415: "it is not said to be JSON",
}

_RETRY_AFTER = {"description": "seconds, where it may succeed later", "schema": {"type": "integer"}}


class Described(NamedTuple):
    """One message as an operation: the path below the prefix, the method of HTTP, and what OpenAPI says of it."""

    path: str
    method: str
    operation: dict[str, Any]


class _Schemas(NamedTuple):
    """By tag, or by name: the schema of each, and those that they refer to."""

    commands: Mapping[str, Any]
    receipts: Mapping[str, Any]
    queries: Mapping[str, Any]
    answers: Mapping[str, Any]
    events: Mapping[str, Any]
    ours: Mapping[str, Any]
    components: dict[str, Any]

    @classmethod
    def of(cls, app: App) -> _Schemas:
        commands = {entry.tag: command for command, entry in app.commands.items()}
        receipts: dict[str, Any] = {
            entry.tag: Receipt if entry.promise is None else _receipt_of(entry.promise.kind)
            for entry in app.commands.values()
        }
        queries = {entry.tag: query for query, entry in app.queries.items()}
        ours: dict[str, Any] = {"Problem": Problem, "Health": Health, "Happened": Happened[Event]}
        ours |= {each.__name__: each for operation in OPERATIONS for each in operation[-2:] if each is not None}
        groups = (commands, receipts, queries, answers_of(app), events_of(app), ours)
        found, components = schemas_of([each for group in groups for each in group.values()])
        schemas = iter(found)
        named = [{name: next(schemas) for name in group} for group in groups]
        _meant(named[5]["Happened"], components)["properties"]["event"] = {"anyOf": list(named[4].values())}
        for tag, schema in (*named[0].items(), *named[2].items()):
            _let_out_the_type(tag, _meant(schema, components))
        found_by_group: tuple[Any, ...] = (*named, components)
        return cls(*found_by_group)


def describe_http(app: App, *, prefix: str = "", has_tokens: bool = False) -> dict[str, Any]:
    """The document of an application.

    Args:
        app: the application.
        prefix: where it is mounted.
        has_tokens: whether a token is wanted.
    """
    paths: dict[str, Any] = {}
    schemas = _Schemas.of(app)
    for path, method, operation in (*_described(app, schemas), *_operations(schemas), *_health(schemas)):
        paths.setdefault(path, {})[method] = operation
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": app.name, "version": app.version or version("millstream")},
        "servers": [{"url": prefix or "/"}],
        "paths": paths,
        "components": {"schemas": schemas.components},
    }
    if has_tokens:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return _as_json(document)


def described(app: App) -> tuple[list[Described], dict[str, Any]]:
    """Every message of an application as an operation, and the schemas that these refer to by name."""
    schemas = _Schemas.of(app)
    return _described(app, schemas), _as_json(schemas.components)


def _described(app: App, schemas: _Schemas) -> list[Described]:
    entries: dict[str, type[Any]] = {entry.tag: command for command, entry in app.commands.items()}
    entries |= {entry.tag: query for query, entry in app.queries.items()}
    found = [
        Described(f"/commands/{quote(tag)}", "post", _command(tag, entries[tag], schemas)) for tag in schemas.commands
    ]
    for tag in schemas.queries:
        found.append(Described(f"/queries/{quote(tag)}", "get", _question(tag, entries[tag], schemas, "queries")))
        found.append(Described(f"/queries/{quote(tag)}", "post", _question_by_body(tag, entries[tag], schemas)))
        found.append(Described(f"/watch/{quote(tag)}", "get", _watch(tag, entries[tag], schemas)))
    found.append(Described("/events", "get", _events(schemas)))
    return found


# One operation each.


def _command(tag: str, message: type[Any], schemas: _Schemas) -> dict[str, Any]:
    return {
        **_head(tag, "commands", message),
        "parameters": _headers("commands"),
        "requestBody": _body(schemas.commands[tag], schemas),
        "responses": {
            "200": _answer("It is durable.", "commands", schemas.receipts[tag]),
            **_errors("commands", schemas, has_body=True),
        },
    }


def _question(tag: str, message: type[Any], schemas: _Schemas, kind: Operation) -> dict[str, Any]:
    return {
        **_head(tag, kind, message),
        "parameters": [*_fields(schemas.queries[tag], schemas), *_headers(kind)],
        "responses": {
            "200": _answer("What the view says.", kind, schemas.answers[tag]),
            "304": {"description": "The caller has that answer.", "headers": _answer_headers(kind)},
            **_errors(kind, schemas, has_body=False),
        },
    }


def _question_by_body(tag: str, message: type[Any], schemas: _Schemas) -> dict[str, Any]:
    return {
        **_question(tag, message, schemas, "queries"),
        "operationId": f"queries.{tag}.post",
        "parameters": _headers("queries"),
        "requestBody": _body(schemas.queries[tag], schemas),
        "responses": {
            **_question(tag, message, schemas, "queries")["responses"],
            **_errors("queries", schemas, has_body=True),
        },
    }


def _watch(tag: str, message: type[Any], schemas: _Schemas) -> dict[str, Any]:
    return {
        **_head(tag, "watch", message),
        "parameters": [*_fields(schemas.queries[tag], schemas), *_headers("watch")],
        "responses": {
            "200": _stream("The answer now, and each changed one.", schemas.answers[tag]),
            **_errors("watch", schemas, has_body=False),
        },
    }


def _events(schemas: _Schemas) -> dict[str, Any]:
    told = _meant(schemas.ours["Happened"], schemas.components)
    about = told["properties"]["about"]
    data = {
        "type": "object",
        "properties": {"event": {"anyOf": list(schemas.events.values())}, "about": about},
        "required": ["event", "about"],
    }
    several: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
    types = {"type": "array", "items": {"type": "string", "enum": list(schemas.events)}}
    return {
        "operationId": "events",
        "tags": ["events"],
        "summary": "What happened, and what happens.",
        "parameters": [
            {"name": "type", "in": "query", "schema": types, "description": "only these; all, if there are none"},
            {"name": "key", "in": "query", "schema": several, "description": "only those with one of these keys"},
            *_headers("events"),
        ],
        "responses": {
            "200": _stream("Events in the order of the log.", data),
            **_errors("events", schemas, has_body=False),
        },
    }


def _operations(schemas: _Schemas) -> list[Described]:
    """What operators do."""
    found = []
    for each in OPERATIONS:
        operation: dict[str, Any] = {"operationId": each.name, "tags": ["operating"], "summary": each.says}
        fields = {} if each.asked is None else msgspec.json.schema_components([each.asked])[1][each.asked.__name__]
        parameters = [
            {"name": name, "in": "query", "schema": schema} for name, schema in fields.get("properties", {}).items()
        ]
        if "{name}" in each.path:
            parameters.append({"name": "name", "in": "path", "required": True, "schema": {"type": "string"}})
        if parameters:
            operation["parameters"] = parameters
        if each.body is not None:
            schema = schemas.ours[each.body.__name__]
            operation["requestBody"] = {"required": True, "content": {_JSON: {"schema": schema}}}
        answer = {_JSON: {"schema": schemas.ours[each.answer.__name__]}}
        operation["responses"] = {
            "200": {"description": "It.", "content": answer},
            "default": {"description": "An error.", "content": {PROBLEM: {"schema": schemas.ours["Problem"]}}},
        }
        found.append(Described(each.path, each.method, operation))
    return found


def _health(schemas: _Schemas) -> list[Described]:
    ready = {_JSON: {"schema": schemas.ours["Health"]}}
    lives = {_JSON: {"schema": {"type": "object", "properties": {"live": {"const": True}}, "required": ["live"]}}}
    live = {"operationId": "health.live", "tags": ["health"], "summary": "Whether the process answers.", "security": []}
    state = {"operationId": "health.ready", "tags": ["health"], "summary": "Whether it is of use.", "security": []}
    text = {"text/plain": {"schema": {"type": "string"}}}
    metrics = {"operationId": "metrics", "tags": ["health"], "summary": "Metrics for Prometheus, where they are kept."}
    return [
        Described("/metrics", "get", {**metrics, "responses": {"200": {"description": "They.", "content": text}}}),
        Described("/health/live", "get", {**live, "responses": {"200": {"description": "It does.", "content": lives}}}),
        Described(
            "/health/ready",
            "get",
            {
                **state,
                "responses": {
                    "200": {"description": "It is.", "content": ready},
                    "503": {"description": "It is not; the reasons say why.", "content": ready},
                },
            },
        ),
    ]


# Their parts.


def _head(tag: str, kind: Operation, message: type[Any]) -> dict[str, Any]:
    text = cleandoc(message.__doc__) if message.__doc__ and "__doc__" in vars(message) else ""
    summary, _, more = text.partition("\n\n")
    head: dict[str, Any] = {"operationId": f"{kind}.{tag}", "tags": [kind]}
    if summary:
        head["summary"] = " ".join(summary.split())
    if more:
        head["description"] = more
    return head


def _headers(kind: Operation) -> list[dict[str, Any]]:
    return [
        {"name": each.name, "in": "header", "description": each.says, "schema": dict(each.schema)}
        for each in _used_in(HEADERS, kind)
        if not each.name.endswith("-NAME")  # many headers, of which OpenAPI has no notion
    ]


def _used_in(headers: Iterable[Any], kind: Operation) -> list[Header | AnswerHeader]:
    return [each for each in headers if kind in each.used_in]


def _fields(schema: dict[str, Any], schemas: _Schemas) -> list[dict[str, Any]]:
    """The fields of a question, as a query string has them."""
    meant = _meant(schema, schemas.components)
    return [
        {"name": name, "in": "query", "required": name in meant.get("required", ()), "schema": field}
        for name, field in meant.get("properties", {}).items()
        if name != "type"
    ]


def _body(schema: dict[str, Any], schemas: _Schemas) -> dict[str, Any]:
    needs = bool(_meant(schema, schemas.components).get("required"))
    return {"required": needs, "content": {_JSON: {"schema": schema}}}


def _answer(description: str, kind: Operation, schema: Any) -> dict[str, Any]:
    return {"description": description, "headers": _answer_headers(kind), "content": {_JSON: {"schema": schema}}}


def _answer_headers(kind: Operation) -> dict[str, Any]:
    return {
        each.name: {"description": each.says, "schema": dict(each.schema)} for each in _used_in(ANSWER_HEADERS, kind)
    }


def _stream(description: str, data: Any) -> dict[str, Any]:
    return {"description": description, "content": {_STREAM: {"schema": {"type": "string"}, "x-data": data}}}


def _errors(kind: Operation, schemas: _Schemas, *, has_body: bool) -> dict[str, Any]:
    """By status: which errors have it."""
    names: dict[int, list[str]] = {}
    for name in RAISED[kind]:
        names.setdefault(STATUSES[name].status, []).append(name)
    if has_body:
        for status, why in _BODY_REFUSALS.items():
            names.setdefault(status, []).append(why)
    problem = {PROBLEM: {"schema": schemas.ours["Problem"]}}
    found = {}
    for status in sorted(names):
        found[str(status)] = {"description": ", ".join(names[status]), "content": problem}
        if any(name in STATUSES and STATUSES[name].retry_after_seconds is not None for name in names[status]):
            found[str(status)]["headers"] = {"Retry-After": _RETRY_AFTER}
    return found


def _meant(schema: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """A schema, or the one that it refers to."""
    _, _, name = schema.get("$ref", "").rpartition("/")
    found: dict[str, Any] = components[name] if name else schema
    return found


def _as_json(value: dict[str, Any]) -> dict[str, Any]:
    """The same as JSON has it: a default may be a tuple, or an application's own class."""
    found: dict[str, Any] = msgspec.json.decode(encode(value))
    return found


def _receipt_of(answer: Any) -> Any:
    """Null, too: that is what the field is by default."""
    receipt: Any = Receipt
    return receipt[answer | None]


def _let_out_the_type(tag: str, schema: dict[str, Any]) -> None:
    """A message need not say what the address says."""
    schema["required"] = [name for name in schema.get("required", ()) if name != "type"]
    if "type" in schema.get("properties", {}):
        schema["properties"]["type"] = {"const": tag}
