from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest

from millstream.engine import App, Command, Event, Key, Query
from millstream.engine.wire.errors import CODES
from millstream.engine.wire.openrpc import describe
from millstream.engine.wire.requests import params_of
from millstream.handlers import WriteModel, applies, handles
from millstream.views import View, answers
from tests.shop import shop


class Metadata(Command):
    """An application may have messages that are called as something of ours is."""

    receipt: Key


class Receipt(Event):
    receipt: Key


class Opaque:
    """Nothing that msgspec knows."""


class Look(Query[Opaque]):
    pass


class Count(Query[int | None]):
    pass


class Till(WriteModel):
    @handles
    def file(self, command: Metadata) -> Iterator[Event]:
        yield Receipt(command.receipt)

    @applies
    def filed(self, event: Receipt) -> None: ...


class Eye(View):
    @answers
    def look(self, query: Look) -> Opaque:
        return Opaque()

    @answers
    def count(self, query: Count) -> int | None:
        return None


till = App(models=[Till], views=[Eye], name="till")


def method(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in document["methods"] if each["name"] == name]
    assert isinstance(found, dict)
    return found


def references(document: object) -> Iterator[str]:
    if isinstance(document, dict):
        if "$ref" in document:
            yield document["$ref"]
        for each in document.values():
            yield from references(each)
    elif isinstance(document, list):
        for each in document:
            yield from references(each)


@pytest.mark.parametrize("app", [shop, till], ids=lambda app: app.name)
def test_the_document_is_json_and_refers_to_nothing_that_is_not_in_it(app: App) -> None:
    document = describe(app)
    assert json.loads(msgspec.json.encode(document)) == json.loads(json.dumps(document))
    found = set(references(document))
    assert found <= {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert found


@pytest.mark.parametrize("app", [shop, till], ids=lambda app: app.name)
def test_the_parameters_are_those_that_requests_are_read_with(app: App) -> None:
    described = {
        each["name"]: [(param["name"], param["required"]) for param in each["params"]]
        for each in describe(app)["methods"]
    }
    assert described == {
        name: sorted(
            ((field.name, field.required) for field in msgspec.structs.fields(params)), key=lambda each: not each[1]
        )
        for name, params in params_of(app).items()
    }
    assert {each["paramStructure"] for each in describe(app)["methods"]} == {"by-name"}


def test_a_method_has_a_schema_of_each_parameter_and_of_its_result() -> None:
    document = describe(shop)
    assert method(document, "unwatch") == {
        "name": "unwatch",
        "paramStructure": "by-name",
        "params": [
            {"name": "watch", "required": True, "schema": {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}}
        ],
        "result": {"name": "unwatch result", "schema": {"$ref": "#/components/schemas/Watching"}},
    }
    ask = method(document, "ask")
    assert [each["$ref"] for each in ask["params"][0]["schema"]["anyOf"]] == [
        "#/components/schemas/Broke",
        "#/components/schemas/Everything",
        "#/components/schemas/Notes",
        "#/components/schemas/StockOf",
    ]
    assert ask["result"]["schema"]["required"] == ["answer", "position"]
    assert document["components"]["schemas"]["Add"] == {
        "title": "Add",
        "type": "object",
        "properties": {
            "type": {"enum": ["Add"]},
            "item": {"type": "string", "minLength": 1},
            "count": {"type": "integer", "exclusiveMinimum": 0, "maximum": 1000000},
        },
        "required": ["type", "item", "count"],
        "additionalProperties": False,
    }
    assert [name for name in document["components"]["schemas"] if name.endswith("_params")] == []


def test_answers_and_events_are_described_by_their_tags() -> None:
    document = describe(shop)
    assert document["x-answers"] == {
        "StockOf": {"type": "integer"},
        "Everything": {"type": "object", "additionalProperties": {"type": "integer"}},
        "Notes": {"type": "array", "items": {"type": "string"}},
        "Broke": {"type": "string"},
    }
    assert document["x-events"] == {
        tag: {"$ref": f"#/components/schemas/{tag}"} for tag in ("Added", "Taken", "Noted", "Broken")
    }


def test_what_has_no_schema_is_described_as_anything_and_two_of_one_name_are_told_apart() -> None:
    document = describe(till)
    assert document["x-answers"] == {"Look": {}, "Count": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}
    schemas = document["components"]["schemas"]
    (command,) = references(method(document, "execute")["params"][0])
    (receipt,) = references(method(document, "execute")["result"])
    (event,) = references(document["x-events"])
    properties = {ref: schemas[ref.rpartition("/")[2]]["properties"].keys() for ref in (command, receipt, event)}
    assert properties == {
        command: {"type", "receipt"},
        receipt: {"commit", "position", "events", "command_id", "version", "repeated", "parked", "answer"},
        event: {"type", "receipt"},
    }


def test_every_error_is_there_with_its_code() -> None:
    assert describe(shop)["components"]["errors"] == {
        name: {"code": code, "message": name} for name, code in CODES.items()
    }


def test_it_says_whose_it_is_and_which_specification_it_follows() -> None:
    document = describe(till)
    assert (document["openrpc"], document["info"]["title"]) == ("1.3.2", "till")
    assert document["info"]["version"]
