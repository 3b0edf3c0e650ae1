"""JSON Schemas of types, several at once, so that what they have in common is described once and by one name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from millstream.engine.application.app import App
from millstream.engine.application.methods import answer_type

__all__ = ["answers_of", "events_of", "schemas_of"]

_REF = "#/components/schemas/{name}"


def schemas_of(types: Iterable[Any]) -> tuple[list[Any], dict[str, Any]]:
    """A schema for each type, and those that they refer to by name; in one call, so that each has a name of its own.

    What msgspec has no schema for, such as an answer of a type of the application's own, is described as anything.
    """
    described = [each if _has_schema(each) else Any for each in types]
    schemas, components = msgspec.json.schema_components(described, ref_template=_REF)
    return list(schemas), components


def answers_of(app: App) -> Mapping[str, Any]:
    """By tag, what an application's queries are answered with."""
    return {entry.tag: answer_type(query) for query, entry in app.queries.items()}


def events_of(app: App) -> Mapping[str, Any]:
    """By tag, its events."""
    return {entry.tag: event for event, entry in app.events.items()}


def _has_schema(kind: Any) -> bool:
    try:
        msgspec.json.schema(kind)
    except Exception:  # noqa: BLE001 - msgspec raises many kinds
        return False
    return True
