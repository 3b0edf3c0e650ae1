"""What a middleware is: two methods around a command and a question, and the values that they are given.

Here: how they are put around each other. Not here: around what, and who calls them (`edge`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import msgspec

from millstream.engine.application.interrupts import INTERRUPTS
from millstream.engine.application.messages import Answered, At, Command, Metadata, Query, Receipt, Token
from millstream.engine.errors.said import said_by

__all__ = ["Ask", "Asking", "Execute", "Executing", "Middleware", "chained"]


class Executing(msgspec.Struct, frozen=True):
    """A command at the edge, with what its caller asks for beside it, as `Engine.execute` takes it.

    ``role`` is the role of the caller's token, on a socket and over HTTP; None in process. To change something, give
    `msgspec.structs.replace(asked, metadata=…)` to what comes next.
    """

    command: Command[Any]
    command_id: str | None = None
    expected_version: int | None = None
    metadata: Metadata | None = None
    timeout: float | None = None
    wait: bool = True
    role: str | None = None


class Asking(msgspec.Struct, frozen=True):
    """A question at the edge, as `Engine.answer` takes it.

    ``is_watch`` says that it begins a watch, ``is_joint`` that it is one of an `ask_all`, to be asked again with the
    others.
    """

    query: Query[Any]
    after: Token | None = None
    at: At | None = None
    timeout: float | None = None
    incomplete: bool = False
    role: str | None = None
    is_watch: bool = False
    is_joint: bool = False


#: What comes next: another middleware, or the engine.
Execute: TypeAlias = Callable[[Executing], Awaitable[Receipt[Any]]]
Ask: TypeAlias = Callable[[Asking], Awaitable[Answered[Any]]]


def chained(methods: Sequence[Any], innermost: Any) -> Any:
    """One call out of several, each of which is around the next one.

    Args:
        methods: of middleware, the outermost first.
        innermost: what is in the middle.
    """
    call = innermost
    for method in reversed(methods):
        call = partial(_around, method, call)
    return call


async def _around(method: Any, proceed: Any, asked: Any) -> Any:
    try:
        return await method(asked, proceed)
    except (Exception, *INTERRUPTS):
        raise
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
            raise
        # Nothing has cancelled the caller, who waits for an answer.
        raise RuntimeError(f"a middleware has raised {said_by(error)}") from error


class Middleware:
    """Derive from it, and define what is wanted: ``Edge(engine, [Tenants(), Quotas()])``.

    A method may refuse, by raising any error of millstream, `Rejected` for one; change what is asked; wait; and look at
    what came of it. It calls ``proceed`` once, or not at all.
    """

    async def execute(self, asked: Executing, proceed: Execute) -> Receipt[Any]:
        """Around a command that comes from a caller; never around what reactions, timers and effects send."""
        return await proceed(asked)

    async def ask(self, asked: Asking, proceed: Ask) -> Answered[Any]:
        """Around a question that comes from a caller.

        A watch asks once, when it begins: what is refused then is refused, what is changed in the question holds for
        all its answers. A middleware that changes the answer of a watch is a `DefinitionError`, as later ones would not
        be changed: refuse it, by ``asked.is_watch``. So with each question of an `ask_all`, by ``asked.is_joint``.
        """
        return await proceed(asked)
