"""In a Starlette or a FastAPI: what is opened and closed with it, and its messages as routes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import anyio
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from msgspec import Struct
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from millstream.engine import App, Engine, LogLocked, MemoryLog, Query, Rejected
from millstream.engine.gateway import Gateway
from millstream.engine.server import Tokens
from millstream.engine.web import WebApp
from millstream.engine.web.frameworks import add_messages, lifespan, metadata_of, problem_handlers, served
from millstream.views import View, answers
from tests.shop import Add, Book, Stock, StockOf, Take, shop


def started(api: Any) -> TestClient:
    return TestClient(api, raise_server_exceptions=False)


def test_a_starlette_opens_and_closes_the_engine_and_mounts_it_under_a_prefix(log_lines: list[Any]) -> None:
    web = WebApp(shop)

    async def stock(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(await served(request).ask(StockOf("a"))))

    async def refuse(request: Request) -> PlainTextResponse:
        raise Rejected("no", request.url.path)

    api = Starlette(
        routes=[Mount("/api", web), Route("/stock", stock), Route("/refuse", refuse)],
        lifespan=lifespan(lambda: Engine(shop, log="memory:"), web),
        exception_handlers=dict(problem_handlers()),
    )
    with started(api) as client:
        assert client.post("/api/commands/Add", json={"item": "a", "count": 2}).status_code == 200
        assert client.get("/stock").text == "2"
        assert (client.get("/refuse").status_code, client.get("/refuse").json()["title"]) == (409, "Rejected")
        document = client.get("/api/openapi.json").json()
        assert document["servers"] == [{"url": "/api"}]
        assert client.get("/api/try").status_code == 200
        assert client.get("/api/nothing").json()["type"] == "about:blank"
    assert [line["event"] for line in log_lines] == ["opened", "closed"]
    assert started(api).get("/api/health/ready").status_code == 503  # and nothing is served any more


def test_an_engine_that_is_not_there_is_said_so_by_the_dependency() -> None:
    api = FastAPI(exception_handlers=problem_handlers())

    @api.get("/")
    async def there(engine: Annotated[Gateway, Depends(served)]) -> None: ...

    told = started(api).get("/")
    assert (told.status_code, "give the application lifespan" in told.json()["detail"]) == (503, True)


@pytest.fixture
def client() -> Iterator[TestClient]:
    web = WebApp(shop)
    api = FastAPI(lifespan=lifespan(lambda: Engine(shop, log="memory:"), web))

    def only_ann(request: Request) -> None:
        if metadata_of(request).actor != "ann":
            raise HTTPException(403, "you are not ann")

    router = APIRouter(prefix="/shop", dependencies=[Depends(only_ann)])
    add_messages(router, web, Add, StockOf)
    api.include_router(router)
    add_messages(api, web)
    with TestClient(api) as client:
        yield client


def test_routes_have_what_their_router_has_and_answer_as_the_application_does(client: TestClient) -> None:
    ann = {"Millstream-Actor": "ann"}
    body = {"item": "a", "count": 2}
    assert client.post("/shop/commands/Add", json=body).status_code == 403
    told = client.post("/shop/commands/Add", json=body, headers=ann)
    assert (told.status_code, told.headers["millstream-position"]) == (200, "1")
    assert client.post("/shop/commands/Take", json=body, headers=ann).status_code == 404  # it was not added
    assert client.post("/commands/Take", json=body).status_code == 200
    asked = client.get("/shop/queries/StockOf?item=a", headers=ann)
    assert (asked.json(), client.post("/shop/queries/StockOf", json={"item": "a"}, headers=ann).json()) == (0, 0)
    assert client.get("/queries/StockOf?item=a", headers={"If-None-Match": asked.headers["etag"]}).status_code == 304
    assert client.get("/queries/StockOf?item=a", headers={"Millstream-After": "9"}).status_code == 422
    assert client.get("/watch/StockOf").status_code == 422


def test_the_document_of_fastapi_has_them_with_bodies_answers_and_errors(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    validate(document, cls=OpenAPIV31SpecValidator)
    assert {path for path in document["paths"] if path.startswith("/shop/")} == {
        "/shop/commands/Add",
        "/shop/queries/StockOf",
        "/shop/watch/StockOf",
    }
    add = document["paths"]["/shop/commands/Add"]["post"]
    schema = add["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["count"] == {"type": "integer", "exclusiveMinimum": 0, "maximum": 1_000_000}
    assert schema["required"] == ["item", "count"]
    assert add["responses"]["200"]["content"]["application/json"]["schema"]["title"] == "Receipt"
    assert {"409", "412", "422", "503"} <= add["responses"].keys()
    assert "Idempotency-Key" in {each["name"] for each in add["parameters"]}
    assert "/events" in document["paths"]


class Node(Struct, frozen=True):
    """It holds itself."""

    inner: Node | None = None


class Tree(Query[Node]):
    pass


class Woods(View):
    seen: int = 0

    @answers
    def tree(self, query: Tree) -> Node:
        return Node(Node())


def test_what_holds_itself_is_described_as_far_as_it_goes() -> None:
    web = WebApp(App(models=[Stock, Book], views=[Woods], name="woods"))
    api = FastAPI()
    add_messages(api, web)
    document = api.openapi()
    validate(document, cls=OpenAPIV31SpecValidator)
    assert "/queries/Tree" in document["paths"]


def test_tokens_are_wanted_by_routes_too() -> None:
    web = WebApp(shop, tokens=Tokens(["reader:a token for reading"]))
    api = FastAPI(lifespan=lifespan(lambda: Engine(shop, log="memory:"), web))
    add_messages(api, web, Take, StockOf)
    with TestClient(api) as client:
        assert client.get("/queries/StockOf?item=a").status_code == 401
        known = {"Authorization": "Bearer a token for reading"}
        assert client.get("/queries/StockOf?item=a", headers=known).status_code == 200
        assert client.post("/commands/Take", json={"item": "a", "count": 1}, headers=known).status_code == 403


def test_a_log_that_another_process_has_says_what_to_do(tmp_path: Path) -> None:
    api = FastAPI(lifespan=lifespan(lambda: Engine(shop, log=tmp_path / "shop.db")))
    with TestClient(api), pytest.raises(LogLocked) as locked, TestClient(api):
        pass
    assert "run one (no --workers)" in "".join(locked.value.__notes__)


@pytest.mark.anyio
async def test_signals_end_streams_and_do_what_they_did_before() -> None:
    web, heard = WebApp(shop), list[int]()
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        ours = signal.getsignal(signal.SIGTERM)
        async with lifespan(lambda: Engine(shop, log=MemoryLog()), web)(None):
            signal.raise_signal(signal.SIGTERM)
            with anyio.fail_after(10):
                while not web._watches._is_stopped:
                    await anyio.lowlevel.checkpoint()
        assert heard == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)
