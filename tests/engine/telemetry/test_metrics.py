"""Metrics: what is counted, what is read when they are asked for, and that nothing is named that is not there."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from millstream.engine import Engine, MemoryLog, Rejected, Replica
from millstream.engine.edge import Edge
from millstream.engine.server import Tokens
from millstream.engine.telemetry import Measured, Metrics
from millstream.engine.telemetry.names import METRICS
from millstream.engine.web import WebApp, WebServer
from tests.shop import Add, StockOf, Take, shop
from tests.test_tidy import ROOT

pytestmark = pytest.mark.anyio

DASHBOARD = ROOT / "docs" / "reference" / "grafana.json"


def samples(metrics: Metrics) -> dict[str, dict[tuple[str, ...], float]]:
    """Every sample of an exposition, by name and by the values of its labels in the order of their names."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(metrics.exposition()[0].decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels[label] for label in sorted(sample.labels))] = (
                sample.value
            )
    return found


@asynccontextmanager
async def over(web: WebApp) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of it, in a server of its own."""
    async with (
        WebServer(web, listen=["127.0.0.1:0"]) as server,
        httpx2.AsyncClient(base_url=str(server.addresses[0])) as client,
    ):
        yield client


async def test_a_commit_is_counted_with_all_that_is_in_it() -> None:
    metrics = Metrics(CollectorRegistry())
    async with Engine(shop, log=MemoryLog(), observers=[metrics]) as engine:
        metrics.watch(engine)
        await engine.execute_many([Add("tea", 3), Add("tea", 2)])
        with pytest.raises(Rejected):
            await engine.execute(Take("tea", 9))
        await engine.ask(StockOf("tea"), after=2)
        found = samples(metrics)
    assert found["millstream_commits_total"] == {(): 1}
    assert found["millstream_commands_total"] == {(): 2}
    assert found["millstream_events_total"] == {(): 2}
    assert found["millstream_log_bytes_total"][()] > 100
    assert found["millstream_commit_commands_sum"] == {(): 2}
    assert found["millstream_commit_duration_seconds_count"] == {(): 1}
    assert found["millstream_commands_refused_total"] == {(): 1}
    assert found["millstream_ready"] == {("writer",): 1}
    assert found["millstream_position"] == {(): 2}
    assert set(found["millstream_view_lag_events"].values()) == {0}
    assert found["millstream_mailbox_commands_max"] == {(): 10_000}


async def test_without_something_to_watch_only_what_was_counted_is_told() -> None:
    metrics = Metrics(CollectorRegistry())
    assert "millstream_position" not in samples(metrics)
    assert samples(metrics)["millstream_commits_total"] == {(): 0}


async def test_a_replica_says_how_far_behind_it_is(tmp_path: Path) -> None:
    metrics, log = Metrics(CollectorRegistry()), tmp_path / "shop.db"
    async with Engine(shop, log=log) as engine:
        receipt = await engine.execute(Add("tea", 3))
        async with Replica(shop, log=log, observers=[metrics]) as replica:
            metrics.watch(replica)
            await replica.ask(StockOf("tea"), after=receipt)
            found = samples(metrics)
    assert found["millstream_ready"] == {("replica",): 1}
    assert found["millstream_replica_lag_seconds"] == {(): 0}
    assert "millstream_mailbox_commands" not in found


async def test_callers_are_measured_by_message_and_outcome() -> None:
    metrics = Metrics(CollectorRegistry())
    async with Engine(shop, log=MemoryLog()) as engine:
        edge = Edge(engine, [Measured(metrics)])
        await edge.execute(Add("tea", 3))
        with pytest.raises(Rejected):
            await edge.execute(Take("tea", 9))
        await edge.ask(StockOf("tea"))
    found = samples(metrics)
    assert found["millstream_command_duration_seconds_count"] == {("Add", "done"): 1, ("Take", "Rejected"): 1}
    assert found["millstream_query_duration_seconds_count"] == {("done", "StockOf"): 1}


async def test_over_http_requests_are_measured_by_address_and_metrics_are_one_of_them() -> None:
    metrics = Metrics()
    async with Engine(shop, log=MemoryLog(), observers=[metrics]) as engine:
        metrics.watch(engine)
        async with over(WebApp(shop, engine, meter=metrics)) as client:
            await client.post("/commands/Add", json={"item": "tea", "count": 3})
            await client.get("/queries/Nothing")
            answer = await client.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/plain")
    found = samples(metrics)["http_server_request_duration_seconds_count"]
    assert found["POST", "200", "/commands/{name}"] == 1
    assert found["GET", "404", "/queries/{name}"] == 1
    assert "process_resident_memory_bytes" in answer.text


async def test_metrics_are_for_those_who_may_see_figures_and_are_nowhere_without_a_meter() -> None:
    tokens = Tokens(["reader:a token for reading"])
    async with Engine(shop, log=MemoryLog()) as engine:
        async with over(WebApp(shop, engine, tokens=tokens, meter=Metrics())) as client:
            assert (await client.get("/metrics")).status_code == 401
            answer = await client.get("/metrics", headers={"Authorization": "Bearer a token for reading"})
            assert answer.status_code == 200
        async with over(WebApp(shop, engine)) as client:
            assert (await client.get("/metrics")).status_code == 404


def test_the_table_has_every_metric_that_is_made_and_no_other() -> None:
    metrics = Metrics(CollectorRegistry())
    made = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in metrics.registry.collect()
        if not family.name.endswith("_created")
    }
    assert made <= METRICS.keys()
    read = {name for name in METRICS if name not in made}
    text = (ROOT / "engine" / "telemetry" / "scraped.py").read_text("utf-8")
    assert read == set(re.findall(r'"(millstream_\w+)"', text))


def expressions(value: Any) -> list[str]:
    """Every ``expr`` in it, wherever."""
    if isinstance(value, dict):
        own = [value["expr"]] if "expr" in value else []
        return own + [found for each in value.values() for found in expressions(each)]
    return [found for each in value for found in expressions(each)] if isinstance(value, list) else []


def test_the_dashboard_asks_for_metrics_and_labels_that_there_are() -> None:
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    asked = expressions(dashboard["panels"])
    assert len(asked) >= 12
    used: set[str] = set()
    for expression in asked:
        for name, selector in re.findall(r"\b((?:millstream|http_server|process)_\w+)(?:\{([^}]*)\})?", expression):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            used.add(base)
            assert base in METRICS or base.startswith("process_"), name
            assert (base == name) == (base not in METRICS or METRICS[base].kind != "histogram"), name
            labels = {"job", "instance", "le", *METRICS[base].labels} if base in METRICS else {"job", "instance"}
            assert {each.partition("=")[0].strip("~! ") for each in selector.split(",") if each} <= labels, expression
        for by in re.findall(r"by \(([^)]*)\)", expression):
            known = {label for name in METRICS if name in expression for label in METRICS[name].labels}
            assert {each.strip() for each in by.split(",")} <= known | {"le", "instance"}, expression
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    assert {"millstream_ready", "millstream_view_lag_events", "millstream_commit_duration_seconds"} <= used


def test_the_alerts_ask_for_metrics_that_there_are() -> None:
    text = (ROOT / "docs" / "reference" / "alerts.yml").read_text("utf-8")
    asked = re.findall(r"^ +expr: (.*)$", text, re.MULTILINE)
    named = {re.sub(r"_bucket$", "", name) for each in asked for name in re.findall(r"millstream_\w+", each)}
    assert len(asked) == text.count("- alert: ")
    assert named <= METRICS.keys()
    assert {"millstream_ready", "millstream_view_lag_events"} <= named
