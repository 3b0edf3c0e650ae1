"""Watches of one view: a question that is answered again whenever the view has moved.

Here: which questions are looked at again and when, and what each watch gets. Not here: how a watch is asked for
(`queries`), when the view moves (`actor`).

    policy           who takes answers too slowly           what it costs
    ------           ----------------------------           -------------
    latest wins      gets the newest one only               nothing is kept for it; looked at in slices beside the view
    every change     gets `WatchOverrun` once more than     looked at as part of each commit, so that a view with many
                     ``watch_answers_max`` wait, or its     of them is slower; answers that wait, bounded in bytes
                     share of what all have in bytes

Invariants: an answer is that of a whole commit; each one given differs from the one before it and is not older; the
newest one is always given; nothing here holds the loop for more than a slice, however many watch.

Equal questions are answered once. What is compared and handed over is the answer's JSON: a view may give out its own
objects and change them later, and a socket wants it as JSON anyway.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import anyio
import anyio.lowlevel
import msgspec

from millstream.engine.application.interrupts import INTERRUPTS
from millstream.engine.application.messages import Query
from millstream.engine.application.validation import encode
from millstream.engine.errors import (
    AnswerFailed,
    EngineClosed,
    MillstreamError,
    ViewFaulted,
    ViewIncomplete,
    WatchOverrun,
)
from millstream.engine.errors.said import message_of
from millstream.engine.limits import Limits
from millstream.engine.loop.clock import elapsed
from millstream.engine.loop.slices import Slicer
from millstream.engine.observers import Fault, Faults
from millstream.engine.read.state import ReadState

__all__ = ["Group", "Question", "Turns", "Watch", "Watched", "Watches"]

#: Watches that are woken at once: what each does then takes 10 to 20 µs, in one go with all others.
_WAKES_MAX = 100


class Watched(Protocol):
    """What is needed of a view's actor."""

    @property
    def name(self) -> str: ...
    @property
    def read(self) -> ReadState: ...
    @property
    def position(self) -> int: ...
    @property
    def ready(self) -> bool: ...
    @property
    def faults(self) -> Faults: ...


class Question:
    """What is asked: the query, how the view answers it, and how its answer is read from JSON."""

    __slots__ = ("answer", "decode", "key", "query")

    def __init__(self, query: Query[Any], answer: Callable[[Any, Any], Any], decode: Callable[[bytes], Any]) -> None:
        self.query = query
        self.answer = answer
        self.decode = decode
        #: The same for equal questions.
        self.key = encode(query)


class _Kept:
    """An answer that waits for those who want every change, and for how many of them."""

    __slots__ = ("data", "position", "waiting")

    def __init__(self, data: bytes, position: int) -> None:
        self.data = data
        self.position = position
        self.waiting = 0


class Group:
    """All watches of equal questions: their answer is looked at once."""

    __slots__ = (
        "data",
        "error",
        "every",
        "is_incomplete",
        "latest",
        "looked",
        "position",
        "question",
        "shared",
        "version",
    )

    def __init__(self, question: Question) -> None:
        self.question = question
        self.latest: set[Watch] = set()
        self.every: set[Watch] = set()
        #: The answer, and a position at which it is true.
        self.data = b""
        self.position = 0
        #: Whether the view had left out events when it was looked at.
        self.is_incomplete = False
        #: What the view raised instead of an answer.
        self.error: MillstreamError | None = None
        #: How often there was something new, and the touch of the view that it was last looked at after.
        self.version = 0
        self.looked = -1
        #: What those who watch rows have found out, by the name of their key.
        self.shared: dict[str, Any] = {}

    @property
    def members(self) -> tuple[Watch, ...]:
        return (*self.latest, *self.every)

    def is_same(self, data: bytes) -> bool:
        """Whether this is the answer that it has; a set may be written in another order."""
        if data == self.data or len(data) != len(self.data):
            return data == self.data
        try:
            return bool(self.question.decode(data) == self.question.decode(self.data))
        except msgspec.DecodeError:  # not what the query promises: the watcher that takes it gets the error
            return False


class Watch:
    """One open watch. `Queries.open_watch` makes it; its owner closes it, and takes its answers in one task."""

    __slots__ = (
        "_every",
        "_group",
        "_incomplete",
        "_last",
        "_overrun",
        "_pending",
        "_pending_bytes",
        "_seen",
        "_waiter",
        "_watches",
    )

    def __init__(self, watches: Watches, group: Group, *, every: bool, incomplete: bool) -> None:
        self._watches = watches
        self._group = group
        self._every = every
        self._incomplete = incomplete
        self._seen = -1
        self._last: bytes | None = None
        self._pending: deque[_Kept] = deque()
        self._pending_bytes = 0
        self._overrun: MillstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None
        if every:
            self.push(_Kept(group.data, group.position))

    @property
    def view(self) -> str:
        """The name of the view."""
        return self._watches.view.name

    @property
    def query(self) -> str:
        """The name of the query."""
        return type(self._group.question.query).__name__

    @property
    def shared(self) -> dict[str, Any]:
        """What all who watch equal questions share, for those who watch rows."""
        return self._group.shared

    async def next(self) -> tuple[bytes, int]:
        """The next answer as JSON, and a position at which it is true. The first one is there at once.

        Raises:
            WatchOverrun: every change was wanted, and too many waited; those that did were given.
            ViewIncomplete: the view has left out events; the error holds its answer.
            ViewFaulted: the view could not apply an event.
            AnswerFailed: the view raised while answering, or its answer can't be written as JSON.
            EngineClosed: the engine was closed.
        """
        while True:
            self._require_complete()
            found = self._take()
            if found is not None:
                return found
            self._require_more()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def decode(self, data: bytes) -> Any:
        """An answer as the query promises it: a copy of the caller's own.

        Raises:
            AnswerFailed: it is not of the type that the query promises.
        """
        question = self._group.question
        try:
            return question.decode(data)
        except msgspec.DecodeError as error:
            problem = f"its answer is not what the query promises: {error}"
            raise AnswerFailed(self._watches.view.name, type(question.query).__name__, problem) from error

    def close(self) -> None:
        """Watch no more. Closing twice is allowed."""
        self._watches.leave(self, self._group)
        while self._pending:
            self._taken()

    def push(self, kept: _Kept) -> None:
        """One more change, for who wants each."""
        watches, limits, pending = self._watches, self._watches.limits, self._pending
        if self._overrun is not None:
            return
        left = limits.watch_answers_bytes_max - watches.kept_bytes
        if len(pending) >= limits.watch_answers_max or (pending and self._pending_bytes >= left):
            most = limits.watch_answers_bytes_max if len(pending) < limits.watch_answers_max else None
            self._overrun = WatchOverrun(watches.view.name, pending[-1].position, limits.watch_answers_max, most)
            return
        pending.append(kept)
        self._pending_bytes += len(kept.data)
        if not kept.waiting:
            watches.kept_bytes += len(kept.data)
        kept.waiting += 1

    def wake(self) -> bool:
        """Let it look for news; whether it waited."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return False
        waiter.set_result(None)
        return True

    def _take(self) -> tuple[bytes, int] | None:
        if self._every:
            return self._taken() if self._pending else None
        group = self._group
        if self._seen == group.version or group.data == self._last:
            return None
        self._seen, self._last = group.version, group.data
        return group.data, group.position

    def _taken(self) -> tuple[bytes, int]:
        kept = self._pending.popleft()
        self._pending_bytes -= len(kept.data)
        kept.waiting -= 1
        if not kept.waiting:
            self._watches.kept_bytes -= len(kept.data)
        return kept.data, kept.position

    def _require_complete(self) -> None:
        view, group = self._watches.view, self._group
        if group.is_incomplete and not self._incomplete:
            answer, left_out = self.decode(group.data), view.read.left_out
            name = type(group.question.query).__name__
            raise ViewIncomplete(view.name, name, group.position, left_out.count, left_out.skipped, answer)

    def _require_more(self) -> None:
        view, group = self._watches.view, self._group
        if view.read.fault is not None:
            raise ViewFaulted(view.name, *view.read.fault) from view.read.fault[1]
        if self._watches.is_closed:
            raise EngineClosed("closed")
        if group.error is not None:
            raise group.error
        if self._overrun is not None:
            raise self._overrun


class Turns(Slicer):
    """Slices with pauses as long as they were, what those did included who were woken: half of the loop at most."""

    def __init__(self, slice_ms_max: float) -> None:
        super().__init__(slice_ms_max)
        self._began = elapsed()

    async def rest(self) -> None:
        await anyio.lowlevel.checkpoint()  # watchers that were woken run now
        await anyio.sleep(elapsed() - self._began)
        self._began = elapsed()
        self.begin()


class Watches:
    """The watches of one view.

    Args:
        view: its actor.
        limits: the engine's.
    """

    def __init__(self, view: Watched, limits: Limits) -> None:
        self.view = view
        self.limits = limits
        #: How many are open.
        self.count = 0
        self.is_closed = False
        #: Of these, how many want every change, and the bytes of what waits for them.
        self._every = 0
        self.kept_bytes = 0
        self._groups: dict[bytes, Group] = {}
        #: Those with news whose watchers were not woken yet.
        self._unwoken: deque[Group] = deque()
        self._touches = 0
        self._news = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    @property
    def has_every(self) -> bool:
        """Whether a watcher wants every change."""
        return self._every > 0

    def join(self, question: Question, *, every: bool, incomplete: bool) -> Watch:
        """Watch from now on. The view is ready: not in the middle of a commit.

        Raises:
            AnswerFailed, MillstreamError: there is no answer now.
        """
        group = self._group_of(question)
        if group.looked != self._touches:
            self._look(group)
        group.position = self.view.position
        return self._joined(group, every=every, incomplete=incomplete)

    def _group_of(self, question: Question) -> Group:
        group = self._groups.get(question.key)
        if group is None:
            group = self._groups[question.key] = Group(question)
        return group

    def _joined(self, group: Group, *, every: bool, incomplete: bool) -> Watch:
        if group.error is not None:
            raise group.error
        watch = Watch(self, group, every=every, incomplete=incomplete)
        (group.every if every else group.latest).add(watch)
        self._every += every
        self.count += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_on(), name=f"millstream-watches-{self.view.name}")
        return watch

    def leave(self, watch: Watch, group: Group) -> None:
        """Take a watch out, if it is in."""
        members = group.latest if watch in group.latest else group.every
        if watch in members:
            members.remove(watch)
            self.count -= 1
            self._every -= members is group.every
            if not group.members and self._groups.get(group.question.key) is group:
                del self._groups[group.question.key]

    def changed(self) -> None:
        """The view's state has changed, and is whole."""
        self._touches += 1
        if self._groups:
            self._news.set()

    async def answer_every(self, slicer: Slicer) -> None:
        """Look at once at what watchers want every change of. The view's state stands still meanwhile."""
        for group in tuple(self._groups.values()):
            if group.every and group.looked != self._touches:
                self._look(group)
                if slicer.is_over:
                    await slicer.rest()

    def end(self) -> None:
        """The view answers no more: everybody is to find out why."""
        self._unwoken.extend(self._groups.values())
        self._news.set()

    async def close(self) -> None:
        """End: watchers get `EngineClosed`."""
        self.is_closed = True
        self.end()
        if self._looking is not None:
            await self._wake(Slicer(self.limits.slice_ms_max))
            self._looking.cancel()
            await asyncio.wait([self._looking])

    def _look(self, group: Group) -> None:
        """Answer a question anew."""
        view, question = self.view, group.question
        group.looked = self._touches
        try:
            data = encode(question.answer(view.read.state, question.query))
        except INTERRUPTS:
            raise
        except BaseException as error:  # noqa: BLE001 - raised for every watcher
            self._erred(group, error)
        else:
            self._took(group, data, view.position)

    def _took(self, group: Group, data: bytes, position: int) -> None:
        """An answer is there. What is new is pushed to those who want each change; the others come for it."""
        version, is_incomplete = group.version, self.view.read.is_incomplete
        if not version or not group.is_same(data):
            group.data, group.position = data, position
            group.version += 1
            kept = _Kept(data, position)
            for watch in group.every:
                watch.push(kept)
        if group.is_incomplete != is_incomplete:
            group.is_incomplete = is_incomplete
            group.version += 1
        if group.version != version:
            self._unwoken.append(group)
            self._news.set()

    def _erred(self, group: Group, error: BaseException) -> None:
        """There is none: watchers get why, and one that comes now has it looked at anew."""
        group.error = error if isinstance(error, MillstreamError) else self._failed(group.question, error)
        group.version += 1
        self._groups.pop(group.question.key, None)
        self._unwoken.append(group)
        self._news.set()

    def _failed(self, question: Question, error: BaseException) -> AnswerFailed:
        self.view.faults.tell(Fault(self.view.name, type(question.query).__name__, error))
        failed = AnswerFailed(self.view.name, type(question.query).__name__, message_of(error))
        failed.__cause__ = error
        return failed

    async def _look_on(self) -> None:
        """Look at what the view's moves may have changed, for half of the loop's time at most."""
        while True:
            await self._news.wait()
            self._news.clear()
            touches, slicer = self._touches, Turns(self.limits.slice_ms_max)
            await self._wake(slicer)
            for group in tuple(self._groups.values()):
                while not self.view.ready:  # in the middle of a commit, or faulted: the end of either is news
                    await self._news.wait()
                    self._news.clear()
                    await self._wake(slicer)
                if group.members and group.looked != self._touches:
                    self._look(group)
                    await self._wake(slicer)
                if slicer.is_over:
                    await slicer.rest()
            if touches != self._touches:
                self._news.set()

    async def _wake(self, slicer: Slicer) -> None:
        woken = 0
        while self._unwoken:
            for watch in self._unwoken.popleft().members:
                woken += watch.wake()
                if woken >= _WAKES_MAX:
                    await slicer.rest()
                    woken = 0
