"""What an application understands: an OpenRPC document (https://spec.open-rpc.org) with a JSON Schema of each message.

Parameters are described by the classes that requests are read with, so what is described is what is understood.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import msgspec

from millstream.engine.application.agenda import AgendaPage
from millstream.engine.application.app import App
from millstream.engine.application.messages import Receipt
from millstream.engine.wire.errors import CODES
from millstream.engine.wire.messages import Outcomes, Watching
from millstream.engine.wire.requests import params_of
from millstream.engine.wire.schemas import answers_of, events_of, schemas_of

__all__ = ["describe"]

#: By method: its result, where that is no matter of the application.
_RESULTS: Mapping[str, type[Any]] = {
    "execute": Receipt,
    "execute_many": Outcomes,
    "watch": Watching,
    "unwatch": Watching,
    "follow": Watching,
    "agenda": AgendaPage,
    "settle": Receipt,
}


def describe(app: App) -> dict[str, Any]:
    """The OpenRPC document of an application: methods, messages, errors; by tag, the answers to its queries and of its
    commands that promise one, and its events.

    What msgspec has no schema for, such as an answer of a type of the application's own, is described as anything.
    """
    params = params_of(app)
    asked = answers_of(app)
    answers = {**asked} | {
        entry.tag: entry.promise.kind for entry in app.commands.values() if entry.promise is not None
    }
    groups: tuple[Mapping[str, Any], ...] = (params, _RESULTS, answers, events_of(app))
    found, components = schemas_of([each for group in groups for each in group.values()])
    schemas = iter(found)
    inputs, results, outputs, happenings = ({name: next(schemas) for name in group} for group in groups)
    results["ask"] = {
        "type": "object",
        "properties": {
            "answer": {"anyOf": [outputs[name] for name in asked]},
            "position": {"type": "integer", "minimum": 0},
        },
        "required": ["answer", "position"],
    }
    results["ask_all"] = {
        "type": "object",
        "properties": {
            "answers": {"type": "array", "items": results["ask"]["properties"]["answer"], "minItems": 1},
            "position": {"type": "integer", "minimum": 0},
        },
        "required": ["answers", "position"],
    }
    return {
        "openrpc": "1.3.2",
        "info": {"title": app.name, "version": version("millstream")},
        "methods": [
            {
                "name": name,
                "paramStructure": "by-name",
                "params": _parameters(params[name], _taken(schema, components)),
                "result": {"name": f"{name} result", "schema": results.get(name, {"type": "object"})},
            }
            for name, schema in inputs.items()
        ],
        "components": {
            "schemas": components,
            "errors": {name: {"code": code, "message": name} for name, code in CODES.items()},
        },
        "x-answers": outputs,
        "x-events": happenings,
    }


def _taken(schema: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """The schema that this one refers to, taken out of those that others may refer to."""
    _, _, name = schema.get("$ref", "").rpartition("/")
    return dict(components.pop(name, schema))


def _parameters(params: type[msgspec.Struct], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that are required first, as readers expect it."""
    schemas = schema.get("properties", {})
    fields = sorted(msgspec.structs.fields(params), key=lambda field: not field.required)
    return [{"name": field.name, "required": field.required, "schema": schemas.get(field.name, {})} for field in fields]
