"""An application in Starlette or FastAPI: opened with it, its messages as routes, its errors as answers.

Here: what a framework is given. FastAPI itself is not imported: it takes plain functions, and routes by one method. Not
here: what the routes do (`app`).
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Protocol, cast

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from millstream.engine.application.app import tag_of
from millstream.engine.application.messages import Command, Metadata, Query
from millstream.engine.errors import EngineClosed, LogLocked, MillstreamError
from millstream.engine.web.app import WebApp
from millstream.engine.web.headers import Headers
from millstream.engine.web.openapi import described
from millstream.engine.web.problems import problem_response
from millstream.engine.web.served import Served

__all__ = ["RouterLike", "add_messages", "lifespan", "metadata_of", "problem_handlers", "served"]

_STATE = "millstream"
_ENDING = (signal.SIGINT, signal.SIGTERM)
_ONE_WRITER = (
    "millstream: one process writes, so this can't run in several workers: run one (no --workers), or let "
    "`millstream serve` have the log, and open a Client or a Replica in each worker"
)


class RouterLike(Protocol):
    """What messages are added to: a `fastapi.FastAPI`, or a `fastapi.APIRouter`."""

    def add_api_route(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        methods: list[str],
        name: str,
        response_model: Any,
        response_class: type[Response],
        openapi_extra: dict[str, Any],
    ) -> None: ...


def lifespan(
    opened: Callable[[], AbstractAsyncContextManager[Served]], *webs: WebApp
) -> Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """The ``lifespan`` of a Starlette or a FastAPI: opens what is served when it starts, and closes it when it stops.

    When SIGINT or SIGTERM comes, the streams of ``webs`` end at once, since a server waits for responses before it lets
    its application close anything.

    Args:
        opened: makes what is served, as in ``lambda: Engine(app, log="shop.db")``, or a `Replica`, or a `Client`. It is
            called once for each start, and what it gives is entered.
        webs: what serves it, mounted or by `add_messages`.

    Raises (when the application starts):
        LogLocked: another process has the log, as with several workers; a note says what to do.
        MillstreamError: as entering what ``opened`` gives.
    """

    @asynccontextmanager
    async def run(_: Any) -> AsyncGenerator[Mapping[str, Any], None]:
        entering = opened()
        try:
            backend = await entering.__aenter__()
        except LogLocked as error:
            error.add_note(_ONE_WRITER)
            raise
        try:
            for web in webs:
                web.serve(backend)
            with _streams_ended_by_signals(webs):
                yield {_STATE: backend}
        finally:
            for web in webs:
                web.end_streams()
                web.serve(None)
            await entering.__aexit__(None, None, None)

    return run


def served(connection: HTTPConnection) -> Served:
    """What is served, for an endpoint: ``engine: Annotated[Gateway, Depends(served)]``.

    Raises:
        EngineClosed: the application has no `lifespan` of ours, or has not started.
    """
    backend: Served | None = getattr(connection.state, _STATE, None)
    if backend is None:
        raise EngineClosed("not open: give the application lifespan(…) of millstream.engine.web.frameworks")
    return backend


def metadata_of(connection: HTTPConnection) -> Metadata:
    """Who asks, and what it belongs to, as the headers say: actor, correlation, causation, trace and extra.

    Raises:
        InvalidMessage: a header is given twice, or is no UTF-8.
    """
    return Headers(connection.scope["headers"]).metadata or Metadata()


def problem_handlers() -> dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]]:
    """The ``exception_handlers`` of a Starlette or a FastAPI, for errors of millstream that its endpoints raise."""

    async def answered(_: Request, error: Any) -> Response:
        return problem_response(error)

    return {MillstreamError: answered}


def add_messages(router: RouterLike, web: WebApp, *messages: type[Command[Any]] | type[Query[Any]]) -> None:
    """Add a route for each message, with its body, its answer and its errors in FastAPI's own OpenAPI.

    A command is ``POST /commands/NAME``; a query ``GET`` and ``POST /queries/NAME`` and ``GET /watch/NAME``. Whatever
    the router has for all of its routes, such as dependencies, these have, too.

    Args:
        router: a FastAPI application or router.
        web: what answers.
        messages: which ones; all of the application, and ``/events``, if there are none.
    """
    operations, components = described(web.app)
    names = {tag_of(each) for each in messages}
    for path, method, operation in operations:
        kind, _, _ = path[1:].partition("/")
        name = operation["operationId"].removesuffix(".post").partition(".")[2]
        if names and name not in names:
            continue
        shown = cast("dict[str, Any]", _inlined({"summary": name or kind, **operation}, components, ()))
        shown.pop("operationId")  # FastAPI's own differs from that of another router with the same message
        router.add_api_route(
            path,
            _endpoint(web, kind, name),
            methods=[method.upper()],
            name=operation["operationId"],
            response_model=None,
            response_class=Response,
            openapi_extra=shown,
        )


class _Passed(Response):
    """A response that is what `WebApp` answers to the same request."""

    def __init__(self, web: WebApp, kind: str, name: str) -> None:
        super().__init__()
        self._web, self._kind, self._name = web, kind, name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI 3 has it."""
        await self._web.answer(self._kind, self._name, scope, receive, send)


def _endpoint(web: WebApp, kind: str, name: str) -> Callable[[], Any]:
    async def endpoint() -> Response:
        return _Passed(web, kind, name)

    return endpoint


def _inlined(value: Any, components: Mapping[str, Any], inside: tuple[str, ...]) -> Any:
    """A description with what it refers to put in: FastAPI has components of its own. What holds itself is anything."""
    if isinstance(value, dict):
        name = str(value.get("$ref", "")).rpartition("/")[2]
        if not name:
            return {key: _inlined(each, components, inside) for key, each in value.items()}
        return {"title": name} if name in inside else _inlined(components[name], components, (*inside, name))
    if isinstance(value, list):
        return [_inlined(each, components, inside) for each in value]
    return value


@contextmanager
def _streams_ended_by_signals(webs: Iterable[WebApp]) -> Generator[None, None, None]:
    """Let the signals that end a server end streams, too, beside what they do already.

    A server tells its application that it stops only when all responses have ended, and streams end by nothing else.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only there can signals be listened to; a test client runs its application elsewhere
        return
    loop = asyncio.get_running_loop()

    def end() -> None:
        for web in webs:
            web.end_streams()

    def chained(before: Any) -> Callable[[int, Any], None]:
        def handle(number: int, frame: Any) -> None:
            loop.call_soon_threadsafe(end)
            if callable(before):
                before(number, frame)

        return handle

    ours = {number: (before, chained(before)) for number in _ENDING if callable(before := signal.getsignal(number))}
    for number, (_, handler) in ours.items():
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, (before, handler) in ours.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, before)
