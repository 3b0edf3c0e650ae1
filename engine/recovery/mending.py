"""What is done about a view that is not what it should be, while the engine runs: it tries again what it has parked, or
its state is made anew beside the live one.

Here: both, with the snapshots that follow from them. Not here: what a view leaves out (`read.parked`), and another
process that makes the state of changed code (`upkeep.views`).

Invariant: the state that takes a view's place is that of the very commit that the view stands at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Any, TypeAlias

import msgspec

from millstream.engine.application.interrupts import INTERRUPTS
from millstream.engine.application.messages import Query
from millstream.engine.commits.commit import Head
from millstream.engine.errors import InvalidMessage, MillstreamError, UnknownMessage, ViewFaulted
from millstream.engine.loop.clock import elapsed
from millstream.engine.loop.slices import Slicer
from millstream.engine.loop.threads import in_thread
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.observers import Observer
from millstream.engine.read.actor import ViewActor, ViewStatus
from millstream.engine.read.bringing import bring, let_go, new_state, resting
from millstream.engine.read.parked import Parked
from millstream.engine.read.queries import Queries
from millstream.engine.read.state import ReadState
from millstream.engine.read.stored_actor import StoredActor
from millstream.engine.recovery.catalog import Catalog
from millstream.engine.recovery.snapshotter import Snapshotter

__all__ = ["Difference", "Mending", "RebuiltView", "RowDifference"]

_Question: TypeAlias = tuple[Query[Any], Callable[[Any, Any], Any]]

#: So often the new state is brought to where the view is by then; what came meanwhile becomes less each time, and the
#: rest is done while the view stands still.
_PASSES = 4
#: So many rows that differ are named.
_ROWS_TOLD_MAX = 100


class Difference(msgspec.Struct, frozen=True):
    """A question that the two states answer differently: what the live one says, and what the new one; or their
    errors.
    """

    query: Query[Any]
    before: Any
    after: Any


class RowDifference(msgspec.Struct, frozen=True):
    """A row of a table that the two states have otherwise: its key, the live one's row, and the new one's; None for
    none.
    """

    key: Any
    before: Any
    after: Any


class RebuiltView(msgspec.Struct, frozen=True):
    """What making a view anew has come to: at which position, in how many seconds; what differs of the questions that
    were given; how many events the live state had left out, and the new one has; and whether the new one has taken its
    place. Of a table also how many ``rows_differ`` among all, and the first 100 ``rows`` of these.
    """

    view: str
    position: int
    seconds: float
    differences: Sequence[Difference]
    left_out_before: int
    left_out: int
    swapped: bool
    rows_differ: int = 0
    rows: Sequence[RowDifference] = ()


class Mending(Queries):
    """A running application whose views can be mended."""

    observers: Observer
    _catalog: Catalog | None
    _snapshotter: Snapshotter | None

    async def replay_parked(self, view: str | None = None) -> list[Parked]:
        """Let views try again what they have parked: key by key, in order, after what they have applied since.

        What could be applied is parked no more, durably, if the view has snapshots. An order across keys is not made
        up for: where that matters, raise the view's ``code_version``, and it is made anew from the log.

        Args:
            view: the class name of the view; all of them by default.

        Returns:
            What is still parked.

        Raises:
            UnknownMessage: there is no such view.
            ViewFaulted: the view has faulted. Without ``view``, such a one is passed over.
            EngineClosed: the engine is not open, or was closed meanwhile.
            SnapshotsLocked: ``millstream snapshot take`` is at work: try again when it is done.
            WrongLoop: it was opened on another event loop.
        """
        self._home.require()
        self._require_open()
        if view is not None:
            self._named(view)
        for each in self._views:
            if view == each.name and each.read.fault is not None:
                raise ViewFaulted(each.name, *each.read.fault) from each.read.fault[1]
            if each.read.left_out.parked and view in (None, each.name):
                async with self._snapshots_alone():
                    await each.replay_parked(None if self._catalog is None else self._catalog.keep)
        return [each for each in self.parked() if view in (None, each.view)]

    async def skip_parked(self, view: type[Any] | str, position: int) -> list[Parked]:
        """Leave out for good what a view has parked of the event at a position, and try again what waited behind it.

        It counts as skipped from then on, and answers say so. That is kept in the view's snapshots: where the state is
        made anew from the log, the event is met again.

        Args:
            view: its class, or the name of that.
            position: that of the event.

        Returns:
            What the view still has parked.

        Raises:
            UnknownMessage: there is no such view.
            InvalidMessage: the view has nothing parked of that event.
            ViewFaulted: the view has faulted.
            EngineClosed: the engine is not open, or was closed meanwhile.
            SnapshotsLocked: ``millstream snapshot take`` is at work: try again when it is done.
            WrongLoop: it was opened on another event loop.
        """
        self._home.require()
        self._require_open()
        actor = self._named(_name_of(view))
        if actor.read.fault is not None:
            raise ViewFaulted(actor.name, *actor.read.fault) from actor.read.fault[1]
        async with self._snapshots_alone():
            keep = None if self._catalog is None else self._catalog.keep
            if not await actor.replay_parked(keep, without=position):
                problem = f"view {actor.name} has parked no event at position {position!r}"
                raise InvalidMessage("skip_parked", problem)
        return [each for each in self.parked() if each.view == actor.name]

    async def rebuild(self, view: type[Any] | str, *, ask: Sequence[Query[Any]] = (), swap: bool = True) -> RebuiltView:
        """Make the state of a view anew from the log, beside the live one, which answers on; then swap them.

        For a view whose state is not what today's code makes of the events: its code was changed and ``code_version``
        was not raised, it has left out events, or it has faulted. It is replayed in slices with a rest after each, one
        view at a time, and takes the memory of a second state meanwhile. `stats` tells how far it is.

        Args:
            view: its class, or the name of that.
            ask: questions that are put to both states at the same position, to say what differs.
            swap: whether the new one takes the place of the live one. If not, this only says what would differ.

        Returns:
            What it has come to.

        Raises:
            UnknownMessage: there is no such view.
            InvalidMessage: another view answers one of the questions.
            ViewUnavailable: the view's database can't be used now: the live one stays.
            ViewFaulted: today's code can't apply an event: the live state stays.
            LogCorrupt, EventsUnreadable, LogRefused: the log can't be read.
            SnapshotsLocked: ``millstream snapshot take`` is at work: the live state stays; try again when it is done.
            Exception: the store of snapshots failed: the live state stays.
            EngineClosed: the engine is not open, or was closed meanwhile.
            WrongLoop: it was opened on another event loop.
        """
        self._home.require()
        self._require_open()
        actor = self._named(_name_of(view))
        answers = [self._asked(query) for query in ask]
        for query, (answered_by, _) in zip(ask, answers, strict=True):
            if answered_by is not actor:
                problem = f"it is answered by {answered_by.name}, and not by {actor.name}"
                raise InvalidMessage(type(query).__name__, problem)
        async with self._past.turn(), self._while_open():
            questions = [(query, answer) for query, (_, answer) in zip(ask, answers, strict=True)]
            if isinstance(actor, StoredActor):
                return await self._make_anew_elsewhere(actor, questions, swap)
            return await self._make_anew(actor, questions, swap)

    async def _make_anew(self, actor: ViewActor, questions: Iterable[_Question], swap: bool) -> RebuiltView:
        started, made = elapsed(), new_state(self.app, self._views.index(actor), self.limits)
        actor.rebuilding = made, started
        try:
            for _ in range(_PASSES):
                await self._bring(made, actor)
            async with self._snapshots_alone() if swap else nullcontext():
                async with actor.still:
                    live = actor.read
                    await self._bring(made, actor)
                    self._require_open()
                    if made.fault is not None:
                        raise ViewFaulted(actor.name, *made.fault) from made.fault[1]
                    rebuilt = await _compared(live, made, questions, elapsed() - started, swap, resting(self.limits))
                    if swap:
                        if self._catalog is not None:
                            await self._catalog.forget(live)  # whatever happens now, no restart brings it back
                        actor.replace(made)
                if swap:
                    self._tell(rebuilt)
                    await self._keep(actor)
        finally:
            actor.rebuilding = None
        await let_go(live if swap else made, resting(self.limits))
        return rebuilt

    async def _make_anew_elsewhere(self, actor: StoredActor, questions: Iterable[_Question], swap: bool) -> RebuiltView:
        """The same for a view whose state lies in a database: a new database beside it."""
        started, made, slicer = elapsed(), await in_thread(actor.beside), resting(self.limits)
        actor.rebuilding, swapped = (made.read, started), False
        try:
            for _ in range(_PASSES):
                await made.bring((await self._end_of(actor)).number, slicer)
            async with actor.still:
                await made.bring((await self._end_of(actor)).number, slicer)
                self._require_open()
                if made.read.fault is not None:
                    raise ViewFaulted(actor.name, *made.read.fault) from made.read.fault[1]
                rebuilt = await _compared_elsewhere(actor, made, questions, elapsed() - started, swap)
                if swap:
                    before = await actor.take(made)
                    swapped = True
        finally:
            actor.rebuilding = None
            if not swapped:
                await to_the_end(_removed(made))
        if swap:
            self._tell(rebuilt)
            await to_the_end(in_thread(before.close, self.limits.stored_answer_seconds_max))
        return rebuilt

    async def _end_of(self, actor: ViewActor) -> Head:
        return await self.log.head() if actor.status is ViewStatus.FAULTED else actor.head

    def _tell(self, rebuilt: RebuiltView) -> None:
        self.observers.view_rebuilt(
            view=rebuilt.view,
            position=rebuilt.position,
            seconds=rebuilt.seconds,
            differences=len(rebuilt.differences),
            left_out=rebuilt.left_out,
        )

    async def _keep(self, actor: ViewActor) -> None:
        """Store the new state; where that fails, which is reported, the next opening makes it of the log."""
        async with actor.still:
            if self._catalog is not None and actor.read.is_sound:
                await self._catalog.keep(actor.read, resting(self.limits))

    def _snapshots_alone(self) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self._snapshotter is None else self._snapshotter.alone()

    async def _bring(self, made: ReadState, actor: ViewActor) -> None:
        """Bring a state to where the view is by now; of one that has faulted, to where the log ends."""
        await bring(made, self.app, self.log, self.limits, (await self._end_of(actor)).number)

    def _named(self, name: str) -> ViewActor:
        names = tuple(each.name for each in self._views)
        if name not in names:
            raise UnknownMessage("view", name, self.app.name, names)
        return self._views[names.index(name)]


async def _compared(
    live: ReadState, made: ReadState, questions: Iterable[_Question], seconds: float, swap: bool, slicer: Slicer
) -> RebuiltView:
    """What differs between two states, both of which stand still."""
    found = [
        Difference(query, before, after)
        for query, answer in questions
        if not _is_same(before := _told(answer, live, query), after := _told(answer, made, query))
    ]
    rows = await _rows_of(live, made, slicer)
    return RebuiltView(live.view, made.head.position, seconds, found, _left_out(live), _left_out(made), swap, *rows)


async def _removed(made: StoredActor) -> None:
    await made.close()
    with suppress(Exception):  # it is listed, and can be dropped
        await in_thread(made.storage.drop)


async def _compared_elsewhere(
    live: StoredActor, made: StoredActor, questions: Iterable[_Question], seconds: float, swap: bool
) -> RebuiltView:
    """What differs between two databases, both of which stand still. Of a live one that has faulted nothing is said."""
    differences, rows = list[Difference](), (0, list[tuple[Any, Any, Any]]())
    if live.answers:
        for query, answer in questions:
            before, after = [await _told_by(each, answer, query) for each in (live, made)]
            if not _is_same(before, after):
                differences.append(Difference(query, before, after))
        rows = await live.differing(made, _ROWS_TOLD_MAX)
    left_out = _left_out(live.read), _left_out(made.read)
    named = [RowDifference(*each) for each in rows[1]]
    return RebuiltView(live.name, made.head.position, seconds, differences, *left_out, swap, rows[0], named)


async def _told_by(actor: StoredActor, answer: Callable[[Any, Any], Any], query: Query[Any]) -> Any:
    try:
        return await actor.told(answer, query)
    except INTERRUPTS:
        raise
    except MillstreamError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - it is what differs, or does not
        return repr(error)


def _is_same(before: Any, after: Any) -> bool:
    """Whether two answers are equal, or differ in NaNs alone, each of which is equal to nothing."""
    return bool(before == after) or repr(before) == repr(after)


async def _rows_of(live: ReadState, made: ReadState, slicer: Slicer) -> tuple[int, list[RowDifference]]:
    """Of a table, how many rows differ, and the first of them. Whatever else a view is has none."""
    count, rows = 0, list[RowDifference]()
    compare = getattr(live.state, "__differing__", None)
    for found in () if compare is None else compare(made.state):
        if found is not None and not _is_same(*found[1:]):
            count += 1
            if len(rows) < _ROWS_TOLD_MAX:
                rows.append(RowDifference(*found))
        if slicer.is_over:
            await slicer.rest()
    return count, rows


def _name_of(view: type[Any] | str) -> str:
    return view if isinstance(view, str) else getattr(view, "__name__", repr(view))


def _left_out(read: ReadState) -> int:
    return read.left_out.count + read.left_out.skipped


def _told(answer: Callable[[Any, Any], Any], read: ReadState, query: Query[Any]) -> Any:
    """What a state answers; or what went wrong, as a text that can be compared."""
    try:
        return answer(read.state, query)
    except INTERRUPTS:
        raise
    except MillstreamError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - it is what differs, or does not
        return repr(error)
