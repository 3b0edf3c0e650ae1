"""How commands reach a server: the options that say where it is and who calls, and a link for as long as one runs."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from ssl import SSLContext
from typing import Annotated, NamedTuple, TypeAlias, TypeVar

import anyio
import typer

from millstream.engine.cli.output import log_to_stderr
from millstream.engine.client import Link, client_tls
from millstream.engine.errors import DefinitionError

__all__ = ["AddressOption", "Caller", "TimeoutOption", "options_judged", "with_link"]

_PANEL = "The server"

AddressOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--address",
        "-a",
        metavar="ADDRESS",
        envvar="MILLSTREAM_ADDRESS",
        help="tcp://HOST:PORT, tls://HOST:PORT or unix://PATH.",
        rich_help_panel=_PANEL,
    ),
]
TimeoutOption: TypeAlias = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", min=0, help="Give up after so many seconds.", show_default=False),
]

T = TypeVar("T")


class Caller(NamedTuple):
    """Who calls, and whom it trusts: what the options say."""

    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A file that holds the token. Or set MILLSTREAM_TOKEN to it.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None
    authorities: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Who may have signed the certificate of a tls:// server, PEM; by default those that the system "
            "trusts.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None
    certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The client's own certificate, where the server wants one, PEM.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None
    private_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its key, if in another file.", show_default=False, rich_help_panel=_PANEL),
    ] = None

    @property
    def token(self) -> str | None:
        """The token, from its file or from MILLSTREAM_TOKEN.

        Raises:
            DefinitionError: the file can't be read.
        """
        if self.token_file is None:
            return os.environ.get("MILLSTREAM_TOKEN") or None
        try:
            return self.token_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise DefinitionError(f"the token can't be read from {str(self.token_file)!r}: {error}") from error

    @property
    def tls(self) -> SSLContext | None:
        """What the options say about TLS; None for what is usual.

        Raises:
            DefinitionError: a file can't be read, or does not hold what it should.
        """
        if self.authorities is None and self.certificate is None:
            return None
        return client_tls(self.authorities, self.certificate, self.private_key)


@contextmanager
def options_judged() -> Iterator[None]:
    """What contradicts itself in here is what the user wrote, and no application: a wrong argument."""
    try:
        yield
    except DefinitionError as error:
        raise typer.BadParameter(str(error)) from error


def with_link(address: str, caller: Caller, work: Callable[[Link], Awaitable[T]]) -> T:
    """Run ``work`` with a link to the server at an address.

    Raises:
        ConnectionLost: no server is there.
        NotAuthenticated: the server does not know the token.
        BadParameter: the options contradict themselves.
    """
    log_to_stderr("warning")

    async def run() -> T:
        async with Link(address, token=caller.token, tls=caller.tls) as link:
            return await work(link)

    with options_judged():
        return anyio.run(run)
