"""Watches of a view whose state lies in a database: looking at an answer again means asking, and waiting for it.

Here: when a question is asked again. Not here: what each watch gets (`watches`).
"""

from __future__ import annotations

from typing import Any, Protocol

from millstream.engine.application.interrupts import INTERRUPTS
from millstream.engine.application.validation import encode
from millstream.engine.limits import Limits
from millstream.engine.loop.slices import Slicer
from millstream.engine.read.watches import Group, Question, Turns, Watch, Watched, Watches

__all__ = ["Answering", "StoredWatches"]


class Answering(Watched, Protocol):
    """What is needed of such a view's actor."""

    async def answer_to(self, question: Question) -> tuple[Any, int]: ...


class StoredWatches(Watches):
    """The watches of one view.

    Args:
        view: its actor.
        limits: the engine's.
    """

    def __init__(self, view: Answering, limits: Limits) -> None:
        super().__init__(view, limits)
        self._asked = view

    async def open(self, question: Question, *, every: bool, incomplete: bool) -> Watch:
        """Watch from now on.

        Raises:
            MillstreamError: there is no answer now.
        """
        group = self._group_of(question)
        while group.looked != self._touches:
            await self._look_elsewhere(group)
        return self._joined(group, every=every, incomplete=incomplete)

    async def answer_every(self, slicer: Slicer) -> None:
        """Look at once at what watchers want every change of. The view's state stands still meanwhile."""
        for group in tuple(self._groups.values()):
            if group.every and group.looked != self._touches:
                await self._look_elsewhere(group)

    async def _look_elsewhere(self, group: Group) -> None:
        question, group.looked = group.question, self._touches
        try:
            answered, position = await self._asked.answer_to(question)
            data = encode(answered)
        except (*INTERRUPTS, GeneratorExit):
            raise
        except Exception as error:  # noqa: BLE001 - raised for every watcher
            self._erred(group, error)
        else:
            self._took(group, data, position)

    async def _look_on(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            touches, slicer = self._touches, Turns(self.limits.slice_ms_max)
            await self._wake(slicer)
            for group in tuple(self._groups.values()):
                if self.view.read.fault is None and group.members and group.looked != self._touches:
                    await self._look_elsewhere(group)
                    await self._wake(slicer)
            if touches != self._touches:
                self._news.set()
