"""Where a server listens: sockets bound, TLS, and the rule that nothing listens to strangers by accident."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from millstream.engine.errors import DefinitionError
from millstream.engine.wire.address import Address

__all__ = ["FileTls", "Listener", "TlsFiles", "listen", "tls_context"]

#: Connections that may wait to be accepted.
_BACKLOG = 1_024

#: Who vanished without a word is noticed after this many seconds of silence and as many probes, so many seconds apart.
_KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))


class TlsFiles(NamedTuple):
    """What `tls_context` was made of, so that another process can make the same."""

    certificate: str
    key: str | None
    clients: str | None


class FileTls(ssl.SSLContext):
    """A context that knows its files."""

    files: TlsFiles


def tls_context(
    certificate: str | Path, key: str | Path | None = None, clients: str | Path | None = None
) -> ssl.SSLContext:
    """The server's side of TLS, version 1.2 or later.

    Args:
        certificate: PEM file with the server's certificate, and the chain to its authority.
        key: PEM file with its key, where that is not in the same file.
        clients: PEM file with the authorities whose client certificates are accepted; a client then needs one.

    Raises:
        DefinitionError: a file can't be read, or does not hold what it should.
    """
    context = FileTls(ssl.PROTOCOL_TLS_SERVER)
    more = [None if each is None else os.path.abspath(each) for each in (key, clients)]
    context.files = TlsFiles(os.path.abspath(certificate), *more)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, _no_password)
        if clients is not None:
            context.load_verify_locations(clients)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:
        raise DefinitionError(f"TLS can't be set up with {str(certificate)!r}: {error}") from error
    return context


class Listener:
    """The sockets that are bound for one address.

    Args:
        address: with the port that it got.
        sockets: bound and listening.
        tls: what connections are wrapped in.
    """

    def __init__(self, address: Address, sockets: list[socket.socket], tls: ssl.SSLContext | None) -> None:
        self.address = address
        self.sockets = sockets
        self.tls = tls
        #: Whatever folder the program changes to.
        self._path = os.path.abspath(address.path)
        self._file = _identity(self._path) if address.kind == "unix" else None

    def close(self) -> None:
        """Listen no more. A Unix socket's file goes with it, unless another process has put another one there."""
        for each in self.sockets:
            each.close()
        if self._file is not None and _identity(self._path) == self._file:
            with suppress(OSError):
                os.unlink(self._path)


async def listen(
    address: Address, *, has_tokens: bool, tls: ssl.SSLContext | None, unix_mode: int, insecure: bool
) -> Listener:
    """Listen at an address, if that is safe: at one that other machines reach, tokens and TLS are needed.

    Raises:
        DefinitionError: it is not safe and ``insecure`` was not said; or it is in use, or can't be bound.
    """
    if address.kind == "tls" and tls is None:
        raise DefinitionError(f"{address} wants TLS: give a certificate", "Server")
    try:
        if address.kind == "unix":
            return Listener(address, [_unix_socket(address.path, unix_mode)], None)
        places = await _places(address)
        if not insecure:
            _require_safe(address, [place[0] for _, place in places], has_tokens=has_tokens)
        sockets = _tcp_sockets(places)
    except OSError as error:
        raise DefinitionError(f"{address} can't be listened on: {error.strerror or error}", "Server") from error
    bound = address._replace(port=sockets[0].getsockname()[1])
    return Listener(bound, sockets, tls if address.kind == "tls" else None)


def _require_safe(address: Address, hosts: list[Any], *, has_tokens: bool) -> None:
    """Refuse to listen to other machines without knowing who is there, and in clear text."""
    if all(ipaddress.ip_address(host.partition("%")[0]).is_loopback for host in hosts):
        return
    missing = [name for name, there in (("tokens", has_tokens), ("TLS", address.kind == "tls")) if not there]
    if missing:
        raise DefinitionError(
            f"{address} can be reached from other machines and has no {' and no '.join(missing)}: give them, listen on "
            "127.0.0.1, or say insecure=True",
            "Server",
        )


async def _places(address: Address) -> list[tuple[int, Any]]:
    """What a host's name stands for: pairs of an address family and a socket address of it."""
    found = await asyncio.get_running_loop().getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys((int(family), place) for family, _, _, _, place in found))


def _tcp_sockets(places: list[tuple[int, Any]]) -> list[socket.socket]:
    """A socket for each place that this machine has; where the first one's port was free to choose, the others take the
    same.
    """
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, (host, port, *more) in places:
            try:
                sockets.append(_tcp_socket(family, (host, port or _port_of(sockets), *more)))
            except OSError as error:
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
                missing = error
        if missing is not None and not sockets:
            raise missing
    except BaseException:
        for each in sockets:
            each.close()
        raise
    return sockets


def _port_of(sockets: list[socket.socket]) -> int:
    return int(sockets[0].getsockname()[1]) if sockets else 0


def _tcp_socket(family: int, place: Any) -> socket.socket:
    # By its name: only then does asyncio see that what it accepts is TCP, and has small replies sent at once.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # those that it accepts have it from here
        for option, value in _KEEPALIVE:
            if hasattr(socket, option):
                bound.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        return _listening(bound, place)
    except BaseException:
        bound.close()
        raise


def _unix_socket(path: str, mode: int) -> socket.socket:
    """A socket at that path, which only those may use whom ``mode`` allows. What a dead server left is replaced."""
    if not hasattr(socket, "AF_UNIX"):
        raise OSError("this system has no Unix sockets")
    if os.path.lexists(path):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError("it is there already, and no socket")
        if _is_served(path):
            raise OSError("another server listens there")
        os.unlink(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~mode)  # from its first moment on, not a moment later
    try:
        return _listening(bound, path)
    except BaseException:
        bound.close()
        raise
    finally:
        os.umask(before)


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except BlockingIOError:  # so many wait already
            return True
        return True


def _listening(bound: socket.socket, place: Any) -> socket.socket:
    bound.setblocking(False)
    bound.bind(place)
    bound.listen(_BACKLOG)
    return bound


def _identity(path: str) -> tuple[int, int] | None:
    """Which file it is, whatever its name."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _no_password() -> str:
    """Instead of asking on the terminal."""
    return ""
