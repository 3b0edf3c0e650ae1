"""One attempt to reach an address: a socket, and TLS on it where the address says so."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from millstream.engine.errors import DefinitionError
from millstream.engine.wire.address import Address

__all__ = ["client_tls", "dial", "settled", "text_of"]

#: What all systems take (https://man7.org/linux/man-pages/man7/unix.7.html); macOS has the least.
_UNIX_PATH_BYTES_MAX = 103

Made = TypeVar("Made", bound=asyncio.Protocol)


def client_tls(
    authorities: str | Path | None = None, certificate: str | Path | None = None, key: str | Path | None = None
) -> ssl.SSLContext:
    """The client's side of TLS, version 1.2 or later. The server's certificate is always checked, its name included.

    Args:
        authorities: PEM file with the authorities that are trusted; those of the system by default.
        certificate: PEM file with the client's own certificate, where the server wants one.
        key: PEM file with its key, where that is not in the same file.

    Raises:
        DefinitionError: a file can't be read, or does not hold what it should.
    """
    try:
        context = ssl.create_default_context(cafile=authorities)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise DefinitionError(f"TLS can't be set up with {str(certificate or authorities)!r}: {error}") from error
    return context


def settled(address: Address) -> Address:
    """The address, and for a Unix socket the file that its path leads to now, whatever folder the program changes to.

    A path that systems don't take as an absolute one, because it is too long, stays as it is.
    """
    path = os.path.abspath(address.path)
    is_short = len(os.fsencode(path)) <= _UNIX_PATH_BYTES_MAX
    return address._replace(path=path) if address.kind == "unix" and is_short else address


async def dial(address: Address, make: Callable[[], Made], tls: ssl.SSLContext | None) -> Made:
    """Connect; returns what ``make`` made, connected.

    Args:
        address: where to.
        make: makes the protocol.
        tls: for ``tls://``.

    Raises:
        OSError: no server is there, or TLS failed.
    """
    loop = asyncio.get_running_loop()
    if address.kind == "unix":
        _, protocol = await loop.create_unix_connection(make, address.path)
        return protocol
    _, protocol = await loop.create_connection(make, address.host, address.port, ssl=tls)
    return protocol


def text_of(error: BaseException) -> str:
    """An error of the operating system in words, without its number."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
