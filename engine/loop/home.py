"""Where something is at home: the event loop that it was opened on, with its thread and its process.

Here: noticing that it is used elsewhere, before anything of it is touched. Not here: the ways in from elsewhere, which
are asyncio's and anyio's own.
"""

from __future__ import annotations

import atexit
import os
from asyncio import AbstractEventLoop, Future, get_running_loop
from collections.abc import Callable
from functools import partial
from threading import current_thread, get_ident
from typing import Any
from warnings import warn
from weakref import WeakSet

from millstream.engine.errors import WrongLoop

__all__ = ["Home", "promises_of"]


def _never() -> bool:
    return False


class Home:
    """The home of one thing; none until `settle`.

    A thing that is collected before it was closed, or is open when the program ends, is named by a ResourceWarning.

    Code that can't afford a call of `require` compares `thread` with ``threading.get_ident()``, 50 ns, and asks whether
    the loop `runs`, 30 to 60 ns: one loop runs in a thread at a time. To ask which one that is costs a system call.

    Args:
        what: what errors call the thing.
    """

    __slots__ = ("__weakref__", "_loop", "_thread_name", "is_forked", "runs", "thread", "what")

    def __init__(self, what: str) -> None:
        self.what = what
        #: The process is a child of the one in which the thing was opened, and has none of its threads.
        self.is_forked = False
        self.leave()

    def __del__(self) -> None:
        self._warn()

    def settle(self) -> None:
        """The running loop is its home from now on."""
        self._loop: AbstractEventLoop | None = get_running_loop()
        self._thread_name = current_thread().name
        self.thread: int | None = get_ident()
        self.runs: Callable[[], bool] = self._loop.is_running
        _settled.add(self)

    def leave(self) -> None:
        """It is over: a caller that uses the thing gets the error that it is not open, in every thread."""
        self._loop, self._thread_name, self.thread, self.runs = None, "", None, _never

    def require(self) -> None:
        """See that this is its home, if it has one.

        Raises:
            WrongLoop: it is another loop, thread or process.
        """
        if (get_ident() == self.thread and self.runs()) or self._loop is None:
            return
        raise WrongLoop(self.what, self._there(self._loop), self._here())

    def _warn(self) -> None:
        if self._loop is not None and not self.is_forked:
            problem = f"{self.what} was never closed: use it inside 'async with'; what is durable stays so"
            self.leave()
            warn(problem, ResourceWarning, stacklevel=2, source=self)

    def _there(self, loop: AbstractEventLoop) -> str:
        state = "runs" if self.runs() else "is closed" if loop.is_closed() else "does not run now"
        return f"an event loop of thread {self._thread_name!r} that {state}"

    def _here(self) -> str:
        try:
            get_running_loop()
        except RuntimeError:
            loop = "no event loop"
        else:
            loop = "another event loop"
        process = f" of the forked process {os.getpid()}" if self.is_forked else ""
        return f"{loop} of thread {current_thread().name!r}{process}"


def promises_of(loop: AbstractEventLoop) -> Callable[[], Future[Any]]:
    """What makes the loop's futures: past ``loop.create_future`` where that makes asyncio's own, 0.1 µs less each."""
    return partial(Future, loop=loop) if type(loop.create_future()) is Future else loop.create_future


def _forked() -> None:
    """No thread of a child is one of its parent's, though it has the same number."""
    for home in _settled:
        home.thread, home.is_forked = None, True


@atexit.register
def _exiting() -> None:
    for home in list(_settled):
        home._warn()


_settled: WeakSet[Home] = WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
