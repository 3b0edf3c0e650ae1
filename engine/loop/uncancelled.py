"""Work that is done to its end, however often the task that waits for it is cancelled.

Here: one function. A shield of anyio's holds off the cancellation of a scope. ``Task.cancel``, ``asyncio.timeout``, and
a ``TaskGroup`` whose other task failed, cancel the task itself, and go through it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

__all__ = ["to_the_end"]

T = TypeVar("T")


async def to_the_end(work: Coroutine[Any, Any, T] | asyncio.Task[T]) -> T:
    """Run ``work`` in a task of its own, if it is none yet, and wait until it is done.

    Raises:
        CancelledError: the waiting was cancelled, once or more often; the work is done all the same. If the work
            failed besides, that is the cause.
        BaseException: what the work raised.
    """
    task = work if isinstance(work, asyncio.Task) else asyncio.create_task(work, name="millstream-to-the-end")
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled from (None if task.cancelled() else task.exception())
    return task.result()
