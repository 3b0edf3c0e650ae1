"""The application that is served over HTTP: an ASGI one, made from an `App`, for any server and any framework.

Here: what each address does. Not here: connections (`serving`), what a message is (`reading`), statuses (`problems`).

Invariant: every request gets one answer; what an error says is `application/problem+json`, and nothing else is raised.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from functools import partial
from hashlib import blake2b
from typing import Any, TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from millstream.engine.application.app import App
from millstream.engine.application.messages import Answered, Receipt
from millstream.engine.application.validation import encode
from millstream.engine.errors import AnswerFailed, EngineClosed, InvalidMessage, NotAuthenticated, NotPermitted
from millstream.engine.observers import Observer, Observers
from millstream.engine.server.caller import calling_as
from millstream.engine.server.permitting import require_permitted
from millstream.engine.server.sockets import is_meant
from millstream.engine.server.tokens import MAY, Role, Tokens, permitted_methods
from millstream.engine.web.bodies import Bodies
from millstream.engine.web.console_files import FILES, console_response
from millstream.engine.web.headers import ANSWER_HEADERS, Headers
from millstream.engine.web.health import health
from millstream.engine.web.limits import WebLimits
from millstream.engine.web.meter import Meter, Noted
from millstream.engine.web.openapi import describe_http
from millstream.engine.web.operating import Operating
from millstream.engine.web.page import PAGE, PAGE_HEADERS
from millstream.engine.web.problems import problem_response
from millstream.engine.web.reading import Messages
from millstream.engine.web.served import Served
from millstream.engine.web.streams import Streams
from millstream.engine.web.watching import answers, events

__all__ = ["ADDRESSES", "WebApp"]

#: Answers a request; or has sent the answer, and gives None.
_Handler: TypeAlias = Callable[[Request, Send], Awaitable[Response | None]]

#: Every address, and the methods of HTTP that it has.
ADDRESSES: Mapping[str, tuple[str, ...]] = {
    "/commands/{name}": ("POST",),
    "/queries/{name}": ("GET", "POST"),
    "/watch/{name}": ("GET",),
    "/events": ("GET",),
    "/stats": ("GET",),
    "/log": ("GET",),
    "/agenda": ("GET",),
    "/agenda/{name}": ("POST",),
    "/effects/{name}": ("POST",),
    "/views/{name}": ("POST",),
    "/openapi.json": ("GET",),
    "/console": ("GET",),
    "/console/console.css": ("GET",),
    "/console/console.js": ("GET",),
    "/try": ("GET",),
    "/health/live": ("GET",),
    "/health/ready": ("GET",),
    "/metrics": ("GET",),
}

#: The methods of the protocol that are about one message: which ones, a role may say.
_OF_MESSAGES = frozenset({"execute", "ask", "watch"})
_TAG_BYTES = 16
_DOCUMENTS_MAX = 8
_JSON = "application/json"


class WebApp:
    """An ASGI application: ``POST /commands/Deposit``, ``GET /queries/BalanceOf?account=ann``; docs/http.md has all.

    It is run by a `WebServer`, by any other ASGI server, or mounted in another application. It opens and closes
    nothing: what it serves is the caller's, and is given when it is open.

    Args:
        app: whose messages it takes.
        backend: an open `Engine` or `Replica`, or a `Client`; or None, which `serve` gets later. Until then every
            request is answered by 503.
        tokens: who may do what, as on a socket: ``Authorization: Bearer TOKEN``. Without them, each caller that can
            reach it may do everything.
        origins: the web pages that may use it from a browser, as in ``https://shop.example``; none but its own if there
            are none.
        limits: the bounds.
        meter: what counts its requests, and what ``/metrics`` shows: a `telemetry.Metrics`. Without one there is no
            such address.

    Raises:
        DefinitionError: a role of the tokens is permitted a message that the application does not have.
    """

    def __init__(
        self,
        app: App,
        backend: Served | None = None,
        *,
        tokens: Tokens | None = None,
        origins: Sequence[str] = (),
        limits: WebLimits | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.app = app
        self.meter = meter
        self.tokens = tokens
        self.limits = limits or WebLimits()
        if tokens is not None:
            tokens.require_known(app)
        self._backend = backend
        self.messages = Messages(app)
        self.bodies = Bodies(self.limits)
        operating = Operating(self)
        self._watches = Streams(self.limits, "watches_max", self._failed)
        self._follows = Streams(self.limits, "follows_max", self._failed)
        #: What describes it, by the prefix under which it is asked for.
        self._documents: dict[str, bytes] = {}
        handlers: dict[str, tuple[str | None, _Handler]] = {
            "/commands/{name}": ("execute", self._command),
            "/queries/{name}": ("ask", self._query),
            "/watch/{name}": ("watch", self._watch),
            "/events": ("follow", self._events),
            "/stats": ("stats", operating.figures),
            "/log": ("follow", operating.log),
            "/agenda": ("agenda", operating.agenda),
            "/agenda/{name}": ("settle", operating.settle),
            "/effects/{name}": ("settle", operating.steer),
            "/views/{name}": ("settle", operating.mend),
            "/openapi.json": ("describe", self._openapi),
            **{path: (None, partial(_file, name)) for path, name in FILES.items()},
            "/try": (None, self._try),
            "/health/live": (None, self._live),
            "/health/ready": (None, self._ready),
            "/metrics": ("stats", self._metrics),
        }
        if meter is None:
            del handlers["/metrics"]
        self._endpoints = {path: _Endpoint(self, path, *handler) for path, handler in handlers.items()}
        self._answers = Starlette(
            routes=[
                Route(path.replace("{name}", "{name:path}"), self._endpoints[path], methods=methods)
                for path, methods in ADDRESSES.items()
                if path in self._endpoints
            ],
            exception_handlers={HTTPException: lambda _, error: problem_response(error)},
            middleware=[_cors(origins)] if origins else [],
        )
        self._answers.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI 3 has it."""
        await self._answers(scope, receive, send)

    async def answer(self, kind: str, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that came to another address as if it had come to ``/{kind}/{name}``."""
        path = f"/{kind}/{{name}}" if name else f"/{kind}"
        await self._endpoints[path]({**scope, "path_params": {"name": name}}, receive, send)

    def serve(self, backend: Served | None) -> None:
        """From now on, serve this; None: nothing, and every request is answered by 503."""
        self._backend = backend

    def end_streams(self) -> None:
        """End all watches and streams of events, for good: the server stops. Who listens connects again."""
        self._watches.stop()
        self._follows.stop()

    @property
    def streams(self) -> int:
        """How many watches and streams of events are open."""
        return self._watches.count + self._follows.count

    @property
    def observer(self) -> Observer:
        """Who gets what happens in it: the observers of what it serves; the log lines until it serves anything."""
        found: Observer | None = getattr(self._backend, "observers", None)
        return found or Observers(())

    @property
    def backend(self) -> Served:
        """What it serves.

        Raises:
            EngineClosed: nothing.
        """
        if self._backend is None:
            raise EngineClosed("not open yet")
        return self._backend

    def role_of(self, request: Request) -> str | None:
        """The role of who asks; None where a token is wanted, and there is none, or none that is known."""
        if self.tokens is None:
            return Role.WRITER
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return self.tokens.role_of(token.strip()) if scheme.lower() == "bearer" else None

    def require(self, request: Request, method: str) -> str:
        """See that the caller may call this method of the protocol, with the message of the address; its role.

        Raises:
            NotAuthenticated: a token is wanted, and there is none, or none that is known.
            NotPermitted: its role may not.
        """
        role = self.role_of(request)
        if role is None:
            given = "authorization" in request.headers
            raise NotAuthenticated("the token is not known" if given else "no token was given")
        permits = None if self.tokens is None else self.tokens.roles.get(role)
        if method not in (MAY[role] if permits is None else permitted_methods(permits)):
            raise NotPermitted(method, str(role))
        if permits is not None and method in _OF_MESSAGES:
            require_permitted(permits, role, method, request.path_params["name"])
        return role

    def methods_of(self, request: Request) -> Set[str]:
        """The methods of the protocol that the caller may call, with some message at least."""
        role = self.role_of(request)
        permits = None if self.tokens is None or role is None else self.tokens.roles.get(role)
        return MAY[role] if permits is None else permitted_methods(permits)

    # What the addresses do.

    async def _command(self, request: Request, send: Send) -> Response:
        headers = Headers(request.scope["headers"])
        async with self.bodies.body_of(request) as body:
            command, options = self.messages.command(request.path_params["name"], body), headers.options
            if options is None:
                receipt: Receipt[Any] = await self.backend.execute(command)
            else:
                receipt = await self.backend.execute(
                    command,
                    command_id=options.command_id,
                    expected_version=options.expected_version,
                    metadata=options.metadata,
                    timeout=options.timeout,
                    wait=options.wait,
                )
        told = {"Millstream-Position": str(receipt.position), "Cache-Control": "no-store"}
        if receipt.version is not None:
            told["Millstream-Version"] = str(receipt.version)
        return Response(encode(receipt), 200, told, _JSON)

    async def _query(self, request: Request, send: Send) -> Response:
        name, headers, limit = request.path_params["name"], Headers(request.scope["headers"]), self.limits
        if request.method == "POST":
            async with self.bodies.body_of(request) as body:
                query = self.messages.query(name, body)
        else:
            query = self.messages.query_of(name, request.query_params.multi_items())
        timeout = headers.timeout
        answered: Answered[Any] = await self.backend.answer(
            query,
            after=headers.after or None,
            at=headers.at,
            timeout=limit.answer_seconds_max if timeout is None else min(timeout, limit.answer_seconds_max),
            incomplete=headers.incomplete,
        )
        data = self._written(type(query), answered.answer)
        tag = f'"{blake2b(data, digest_size=_TAG_BYTES).hexdigest()}"'
        told = {"ETag": tag, "Millstream-Position": str(answered.position), "Cache-Control": "private, no-cache"}
        if headers.has_tag(tag):
            return Response(None, 304, told)
        return Response(data, 200, told, _JSON)

    async def _watch(self, request: Request, send: Send) -> None:
        _require_get(request)
        headers, limits = Headers(request.scope["headers"]), self.limits
        query = self.messages.query_of(request.path_params["name"], request.query_params.multi_items())
        after = max(headers.after, headers.last_event_id or 0)
        source = partial(answers, self.backend, query, after, headers.incomplete, limits.answer_seconds_max)
        await self._watches.respond(request.receive, send, source)

    async def _events(self, request: Request, send: Send) -> None:
        _require_get(request)
        headers, given = Headers(request.scope["headers"]), request.query_params
        if unknown := sorted(set(given) - {"type", "key"}):
            raise InvalidMessage("the query string", f"/events has type and key, not {unknown[0]!r:.80}")
        types, keys = self.messages.events(given.getlist("type")), given.getlist("key") or None
        last = headers.last_event_id
        source = partial(events, self.backend, types, headers.after if last is None else last, keys)
        await self._follows.respond(request.receive, send, source)

    async def _live(self, request: Request, send: Send) -> Response:
        return Response(encode({"live": True}), 200, {"Cache-Control": "no-store"}, _JSON)

    async def _ready(self, request: Request, send: Send) -> Response:
        found = await health(self.backend, names_views=self.role_of(request) is not None)
        return Response(encode(found), 200 if found.ready else 503, {"Cache-Control": "no-store"}, _JSON)

    async def _metrics(self, request: Request, send: Send) -> Response:
        assert self.meter is not None
        text, content_type = self.meter.exposition(request.headers.get("accept", ""))
        return Response(text, 200, {"Cache-Control": "no-store", "Content-Type": content_type})

    async def _openapi(self, request: Request, send: Send) -> Response:
        prefix: str = request.scope.get("root_path", "")
        if prefix not in self._documents:
            if len(self._documents) >= _DOCUMENTS_MAX:  # of one who asks under made up ones
                self._documents.clear()
            found = describe_http(self.app, prefix=prefix, has_tokens=self.tokens is not None)
            self._documents[prefix] = encode(found)
        return Response(self._documents[prefix], 200, {"Cache-Control": "no-cache"}, _JSON)

    async def _try(self, request: Request, send: Send) -> Response:
        return Response(PAGE, 200, PAGE_HEADERS, "text/html")

    # Inside.

    def _written(self, query: type[Any], answer: Any) -> bytes:
        try:
            return encode(answer)
        except Exception as error:
            view = self.app.views[self.app.queries[query].view]
            problem = f"its answer can't be written as JSON: {error}"
            raise AnswerFailed(view.__name__, query.__name__, problem) from error

    def _failed(self, error: BaseException) -> None:
        """A request failed; worth a line if it was not raised on purpose."""
        if not is_meant(error):
            self.observer.request_failed(error=error)


class _Endpoint:
    """One address: who may use it, and what becomes of an error.

    Args:
        web: whose it is.
        path: the address, as in `ADDRESSES`.
        method: that of the protocol which a caller must be allowed to call; None: every caller may.
        handle: what it does.
    """

    def __init__(self, web: WebApp, path: str, method: str | None, handle: _Handler) -> None:
        self._web = web
        self._path = path
        self._method = method
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        meter = self._web.meter
        if meter is None:
            await self._respond(scope, receive, send)
            return
        noted = Noted(meter, scope["method"], self._path, send)
        try:
            await self._respond(scope, receive, noted)
        finally:
            noted.ended()

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            role = None if self._method is None else self._web.require(request, self._method)
            with calling_as(role, request.headers.get("traceparent")):
                response = await self._handle(request, send)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 - sent to the caller
            if not isinstance(error, HTTPException):
                self._web._failed(error)
            response = problem_response(error)
        if response is not None:
            await response(scope, receive, send)


async def _file(name: str, request: Request, send: Send) -> Response:
    return console_response(name)


def _require_get(request: Request) -> None:
    if request.method != "GET":
        raise HTTPException(405, "a stream has no answer but itself", {"Allow": "GET"})


def _cors(origins: Sequence[str]) -> Middleware:
    return Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=[*(header.name for header in ANSWER_HEADERS), "Retry-After"],
    )
