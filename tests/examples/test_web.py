"""The shop behind FastAPI: its endpoints, what its OpenAPI shows, its page, and how it starts and stops under uvicorn."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import httpx2
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from starlette.testclient import TestClient

from examples.shop.app import app as shop
from examples.web.app import api
from examples.web.page import PAGE
from millstream.engine import Engine

ROOT = Path(__file__).parents[2]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("SHOP_LOG", str(tmp_path / "shop.db"))
    with TestClient(api) as client:
        yield client


ORDER = {"show": "hamlet", "count": 2, "mail": "ann@example.org"}


def test_an_endpoint_of_its_own_executes_and_sees_what_it_wrote(client: TestClient) -> None:
    told = client.post("/orders", json=ORDER, headers={"Millstream-Actor": "ann"})
    assert told.status_code == 200
    assert told.json()["state"] in ("placed", "paid")  # it is charged by then, or is about to be
    assert told.json()["free"] == 98
    state = client.get("/shop/queries/OrderState", params={"order": told.json()["order"]})
    assert (state.status_code, state.headers["etag"] != "") == (200, True)


def test_what_is_refused_is_a_problem_also_where_an_endpoint_of_its_own_raises_it(client: TestClient) -> None:
    kind = "application/problem+json"
    twice = [("Millstream-Actor", "ann"), ("Millstream-Actor", "bob")]
    for told in (
        client.post("/orders", json=ORDER, headers=twice),
        client.post("/shop/commands/CancelOrder", json={"order": "none"}),
    ):
        assert (told.status_code, told.headers["content-type"], told.json()["title"]) == (422, kind, "InvalidMessage")
    assert client.post("/shop/commands/OpenShow", json={"show": "x", "seats": 1, "cents": 1}).status_code == 404


def test_its_openapi_is_valid_and_shows_typed_bodies_and_answers(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    validate(document, cls=OpenAPIV31SpecValidator)
    cancel = document["paths"]["/shop/commands/CancelOrder"]["post"]
    assert cancel["requestBody"]["content"]["application/json"]["schema"]["properties"]["reason"] == {"type": "string"}
    assert cancel["responses"]["200"]["content"]["application/json"]["schema"]["title"] == "Receipt"
    assert "application/problem+json" in cancel["responses"]["409"]["content"]
    free = document["paths"]["/shop/queries/FreeSeats"]["get"]
    assert free["responses"]["200"]["content"] == {"application/json": {"schema": {"type": "integer"}}}
    assert "the shop's own messages" in free["tags"]
    watch = document["paths"]["/shop/watch/FreeSeats"]["get"]["responses"]["200"]["content"]
    assert list(watch) == ["text/event-stream"]


def test_the_page_asks_for_addresses_that_there_are(client: TestClient) -> None:
    assert client.get("/").text == PAGE
    paths = client.get("/openapi.json").json()["paths"]
    asked = re.findall(r'watch\("([^"?]+)|fetch\("([^"]+)', PAGE)
    assert {f"/{one or other}" for one, other in asked} <= paths.keys()
    assert len(asked) == 3


# Under uvicorn.


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def uvicorn(folder: Path, *options: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    port = free_port()
    child = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "examples.web.app:api", "--port", str(port), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SHOP_LOG": str(folder / "shop.db"), **environment},
    )
    try:
        yield f"http://127.0.0.1:{port}", child
    finally:
        if child.poll() is None:
            child.kill()
        child.communicate()


def until_started(child: subprocess.Popen[str], times: int = 1) -> None:
    assert child.stdout is not None
    lines = []
    for line in child.stdout:
        lines.append(line)
        if sum("Application startup complete" in each for each in lines) == times:
            return
    pytest.fail("".join(lines))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_at_once_though_somebody_watches_and_the_log_is_whole(number: signal.Signals, tmp_path: Path) -> None:
    with uvicorn(tmp_path) as (url, child):
        until_started(child)
        with httpx2.stream("GET", f"{url}/shop/watch/FreeSeats?show=hamlet", timeout=20) as watch:
            lines = watch.iter_lines()
            assert [next(lines), next(lines)] == ["id: 1", "data: 100"]
            assert next(lines) == ""
            told = httpx2.post(f"{url}/orders", json=ORDER)
            assert told.status_code == 200
            assert json.loads(next(line for line in lines if line.startswith("data:"))[5:]) == 98
            child.send_signal(number)
            assert [line for line in lines if line.startswith("event")] == []  # and it ends, as a whole response
        output, _ = child.communicate(timeout=30)
        assert "Application shutdown complete" in output

    async def look() -> int:
        async with Engine(shop, log=tmp_path / "shop.db", effects=False) as engine:
            return engine.position

    assert anyio.run(look) > 1


def test_a_second_worker_is_told_what_to_do_in_one_line(tmp_path: Path) -> None:
    with uvicorn(tmp_path, "--workers", "2") as (_, child):
        output, _ = child.communicate(timeout=60)
    assert output.count("so this can't run in several workers: run one (no --workers), or let `millstream serve`") == 1
    assert "LogLocked" in output


def test_workers_that_are_clients_share_one_writer(tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/shop.sock"
    writer = subprocess.Popen(
        [sys.executable, "-m", "millstream.engine.cli", "serve", "examples.shop.app:app", "--listen", address, "--log", "memory:", "--no-effects"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert writer.stderr is not None
        assert any("server_listening" in line for line in writer.stderr)
        with uvicorn(tmp_path, "--workers", "2", SHOP_SERVER=address) as (url, child):
            until_started(child, times=2)
            for _ in range(6):
                assert httpx2.get(f"{url}/shop/queries/FreeSeats?show=hamlet").json() == 0
            child.send_signal(signal.SIGTERM)
            child.communicate(timeout=30)
    finally:
        writer.terminate()
        writer.communicate(timeout=30)
