"""``penstock serve`` and ``penstock replica``: processes that run an application behind sockets until they are stopped.

Here: from arguments to an `Engine` or a `Replica` with a `Server`, and the signals that end them. Nothing else is here.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from ssl import SSLContext
from typing import Annotated, TypeAlias

import anyio
import typer
from msgspec.structs import replace

from penstock.engine.cli.arguments import AppArgument
from penstock.engine.cli.load import load_app
from penstock.engine.cli.output import log_to_stderr
from penstock.engine.cli.reaching import Server as Writer
from penstock.engine.cli.reaching import options_judged
from penstock.engine.client import Client
from penstock.engine.engine import Engine
from penstock.engine.replica import Replica
from penstock.engine.server import Server, ServerLimits, Tokens, tls_context
from penstock.engine.server.backend import Backend
from penstock.engine.wire.address import DEFAULT_ADDRESS

__all__ = ["replica", "serve"]

_SERVING = "Where it listens"
_SAFETY = "Who may come in"
_WRITER = "The writer"

_CONNECTIONS_MAX = ServerLimits().connections_max

_Listen = Annotated[
    list[str] | None,
    typer.Option(
        "--listen",
        metavar="ADDRESS",
        envvar="PENSTOCK_ADDRESS",
        help=f"tcp://HOST:PORT, tls://HOST:PORT or unix://PATH; any number of them. [default: {DEFAULT_ADDRESS}]",
        show_default=False,
        rich_help_panel=_SERVING,
    ),
]
_Log = Annotated[
    str | None,
    typer.Option(
        "--log",
        metavar="LOG",
        help="Where commits are kept: a path, or memory:. [default: NAME.db, by the application's name]",
        show_default=False,
    ),
]
_TokensFile = Annotated[
    Path | None,
    typer.Option(
        "--tokens",
        metavar="FILE",
        help="A file with a line reader:TOKEN or writer:TOKEN for each token. Or set PENSTOCK_TOKENS to them, apart by "
        "spaces. Without any, whoever can connect may do everything.",
        show_default=False,
        rich_help_panel=_SAFETY,
    ),
]
_Certificate = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The certificate for tls://, PEM.", show_default=False, rich_help_panel=_SAFETY),
]
_PrivateKey = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Its key, if in another file.", show_default=False, rich_help_panel=_SAFETY),
]
_ClientAuthorities = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Clients need a certificate of one of these authorities, PEM.",
        show_default=False,
        rich_help_panel=_SAFETY,
    ),
]
_Mode = Annotated[
    str,
    typer.Option(metavar="OCTAL", help="Permissions of a Unix socket.", rich_help_panel=_SAFETY),
]
_Insecure = Annotated[
    bool,
    typer.Option("--insecure", help="Listen to other machines even without tokens or TLS.", rich_help_panel=_SAFETY),
]
_ConnectionsMax = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="Connections at once.", rich_help_panel=_SERVING),
]

_Serving: TypeAlias = Callable[[Backend], Server]


def serve(
    app: AppArgument,
    log: _Log = None,
    listen: _Listen = None,
    tokens: _TokensFile = None,
    certificate: _Certificate = None,
    private_key: _PrivateKey = None,
    client_authorities: _ClientAuthorities = None,
    unix_mode: _Mode = "600",
    insecure: _Insecure = False,
    connections_max: _ConnectionsMax = _CONNECTIONS_MAX,
) -> None:
    """Run an application, and serve it to whoever may connect.

    It is the log's one writer. SIGINT and SIGTERM end it in good order: what was taken is answered first.
    """
    loaded = load_app(app)
    server = _server(listen, tokens, certificate, private_key, client_authorities, unix_mode, insecure, connections_max)

    async def run(stack: AsyncExitStack) -> None:
        engine = Engine(loaded, log=log or f"{loaded.name}.db", freeze_gc=True)
        await stack.enter_async_context(server(await stack.enter_async_context(engine)))

    _run(run)


def replica(
    app: AppArgument,
    log: _Log = None,
    listen: _Listen = None,
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
            help="A file that holds the token for the writer. Or set PENSTOCK_TOKEN to it.",
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
    tokens: _TokensFile = None,
    certificate: _Certificate = None,
    private_key: _PrivateKey = None,
    client_authorities: _ClientAuthorities = None,
    unix_mode: _Mode = "600",
    insecure: _Insecure = False,
    connections_max: _ConnectionsMax = _CONNECTIONS_MAX,
) -> None:
    """Follow the log of an application that runs elsewhere, and answer its queries.

    The log is only read. Start as many as there are cores.
    """
    loaded = load_app(app)
    server = _server(listen, tokens, certificate, private_key, client_authorities, unix_mode, insecure, connections_max)

    async def run(stack: AsyncExitStack) -> None:
        client: Client | None = None
        if writer is not None:
            reached = Writer(writer, writer_token, writer_authorities)
            client = await stack.enter_async_context(Client(writer, token=reached.token, tls=reached.tls, eager=False))
        follower = Replica(loaded, log=log or f"{loaded.name}.db", writer=client)
        await stack.enter_async_context(server(await stack.enter_async_context(follower)))

    _run(run)


def _server(
    listen: list[str] | None,
    tokens: Path | None,
    certificate: Path | None,
    private_key: Path | None,
    client_authorities: Path | None,
    unix_mode: str,
    insecure: bool,
    connections_max: int,
) -> _Serving:
    """What makes the server as the arguments say; whatever is wrong with these is found now."""
    try:
        mode = int(unix_mode, 8)
    except ValueError:
        raise typer.BadParameter(f"permissions are octal, like 660, not {unix_mode!r}") from None
    tls: SSLContext | None = None
    if certificate is None and not (private_key is None and client_authorities is None):
        raise typer.BadParameter("--private-key and --client-authorities go with --certificate")
    with options_judged():
        if certificate is not None:
            tls = tls_context(certificate, private_key, client_authorities)
        known = Tokens.from_environment() if tokens is None else Tokens.from_file(tokens)
    limits = replace(ServerLimits(), connections_max=connections_max)

    def server(backend: Backend) -> Server:
        return Server(
            backend,
            listen=listen or [DEFAULT_ADDRESS],
            tokens=known,
            tls=tls,
            unix_mode=mode,
            insecure=insecure,
            limits=limits,
        )

    return server


def _run(enter: Callable[[AsyncExitStack], Awaitable[None]]) -> None:
    """Enter everything, wait for a signal, and leave in order."""
    log_to_stderr("info")

    async def run() -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with AsyncExitStack() as stack:
                await enter(stack)
                async for _ in signals:
                    return

    with options_judged():
        anyio.run(run, backend_options={"use_uvloop": find_spec("uvloop") is not None})
