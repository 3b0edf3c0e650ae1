"""The figures of the Python client, as data. Those of the server are with all others (`millstream.bench.figures`)."""

from __future__ import annotations

from millstream.bench.figure import Entry, Figure, Goal, limits

__all__ = ["CLIENT_FIGURES"]

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
