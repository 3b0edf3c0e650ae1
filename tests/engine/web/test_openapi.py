"""The OpenAPI document: valid by a validator of somebody else's, and true of what is answered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from examples.bank import app as bank
from examples.shop.app import app as tickets
from millstream.engine import App, Command, Event, Key, Query
from millstream.engine.server import Tokens
from millstream.engine.web.app import ADDRESSES
from millstream.engine.web.openapi import RAISED, describe_http
from millstream.engine.web.page import PAGE, PAGE_HEADERS
from millstream.engine.web.problems import STATUSES
from millstream.handlers import Decision, WriteModel, applies, handles
from millstream.views import View, answers
from tests.engine.web.asking import over_http
from tests.shop import shop


class Receipt(Event):
    """An application may have messages that are called as something of ours is."""

    of: Key


class Problem(Command[tuple[int, ...]]):
    """Says something.

    And more about it.
    """

    of: Key


class Health(Query[dict[str, int]], tag="a/b c"):
    tags: tuple[str, ...] = ()


class Opaque:
    """Nothing that msgspec knows."""


class Look(Query[Opaque]):
    pass


class Till(WriteModel):
    @handles
    def say(self, command: Problem) -> Decision[tuple[int, ...]]:
        yield Receipt(command.of)
        return (1, 2)

    @applies
    def said(self, event: Receipt) -> None: ...


class Eye(View):
    @answers
    def health(self, query: Health) -> dict[str, int]:
        return dict.fromkeys(query.tags, 1)

    @answers
    def look(self, query: Look) -> Opaque:
        return Opaque()


till = App(models=[Till], views=[Eye], name="till", version="7")


@pytest.mark.parametrize(
    ("app", "has_tokens"),
    [(bank, False), (tickets, False), (shop, False), (till, True)],  # what tokens add is the same for all
    ids=["bank", "tickets", "shop", "till, with tokens"],
)
def test_the_document_is_valid_and_has_every_message_and_address(app: App, has_tokens: bool) -> None:
    document = describe_http(app, prefix="/api", has_tokens=has_tokens)
    validate(document, cls=OpenAPIV31SpecValidator)
    there = {operation["operationId"] for path in document["paths"].values() for operation in path.values()}
    commands = {f"commands.{entry.tag}" for entry in app.commands.values()}
    queries = {f"{kind}.{entry.tag}" for entry in app.queries.values() for kind in ("queries", "watch")}
    assert commands | queries < there
    assert {path.partition("/")[2].partition("/")[0] for path in ADDRESSES} - {"openapi.json", "try", "console"} <= {
        path.partition("/")[2].partition("/")[0] for path in document["paths"]
    }
    assert document["servers"] == [{"url": "/api"}]
    assert ("security" in document) == has_tokens


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from references(each)


def test_a_message_that_is_called_as_something_of_ours_is_told_from_it() -> None:
    document = describe_http(till)
    post = document["paths"]["/commands/Problem"]["post"]
    assert (post["summary"], post["description"]) == ("Says something.", "And more about it.")
    told = document["components"]["schemas"][
        post["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    ]
    assert told["properties"]["answer"]["anyOf"] == [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]
    problem = post["responses"]["409"]["content"]["application/problem+json"]["schema"]["$ref"].rpartition("/")[2]
    assert "detail" in document["components"]["schemas"][problem]["properties"]
    schemas = document["components"]["schemas"]
    assert {each.rpartition("/")[2] for each in references(document)} <= schemas.keys()
    assert document["info"] == {"title": "till", "version": "7"}
    assert "/queries/a/b%20c" in document["paths"]


def test_every_error_that_is_described_has_a_status() -> None:
    assert {name for names in RAISED.values() for name in names} <= STATUSES.keys()


@pytest.mark.anyio
async def test_what_is_answered_is_what_the_document_says() -> None:
    async with over_http() as web:
        document = (await web.client.get("/openapi.json")).json()

        def schema(path: str, method: str, status: str, kind: str = "application/json") -> Draft202012Validator:
            found = document["paths"][path][method]["responses"][status]["content"][kind]["schema"]
            return Draft202012Validator({**found, "components": document["components"]})

        receipt = await web.execute("Add", {"item": "a", "count": 3})
        schema("/commands/Add", "post", "200").validate(receipt.json())
        refused = await web.execute("Take", {"item": "a", "count": 9}, 409)
        schema("/commands/Take", "post", "409", "application/problem+json").validate(refused.json())
        schema("/queries/Everything", "get", "200").validate((await web.ask("Everything")).json())
        for path in ("/health/ready", "/health/live"):
            schema(path, "get", "200").validate((await web.client.get(path)).json())
        responses = document["paths"]["/queries/StockOf"]["get"]["responses"]
        answered = await web.ask("StockOf?item=a")
        again = await web.ask("StockOf?item=a", 304, If_None_Match=answered.headers["etag"])
        assert {name.lower() for name in responses["304"]["headers"]} <= again.headers.keys()
        body = document["paths"]["/commands/Add"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        given = Draft202012Validator({**body, "components": document["components"]})
        assert given.is_valid({"item": "a", "count": 3})
        assert given.is_valid({"type": "Add", "item": "a", "count": 3})
        for wrong in ({"item": "a"}, {"item": "", "count": 1}, {"type": "Take", "item": "a", "count": 3}):
            assert not given.is_valid(wrong)
            await web.execute("Add", wrong, 422)
        async with web.stream("/events") as events:
            data = document["paths"]["/events"]["get"]["responses"]["200"]["content"]["text/event-stream"]["x-data"]
            told = Draft202012Validator({**data, "components": document["components"]})
            told.validate((await anext(events)).data)
        await web.engine.__aexit__(None, None, None)
        closed = await web.ask("StockOf?item=a", 503)
        assert ("Retry-After" in responses["503"]["headers"]) == ("retry-after" in closed.headers) is True
        assert not any("headers" in responses[status] for status in ("400", "422", "500") if status in responses)


@pytest.mark.anyio
async def test_a_tag_with_a_slash_has_an_address() -> None:
    async with over_http(till) as web:
        assert (await web.ask("a/b%20c?tags=x&tags=y")).json() == {"x": 1, "y": 1}
        assert (await web.execute("Problem", {"of": "a"})).json()["answer"] == [1, 2]


@pytest.mark.anyio
async def test_the_document_takes_a_token_where_they_are_wanted() -> None:
    async with over_http(tokens=Tokens(["reader:a token for reading"])) as web:
        assert (await web.client.get("/openapi.json")).status_code == 401
        found = await web.client.get("/openapi.json", headers={"Authorization": "Bearer a token for reading"})
        assert found.json()["security"] == [{"token": []}]


@pytest.mark.anyio
async def test_the_page_is_served_with_a_policy_that_lets_nothing_else_in() -> None:
    async with over_http() as web:
        told = await web.client.get("/try")
        assert told.headers["content-type"] == "text/html; charset=utf-8"
        assert told.text == PAGE
        assert told.headers["content-security-policy"] == PAGE_HEADERS["Content-Security-Policy"]


def test_the_page_loads_nothing_from_elsewhere_and_puts_nothing_in_as_html() -> None:
    assert re.findall(r"https?://|//[a-z]", PAGE) == []
    assert [
        word for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "document.write") if word in PAGE
    ] == []
    assert re.findall(r"\ssrc=|\shref=\"(?!data:)|\son\w+=\"", PAGE) == []
    assert PAGE.count("<script>") == PAGE.count("<style>") == 1
