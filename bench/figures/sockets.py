"""Commands and questions over sockets, by a load, by the Python client, and through a front process."""

from __future__ import annotations

from millstream.bench.figure import Entry, Figure, Goal, limits
from millstream.bench.socket.figures import CLIENT_FIGURES, FRONT_FIGURES

__all__ = ["SOCKETS"]


def _over_sockets(
    shape: str, title: str, *, alone: Goal | None = None, execute_goal: Goal | None = None, ask_goal: Goal | None = None
) -> tuple[Figure, Figure]:
    """Commands and questions over a socket, beside Redis, by so many connections.

    Args:
        shape: the name of both workloads.
        title: in words.
        alone: a goal for commands where small commits are written on the loop's own thread, which is measured then.
        execute_goal: one for commands as they are by default.
        ask_goal: one for questions.
    """
    execute, ask = f"connections-{shape}", f"connections-{shape}-asking"
    return (
        Figure(
            name=f"socket-execute-{shape}",
            title=f"durable commands over a socket: {title}",
            unit="commands/s",
            subjects=(
                Entry("millstream", "socket-execute", execute, execute_goal),
                *((Entry("on the loop's thread", "socket-execute-alone", execute, alone),) if alone else ()),
            ),
            limits=limits(execute, Redis="redis-set", echo="socket-echo", **{"Redis*": "redis-set-by-load"}),
        ),
        Figure(
            name=f"socket-ask-{shape}",
            title=f"questions over a socket: {title}",
            unit="asks/s",
            subjects=(Entry("millstream", "socket-ask", ask, ask_goal),),
            limits=limits(ask, Redis="redis-get", echo="socket-echo", **{"Redis*": "redis-get-by-load"}),
        ),
    )


SOCKETS = (
    *_over_sockets("1", "one connection"),
    *_over_sockets(
        "50",
        "50 connections, each with one request in flight",
        alone=Goal(bound=0.65, of="Redis*"),
        ask_goal=Goal(bound=0.8, of="Redis*"),
    ),
    *_over_sockets("1000", "1,000 connections, each with one request in flight"),
    *_over_sockets(
        "50x16",
        "50 connections, each with 16 requests in flight",
        execute_goal=Goal(bound=0.38, of="Redis*"),
        ask_goal=Goal(bound=0.58, of="Redis*"),
    ),
    *CLIENT_FIGURES,
    *FRONT_FIGURES,
)
