"""The figures of the Python client, as data. Those of the server are with all others (`millstream.bench.figures`)."""

from __future__ import annotations

from millstream.bench.figure import Entry, Figure, Goal, limits

__all__ = ["CLIENT_FIGURES", "FRONT_FIGURES"]

_CLIENT = (
    "The client gives each of its callers what is theirs: an outcome of the right type, in time. The pipeline does "
    "none of that: it encodes requests with msgspec, keeps as many of them in flight, and decodes the replies."
)

CLIENT_FIGURES = (
    Figure(
        name="socket-client",
        title="durable commands by the Python client: 1,000 tasks on one connection",
        about=_CLIENT,
        unit="commands/s",
        subjects=(Entry("client", "client-callers", "client-1000", Goal(bound=0.8, of="pipeline")),),
        limits=limits("client-1000", pipeline="pipeline"),
    ),
    Figure(
        name="socket-client-ask",
        title="questions by the Python client: 1,000 tasks on one connection",
        about=_CLIENT,
        unit="asks/s",
        subjects=(Entry("client", "client-asks", "client-1000-asking"),),
        limits=limits("client-1000-asking", pipeline="pipeline-asks"),
    ),
    Figure(
        name="socket-client-many",
        title="durable commands by the Python client: all in one call of execute_many",
        about=_CLIENT,
        unit="commands/s",
        subjects=(Entry("client", "client-one-call", "client-one-call", Goal(bound=0.8, of="pipeline")),),
        limits=limits("client-one-call", pipeline="pipeline-of-parcels"),
    ),
)

_FRONTS = (
    "Front processes take the connections, check what is sent, and write the replies; the writer's process gets all of "
    "it in one stream. What a command takes of the writer's one thread, deciding and writing included, is where a "
    "machine with many cores ends. The rate beside it is one of two cores, which load, fronts and writer share: there "
    "fronts lose, and no machine with more was measured."
)

FRONT_FIGURES = tuple(
    Figure(
        name=f"fronts-{shape}",
        title=f"what a durable command takes of the writer's thread, on two cores: {title}",
        about=_FRONTS,
        unit="µs of the thread",
        subjects=(Entry("one front", "socket-fronts-1", f"connections-{shape}"),),
        limits=limits(f"connections-{shape}", no_front="socket-fronts-0"),
    )
    for shape, title in (
        ("50", "50 connections, one request in flight on each"),
        ("50x16", "50 connections, 16 on each"),
    )
)
