"""What a server says, for people: answers of any shape, figures in groups, and the messages that it understands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from millstream.engine.cli.output import printable, show_figures, show_note, show_table

__all__ = ["fields_of", "flat", "messages_in", "show_value", "text_of"]


def show_value(value: Any) -> None:
    """An answer: rows as a table, names and values a line each, anything else as JSON."""
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        columns = list(dict.fromkeys(name for each in value for name in each))
        show_table(columns, ([text_of(each.get(column)) for column in columns] for each in value))
    elif isinstance(value, dict) and value:
        show_figures({printable(name): text_of(each) for name, each in value.items()})
    else:
        show_note(text_of(value))


def text_of(value: Any) -> str:
    """A value in one line: text as it is, anything else as JSON."""
    if isinstance(value, str):
        return printable(value)
    return printable(msgspec.json.encode(value).decode())


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values in groups of groups as one list of lines."""
    for name, value in values.items():
        label = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, dict):
            yield from flat(value, f"{label} ")
        elif isinstance(value, list):
            yield label, ", ".join(map(text_of, value)) or "-"
        else:
            yield label, f"{value:,}" if type(value) is int else text_of(value)


def messages_in(document: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    """A row for each message of an application's OpenRPC document: kind, name, fields, answer."""
    schemas = document["components"]["schemas"]
    asked = {method["name"]: method["params"] for method in document["methods"]}
    for kind, method in (("command", "execute"), ("query", "ask")):
        (param,) = [each["schema"] for each in asked[method] if each["name"] == kind]
        for each in param.get("anyOf", [param]):
            message = _resolved(each, schemas)
            name = _tag_in(message)
            if name:
                promised = document["x-answers"].get(name)
                answer = "" if promised is None else _type_in(promised)
                yield kind, name, _fields_in(message), answer
    for name, each in document["x-events"].items():
        yield "event", name, _fields_in(_resolved(each, schemas)), ""


def fields_of(fields: str) -> Iterator[tuple[str, bool]]:
    """The names in a row of fields, and whether each is a text."""
    for each in filter(None, fields.split(", ")):
        name, _, kind = each.partition(": ")
        yield name.rstrip("?"), "string" in kind.split(" | ")


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)
    return found


def _tag_in(message: Mapping[str, Any]) -> str:
    """The name that a message has in JSON; empty for what stands where an application has no message of a kind."""
    return str(message.get("properties", {}).get("type", {}).get("enum", [""])[0])


def _fields_in(schema: Mapping[str, Any]) -> str:
    required = set(schema.get("required", ()))
    fields = [
        f"{name}{'' if name in required else '?'}: {_type_in(each)}"
        for name, each in schema.get("properties", {}).items()
        if name != "type"
    ]
    return ", ".join(fields)


def _type_in(schema: Any) -> str:
    """A JSON Schema in a few words."""
    if not isinstance(schema, dict):
        return "anything"
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema or "oneOf" in schema:
        return " | ".join(_type_in(each) for each in schema.get("anyOf") or schema["oneOf"])
    kind = schema.get("type", "anything")
    if kind == "array" and "items" in schema:
        return f"list of {_type_in(schema['items'])}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map to {_type_in(schema['additionalProperties'])}"
    return str(kind)
