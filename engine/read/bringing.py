"""Bringing the state of a view from the log to a later commit, beside live ones.

Here: reading on and applying, in slices. Not here: whose state it is: an earlier one (`past`), or one that is to take a
view's place (`recovery.mending`).
"""

from __future__ import annotations

from collections.abc import Callable

from millstream.engine.application.app import App
from millstream.engine.limits import Limits
from millstream.engine.loop.releasing import drained
from millstream.engine.loop.slices import Slicer
from millstream.engine.observers import Observer
from millstream.engine.read.state import ReadState
from millstream.engine.stores.port import Log
from millstream.engine.stores.reader import Reader

__all__ = ["bring", "let_go", "new_state", "resting"]


def resting(limits: Limits) -> Slicer:
    """Rests for as long as it works, so that those who are asked meanwhile hardly notice."""
    return Slicer(limits.slice_ms_max, rest_ms=limits.slice_ms_max)


def new_state(app: App, view: int, limits: Limits) -> ReadState:
    """One of a view before the first event. No observer gets what it leaves out."""
    return ReadState(app, app.views[view], parked_max=limits.view_parked_max, observer=Observer())


async def bring(
    read: ReadState,
    app: App,
    log: Log,
    limits: Limits,
    until: int,
    *,
    slicer: Slicer | None = None,
    on_page: Callable[[], None] = lambda: None,
) -> None:
    """Apply what the log holds after a state, commit by commit, until it is at the commit of that number, it has
    faulted, or there is no more.

    Whatever ends it leaves a state that can be brought on.

    Args:
        read: the state.
        app: its application.
        log: open, or attached.
        limits: ``read_bytes_max`` and ``slice_ms_max`` are honoured.
        until: the number of the last commit to apply.
        slicer: says when to rest; by default as long as it works.
        on_page: is called after each page of commits.

    Raises:
        LogCorrupt, EventsUnreadable, LogRefused: the log can't be read.
        Exception: the store failed.
    """
    reader, slicer = Reader(log, app, read.head, limits.read_bytes_max), slicer or resting(limits)
    while read.head.number < until and (page := await reader.page()) is not None:
        for decoded in page:
            steps = iter(read.steps(decoded))
            try:
                for _ in steps:
                    if slicer.is_over:
                        await slicer.rest()
            except BaseException:
                for _ in steps:  # a task that is cancelled in the middle of a commit leaves the whole of it
                    pass
                raise
            if slicer.is_over:
                await slicer.rest()
            if read.fault is not None or read.head.number >= until:
                break
        on_page()
        if read.fault is not None:
            return


async def let_go(read: ReadState, slicer: Slicer) -> None:
    """Empty a state that is not needed any more, in slices."""
    for _ in drained(read.state):
        if slicer.is_over:
            await slicer.rest()
