"""The process of a front: one order, and then it serves until the writer's process says to stop, or is gone.

Signals that are meant for a whole group of processes are meant for the writer's process, which ends its fronts in good
order. A front whose stream ends is an orphan, and ends at once.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import ssl
import traceback
from contextlib import suppress
from importlib.util import find_spec
from typing import NoReturn

import anyio

from millstream.engine.errors import MillstreamError
from millstream.engine.errors.said import message_of
from millstream.engine.server.fronts.frames import NOTES, frame
from millstream.engine.server.fronts.front import Front
from millstream.engine.server.fronts.notes import Unready, write_notes
from millstream.engine.server.fronts.order import Listening, Order
from millstream.engine.server.listening import Listener, tls_context
from millstream.engine.server.tokens import Tokens
from millstream.engine.wire import parse_address

__all__ = ["front_of", "main"]

_ORPHANED = 3


def main(line: bytes) -> NoReturn:
    """Do what an order says, and exit: 0 if it was asked to stop, 1 if it could not begin, 3 if it is an orphan."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    order = Order.of(line)
    stream = socket.socket(fileno=order.stream)
    try:
        front = front_of(order)
    except BaseException as error:  # noqa: BLE001 - what importing an application raises is reported, and is the end
        said = message_of(error) if isinstance(error, MillstreamError) else traceback.format_exc()
        with suppress(OSError):
            stream.setblocking(True)
            stream.sendall(frame(NOTES, write_notes([Unready(said)])))
        os._exit(1)
    gc.collect()
    gc.freeze()
    uvloop = {"use_uvloop": find_spec("uvloop") is not None}
    was_told = anyio.run(front.serve, stream, backend_options=uvloop)
    os._exit(0 if was_told else _ORPHANED)


def front_of(order: Order) -> Front:
    """What an order says.

    Raises:
        Exception: whatever importing the application raises.
        DefinitionError: the certificate, or another file of TLS, can't be read any more.
    """
    tls = None if order.tls is None else tls_context(*order.tls)
    tokens = None if order.tokens is None else Tokens.of_digests(order.tokens, order.roles)
    listeners = [_listener(each, tls) for each in order.listening]
    return Front(order.app.load(), tokens, order.server_limits, listeners)


def _listener(listening: Listening, tls: ssl.SSLContext | None) -> Listener:
    """A socket of the writer's process; whose file it is, is its business."""
    address = parse_address(listening.address)
    found = socket.socket(fileno=listening.descriptor)
    if address.kind != "unix":
        # By its name: only then does asyncio see that what it accepts is TCP, and has small replies sent at once.
        found = socket.socket(found.family, found.type, socket.IPPROTO_TCP, fileno=found.detach())
    found.setblocking(False)
    return Listener(address._replace(kind="tcp", path=""), [found], tls if address.kind == "tls" else None)
