"""The process that takes snapshots for an engine: one order, and then it ends.

It is crash-safe by what it does: killed at any moment, it leaves the snapshots before it. So it ends as soon as its
standard input does, because its parent is gone then.
"""

from __future__ import annotations

import os
import signal
import sys
from threading import Thread
from typing import NoReturn

import anyio
import msgspec

from millstream.engine.errors import MillstreamError
from millstream.engine.errors.said import message_of
from millstream.engine.limits import Limits
from millstream.engine.recovery.orders import END, Ended, Order, Recorder
from millstream.engine.recovery.taking import take_attached
from millstream.engine.stores.address import log_at

__all__ = ["main"]

_ORPHANED = 3
#: The file descriptors of the streams.
_INPUT, _OUTPUT = 0, 1
#: The process that answers callers goes first where they share a core.
_NICENESS = 10


def main(line: bytes) -> NoReturn:
    """Do what an order says, write what came of it as the last line of the standard output, and exit.

    Exit code 1 if it failed: its last line says of what. Whatever else is raised is a traceback.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for its parent, which ends it
    Thread(target=_end_with_input, name="millstream-input", daemon=True).start()
    if hasattr(os, "nice"):  # not on Windows
        os.nice(_NICENESS)
    recorder = Recorder()
    try:
        ended = anyio.run(_done, Order.of(line), recorder)
    except MillstreamError as error:
        ended = Ended(problem=message_of(error), told=tuple(recorder.told))
    for stream in (sys.__stdout__, sys.__stderr__):  # the application may have put others in their place
        if stream is not None:
            stream.flush()
    with open(_OUTPUT, "wb", closefd=False) as output:
        output.write(END + msgspec.json.encode(ended))
    os._exit(0 if ended.problem is None else 1)  # to free a million objects takes a second


async def _done(order: Order, recorder: Recorder) -> Ended:
    app = order.app.load()
    taken = await take_attached(
        log_at(order.log), app, Limits(**order.limits), recorder, log_id=order.log_id, without=order.without
    )
    return Ended(taken=taken, told=tuple(recorder.told))


def _end_with_input() -> None:
    while os.read(_INPUT, 1024):
        pass
    os._exit(_ORPHANED)
