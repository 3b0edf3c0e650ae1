"""The figures over HTTP, as data."""

from __future__ import annotations

from millstream.bench.figure import Entry, Figure, limits

__all__ = ["HTTP"]

_ABOUT = (
    "A POST of some 30 bytes of JSON for each command, one in flight on each connection. Beside it, by the same load: "
    "FastAPI under the same uvicorn, with an endpoint that does nothing, and with one that writes one row to SQLite by "
    "SQLAlchemy, as durable as a receipt. Parsing HTTP in Python is what the three have in common."
)

HTTP = (
    *(
        Figure(
            name=f"http-execute-{connections}",
            title=f"durable commands over HTTP: {title}",
            about=_ABOUT,
            unit="commands/s",
            subjects=(Entry("millstream", "http-bank", f"http-{connections}"),),
            limits=limits(f"http-{connections}", FastAPI_nothing="http-nothing", FastAPI_one_row="http-row"),
        )
        for connections, title in (("1", "one connection"), ("50", "50 connections"))
    ),
    Figure(
        name="http-watched",
        title="durable commands over HTTP beside 1,000 who watch by server-sent events: 1,000 connections",
        about="Each watches an account of its own among a thousand, so that every command is news to one of them. They "
        "are a process of their own, on the same cores.",
        unit="commands/s",
        subjects=(Entry("watched", "http-watched", "http-1000"),),
        limits=limits("http-1000", without="http-bank"),
    ),
)
