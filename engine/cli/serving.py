"""``millstream serve`` and ``millstream replica``: processes that run an application behind sockets, and HTTP.

Here: from arguments to an `Engine` or a `Replica` with a `Server`, and the signals that end them. Nothing else is here.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from ssl import SSLContext
from typing import Annotated, Any, NamedTuple

import anyio
import typer
from msgspec.structs import replace

from millstream.engine.cli.arguments import AppArgument
from millstream.engine.cli.connection_options import Caller, options_judged
from millstream.engine.cli.load import load_app
from millstream.engine.cli.option_groups import grouped
from millstream.engine.cli.output import log_to_stderr
from millstream.engine.cli.watching import Watching
from millstream.engine.client import Client
from millstream.engine.engine import Engine
from millstream.engine.errors import CommitsLost, DefinitionError, Fenced
from millstream.engine.observers import Observer
from millstream.engine.replica import Replica
from millstream.engine.server import Server, ServerLimits, Tokens, roles_from, tls_context
from millstream.engine.server.backend import Backend
from millstream.engine.wire.address import DEFAULT_ADDRESS, parse_address

__all__ = ["replica", "serve"]

_SERVING = "Where it listens"
_SAFETY = "Who may come in"
_WRITER = "The writer"
#: Hosts that a server listens at, and no client reaches by that name.
_EVERYWHERE = ("0.0.0.0", "::", "*")

_Log = Annotated[
    str | None,
    typer.Option(
        "--log",
        metavar="LOG",
        envvar="MILLSTREAM_LOG",
        help="Where commits are kept: a path, postgresql://HOST/DATABASE?schema=NAME, or memory:.",
        show_default="NAME.db, by the application's name",
    ),
]


class _Entrance(NamedTuple):
    """Where a server listens, and who may come in: what the options say."""

    listen: Annotated[
        list[str] | None,
        typer.Option(
            "--listen",
            metavar="ADDRESS",
            envvar="MILLSTREAM_ADDRESS",
            help="tcp://HOST:PORT, tls://HOST:PORT or unix://PATH; any number of them.",
            show_default=DEFAULT_ADDRESS,
            rich_help_panel=_SERVING,
        ),
    ] = None
    tokens: Annotated[
        Path | None,
        typer.Option(
            "--tokens",
            metavar="FILE",
            help="A file with a line reader:TOKEN or writer:TOKEN for each token. Or set MILLSTREAM_TOKENS to them, "
            "apart by spaces. Without any, every caller that can connect may do everything.",
            show_default=False,
            rich_help_panel=_SAFETY,
        ),
    ] = None
    roles: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A TOML file with more roles than reader and writer, and the messages that each may send.",
            show_default=False,
            rich_help_panel=_SAFETY,
        ),
    ] = None
    certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The certificate for tls://, PEM.", show_default=False, rich_help_panel=_SAFETY
        ),
    ] = None
    private_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its key, if in another file.", show_default=False, rich_help_panel=_SAFETY),
    ] = None
    client_authorities: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Clients need a certificate of one of these authorities, PEM.",
            show_default=False,
            rich_help_panel=_SAFETY,
        ),
    ] = None
    unix_mode: Annotated[
        str,
        typer.Option(metavar="OCTAL", help="Permissions of a Unix socket.", rich_help_panel=_SAFETY),
    ] = "600"
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", help="Listen to other machines even without tokens or TLS.", rich_help_panel=_SAFETY
        ),
    ] = False
    connections_max: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Connections at once.", rich_help_panel=_SERVING),
    ] = ServerLimits().connections_max
    fronts: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Processes that take the connections and check what is sent, for a machine with cores to spare.",
            rich_help_panel=_SERVING,
        ),
    ] = 0

    http: Annotated[
        list[str] | None,
        typer.Option(
            "--http",
            metavar="ADDRESS",
            help="HOST:PORT, https://HOST:PORT or unix://PATH, for HTTP, beside the others; any number of them. Needs "
            "the extra millstream[web].",
            show_default=False,
            rich_help_panel=_SERVING,
        ),
    ] = None
    http_host: Annotated[
        list[str] | None,
        typer.Option(
            "--http-host",
            metavar="NAME",
            help="A name under which HTTP is asked for, where no tokens are wanted; any number of them.",
            show_default="those of this machine alone",
            rich_help_panel=_SAFETY,
        ),
    ] = None
    http_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--http-origin",
            metavar="URL",
            help="A site whose pages may use HTTP from a browser, as in https://shop.example; any number of them.",
            show_default=False,
            rich_help_panel=_SAFETY,
        ),
    ] = None

    metrics: Annotated[
        bool,
        typer.Option(
            "--metrics",
            help="Count what happens, for Prometheus: /metrics at each --http. Needs the extra millstream[telemetry].",
            rich_help_panel=_SERVING,
        ),
    ] = False
    spans: Annotated[
        bool,
        typer.Option(
            "--spans",
            help="Make spans for OpenTelemetry, as the process is set up for: see opentelemetry-instrument. Needs the "
            "extra millstream[telemetry].",
            rich_help_panel=_SERVING,
        ),
    ] = False

    @property
    def telemetry(self) -> Watching:
        """What is observed, and is put around callers."""
        if not (self.metrics or self.spans):
            return Watching()
        if any(find_spec(name) is None for name in ("prometheus_client", "opentelemetry")):
            raise typer.BadParameter("--metrics and --spans need the extra millstream[telemetry]")
        if self.metrics and not self.http:
            raise typer.BadParameter("--metrics goes with --http: it is where they are asked for")
        from millstream.engine.telemetry import Measured, Metrics, Spans, Traced  # noqa: PLC0415

        metrics = Metrics() if self.metrics else None
        return Watching(
            metrics,
            [*([] if metrics is None else [metrics]), *([Spans()] if self.spans else [])],
            [*([Traced()] if self.spans else []), *([] if metrics is None else [Measured(metrics)])],
        )

    def servers(self, watching: Watching) -> Callable[[Backend], list[AbstractAsyncContextManager[Any]]]:
        """What makes the servers; whatever is wrong with the options is found now."""
        try:
            mode = int(self.unix_mode, 8)
        except ValueError:
            raise typer.BadParameter(f"permissions are octal, like 660, not {self.unix_mode!r}") from None
        tls: SSLContext | None = None
        if self.certificate is None and not (self.private_key is None and self.client_authorities is None):
            raise typer.BadParameter("--private-key and --client-authorities go with --certificate")
        with options_judged():
            if self.certificate is not None:
                tls = tls_context(self.certificate, self.private_key, self.client_authorities)
            roles = None if self.roles is None else roles_from(self.roles)
            if self.tokens is None:
                known = Tokens.from_environment(roles=roles)
            else:
                known = Tokens.from_file(self.tokens, roles=roles)
            if roles is not None and known is None:
                raise DefinitionError("--roles go with tokens: they say who has them")
        server = partial(
            Server,
            listen=self.listen or [DEFAULT_ADDRESS],
            tokens=known,
            tls=tls,
            unix_mode=mode,
            insecure=self.insecure,
            limits=replace(ServerLimits(), connections_max=self.connections_max),
            fronts=self.fronts,
        )
        web = self._web(known, tls, mode, watching) if self.http else None

        def around(backend: Backend) -> list[AbstractAsyncContextManager[Any]]:
            edge = watching.around(backend)
            return [server(edge), *([] if web is None else [web(edge)])]

        return around

    def _web(
        self, tokens: Tokens | None, tls: SSLContext | None, mode: int, watching: Watching
    ) -> Callable[[Backend], AbstractAsyncContextManager[Any]]:
        if any(find_spec(name) is None for name in ("starlette", "uvicorn")):
            raise typer.BadParameter("--http needs the extra millstream[web]")
        from millstream.engine.web import WebApp, WebLimits, WebServer  # noqa: PLC0415 - who has none loads nothing of it
        from millstream.engine.web.addresses import parse_http  # noqa: PLC0415

        listen = self.http or []
        with options_judged():
            for each in listen:
                parse_http(each)

        def server(backend: Backend) -> WebServer:
            limits = WebLimits(connections_max=self.connections_max)
            web = WebApp(
                backend.app,
                backend,
                tokens=tokens,
                origins=self.http_origin or (),
                limits=limits,
                meter=watching.metrics,
            )
            return WebServer(
                web, listen=listen, tls=tls, unix_mode=mode, insecure=self.insecure, hosts=self.http_host or ()
            )

        return server


@grouped
def serve(
    app: AppArgument,
    *,
    log: _Log = None,
    entrance: _Entrance,
    effects: Annotated[
        bool,
        typer.Option(
            "--effects/--no-effects",
            help="Whether to do to the outside world what the application owes; else it stays owed.",
            rich_help_panel=_WRITER,
        ),
    ] = True,
    wait_for_lock: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="How long to wait for another writer to close the log, as in a rolling deployment.",
            rich_help_panel=_WRITER,
        ),
    ] = 0.0,
    standby: Annotated[
        bool,
        typer.Option(
            "--standby",
            help="Where another process writes the log, follow it, answer, and take over when that one is gone.",
            rich_help_panel=_WRITER,
        ),
    ] = False,
    advertise: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Where clients reach this process, as others tell them.",
            show_default="the first address that it listens at, if that names a host",
            rich_help_panel=_WRITER,
        ),
    ] = None,
) -> None:
    """Run an application, and serve it to callers elsewhere.

    It is the log's one writer. SIGINT and SIGTERM end it in good order: what was taken is answered first. With
    --standby, a writer that loses the log to another one ends with exit code 4, to be started again.
    """
    loaded = load_app(app)
    watching = entrance.telemetry
    servers = entrance.servers(watching)
    lost = _Lost()
    with options_judged():
        address = _advertised(advertise, entrance.listen)

    async def run(stack: AsyncExitStack) -> None:
        engine = Engine(
            loaded,
            log=log or f"{loaded.name}.db",
            freeze_gc=True,
            effects=None if effects else False,
            wait_for_lock_seconds=wait_for_lock,
            address=address,
            standby=standby,
            observers=[*watching.observers, *([lost] if standby else [])],
        )
        for server in servers(await stack.enter_async_context(engine)):
            await stack.enter_async_context(server)

    _run(run, lost)


class _Lost(Observer):
    """Notes that the writer has stopped: the log is another's, has lost commits, or could not be taken over."""

    def __init__(self) -> None:
        self.happened = anyio.Event()
        self.error: BaseException | None = None

    def fenced(self, *, log: str, commit: int, head: int) -> None:
        self._note(Fenced(log, commit, head))

    def commits_lost(self, *, log: str, commit: int, head: int) -> None:
        self._note(CommitsLost(log, commit, head))

    def writer_stopped(self, *, log: str, commit: int, error: BaseException) -> None:
        self._note(error)

    def _note(self, error: BaseException) -> None:
        self.error = self.error or error
        self.happened.set()


def _advertised(advertise: str | None, listen: list[str] | None) -> str | None:
    """The address that clients are sent to."""
    if advertise is not None:
        return str(parse_address(advertise))
    first = parse_address((listen or [DEFAULT_ADDRESS])[0])
    return None if first.host in _EVERYWHERE else str(first)


@grouped
def replica(
    app: AppArgument,
    *,
    log: _Log = None,
    entrance: _Entrance,
    writer: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Where the writer listens: commands are sent on to it. Without it they are refused.",
            show_default=False,
            rich_help_panel=_WRITER,
        ),
    ] = None,
    writer_token: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A file that holds the token for the writer. Or set MILLSTREAM_TOKEN to it.",
            show_default=False,
            rich_help_panel=_WRITER,
        ),
    ] = None,
    writer_authorities: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The authorities of a tls:// writer, PEM.",
            show_default=False,
            rich_help_panel=_WRITER,
        ),
    ] = None,
) -> None:
    """Follow the log of an application that runs elsewhere, and answer its queries.

    The log is only read. Start as many as there are cores.
    """
    loaded = load_app(app)
    watching = entrance.telemetry
    servers = entrance.servers(watching)

    async def run(stack: AsyncExitStack) -> None:
        client: Client | None = None
        if writer is not None:
            caller = Caller(writer_token, writer_authorities)
            client = await stack.enter_async_context(Client(writer, token=caller.token, tls=caller.tls, eager=False))
        follower = Replica(loaded, log=log or f"{loaded.name}.db", writer=client, observers=watching.observers)
        for server in servers(await stack.enter_async_context(follower)):
            await stack.enter_async_context(server)

    _run(run)


def _run(enter: Callable[[AsyncExitStack], Awaitable[None]], lost: _Lost | None = None) -> None:
    """Enter everything, wait for a signal, or until the log is lost, and leave in order."""
    log_to_stderr("info")

    async def run() -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with AsyncExitStack() as stack:
                await enter(stack)
                async with anyio.create_task_group() as waiting:
                    if lost is not None:
                        waiting.start_soon(_cancel_after, lost.happened, waiting.cancel_scope)
                    async for _ in signals:
                        break
                    waiting.cancel_scope.cancel()
        if lost is not None and lost.error is not None:
            raise lost.error

    with options_judged():
        anyio.run(run, backend_options={"use_uvloop": find_spec("uvloop") is not None})


async def _cancel_after(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
