"""Spans: one trace from a caller to what its command led to, also over HTTP; and none where nobody samples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import anyio
import httpx2
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import Span, StatusCode

from millstream.engine import Engine, MemoryLog, Metadata, Rejected
from millstream.engine.edge import Edge
from millstream.engine.telemetry import Spans, Traced, with_trace
from millstream.engine.web import WebApp, WebServer
from tests.outside import Bank, Buy, Careful, Confirmed, careful
from tests.shop import Add, StockOf, Take, shop

pytestmark = pytest.mark.anyio

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-01"


class Provider:
    """A provider of spans, and those that have ended."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        self.spans = TracerProvider(sampler=sampler)
        self.spans.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def ended(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.ended if span.name == name]


def place_of(span: ReadableSpan | Span) -> tuple[str, str]:
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


async def test_a_command_is_a_child_of_what_its_caller_says_and_its_commit_links_to_it() -> None:
    provider = Provider()
    async with Engine(shop, log=MemoryLog(), observers=[Spans(provider.spans)]) as engine:
        edge = Edge(engine, [Traced(provider.spans)])
        await edge.execute(Add("tea", 3), metadata=Metadata(trace=CALLER), command_id="first")
        happened = await anext(aiter(engine.follow(after=0)))
    (command,), (commit,) = provider.named("execute Add"), provider.named("millstream commit")
    assert command.parent is not None
    assert (place_of(command)[0], f"{command.parent.span_id:016x}") == (TRACE, "b7ad6b7169203331")
    assert dict(command.attributes or {}) == {
        "millstream.command_id": "first", "millstream.commit": 1, "millstream.position": 1,
    }  # fmt: skip
    assert [f"{link.context.span_id:016x}" for link in commit.links] == [place_of(command)[1]]
    assert commit.parent is None
    assert place_of(commit)[0] != TRACE
    assert happened.about.trace == "00-{}-{}-01".format(*place_of(command))


async def test_a_commit_of_many_has_a_link_for_each_that_is_sampled_and_no_more_than_it_may() -> None:
    provider = Provider()
    others = [f"00-{TRACE}-{number:016x}-0{number % 2}" for number in range(1, 9)]
    spans = Spans(provider.spans, links_max=3)
    async with Engine(shop, log=MemoryLog(), observers=[spans]) as engine, anyio.create_task_group() as tasks:
        for trace in others:
            tasks.start_soon(partial(engine.execute, Add("tea", 1), metadata=Metadata(trace=trace)))
    (commit,) = provider.named("millstream commit")
    assert [link.context.span_id for link in commit.links] == [1, 3, 5]
    assert (commit.attributes or {})["millstream.commands"] == 8


async def test_what_a_rule_refuses_is_an_outcome_and_no_error_of_the_server() -> None:
    provider = Provider()
    async with Engine(shop, log=MemoryLog()) as engine:
        edge = Edge(engine, [Traced(provider.spans)])
        with pytest.raises(Rejected):
            await edge.execute(Take("tea", 3))
        await edge.ask(StockOf("tea"))
    (refused,), (asked,) = provider.named("execute Take"), provider.named("ask StockOf")
    assert (refused.attributes or {})["error.type"] == "Rejected"
    assert refused.status.status_code is StatusCode.UNSET
    assert dict(asked.attributes or {}) == {"millstream.position": 0}


async def test_where_nothing_is_sampled_what_the_caller_said_goes_on_as_it_is() -> None:
    provider = Provider(ALWAYS_OFF)
    async with Engine(shop, log=MemoryLog(), observers=[Spans(provider.spans)]) as engine:
        edge = Edge(engine, [Traced(provider.spans)])
        await edge.execute(Add("tea", 3), metadata=Metadata(trace=CALLER))
        await edge.execute(Add("tea", 3))
        told = [(await anext(aiter(engine.follow(after=position)))).about.trace for position in (0, 1)]
    assert (told, provider.ended) == ([CALLER, None], ())


async def test_attempts_at_an_effect_are_children_of_the_command_that_owes_it_and_so_is_what_follows() -> None:
    provider, bank = Provider(), Bank()
    bank.fails["o1"] = 1
    log, observers = MemoryLog(), [Spans(provider.spans)]
    async with Engine(careful, log=log, observers=observers, effects=[Careful(bank)]) as engine:
        edge = Edge(engine, [Traced(provider.spans)])
        await edge.execute(Buy("o1"), metadata=Metadata(trace=CALLER))
        with anyio.fail_after(10):
            confirmed = await anext(aiter(engine.follow(types=[Confirmed])))
    (command,), (failed, done) = provider.named("execute Buy"), provider.named("effect Careful.charge")
    for attempt in (failed, done):
        assert attempt.parent is not None
        assert (place_of(attempt)[0], f"{attempt.parent.span_id:016x}") == place_of(command)
    assert (failed.status.status_code, done.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert [event.name for event in failed.events] == ["exception"]
    assert dict(done.attributes or {}) == {
        "millstream.effect": "Careful.charge", "millstream.position": 1, "millstream.attempt": 2, "millstream.key": "o1",
    }  # fmt: skip
    assert confirmed.about.trace == "00-{}-{}-01".format(*place_of(command))
    assert [len(commit.links) for commit in provider.named("millstream commit")] == [1, 1]


async def test_over_http_the_header_is_where_commands_and_questions_begin() -> None:
    provider = Provider(ParentBased(ALWAYS_OFF))
    async with (
        Engine(shop, log=MemoryLog()) as engine,
        WebServer(WebApp(shop, Edge(engine, [Traced(provider.spans)])), listen=["127.0.0.1:0"]) as server,
        httpx2.AsyncClient(base_url=str(server.addresses[0])) as client,
    ):
        for headers in ({"Traceparent": CALLER}, {}, {"Traceparent": "nonsense"}):
            assert (await client.post("/commands/Add", json={"item": "a", "count": 1}, headers=headers)).is_success
            assert (await client.get("/queries/StockOf?item=a", headers=headers)).is_success
    assert [(span.name, place_of(span)[0]) for span in provider.ended] == [
        ("execute Add", TRACE), ("ask StockOf", TRACE),
    ]  # fmt: skip


def test_a_caller_hands_on_the_span_that_it_is_in() -> None:
    tracer = Provider().spans.get_tracer("test")
    assert with_trace() is None
    with tracer.start_as_current_span("mine") as span:
        mine = with_trace()
        assert mine is not None
        assert (mine.trace or "").split("-")[1:3] == list(place_of(span))
        assert with_trace(Metadata(actor="ann")) == Metadata(actor="ann", trace=mine.trace)
        assert with_trace(Metadata(trace=CALLER)) == Metadata(trace=CALLER)
