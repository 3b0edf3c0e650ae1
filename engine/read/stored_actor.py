"""The actor of a view whose state lies in a database: pages of commits become transactions, and questions threads.

Here: what goes out together, what is done about what fails, and who is asked in which thread. Not here: statements
(`stored_state`), the database (`storage`), and what every view's actor does (`actor`).

    what fails                                what becomes of it
    ----------                                ------------------
    the database is locked, full, or away     nothing was written; it is tried again, and questions may wait
    another process has written               its head is read, and what it has written is passed over
    a statement of a page                     the page again, one commit after another
    a statement of a commit                   the commit again, one event after another, as the view's `poison` says
    a statement has ended the transaction     the view faults there, whatever its `poison` says
    the head is none that the log has         the view faults: its database followed another history

Invariants: each commit counts once, whichever process dies when; the writer never waits for any of this; no answer
shows half a commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from typing import Any, TypeVar, TypeVarTuple

import anyio

from millstream.engine.application.app import App
from millstream.engine.commits.commit import Head
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.errors import AnswerFailed, EngineClosed, ViewBehind, ViewFaulted, ViewUnavailable
from millstream.engine.limits import Limits
from millstream.engine.loop.collector import collecting_young_only
from millstream.engine.loop.slices import Slicer
from millstream.engine.loop.threads import in_thread
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.observers import Observer
from millstream.engine.read.actor import ViewActor, ViewEvent, ViewStatus
from millstream.engine.read.storage import (
    StorageAway,
    StorageMoved,
    StorageUnknown,
    TransactionEnded,
    ViewStorage,
)
from millstream.engine.read.stored_state import StoredState
from millstream.engine.read.stored_watches import StoredWatches
from millstream.engine.read.watches import Question
from millstream.engine.stores.finding import commit_at
from millstream.engine.stores.port import Log
from millstream.engine.stores.reader import Reader

__all__ = ["StoredActor"]

#: Commits of one transaction at most. More are hardly quicker, and take longer to do again.
_PAGE_COMMITS = 256
#: Events of one transaction, about.
_PAGE_EVENTS = 20_000

T = TypeVar("T")
_Arguments = TypeVarTuple("_Arguments")


class StoredActor(ViewActor):
    """One view and its database.

    Args:
        app: the application.
        index: which of its views.
        limits: the engine's.
        reader: makes a reader of the log that starts after a given head.
        observer: is called with what happens to the view.
        wanted: is called with each position that a query is about to wait for. What it raises, the query raises.
        storage: where its state is.
        log: the log, which is open when this runs.
    """

    read: StoredState
    watches: StoredWatches

    def __init__(
        self,
        app: App,
        index: int,
        limits: Limits,
        reader: Callable[[Head], Reader],
        observer: Observer,
        wanted: Callable[[int], None] | None,
        storage: ViewStorage,
        log: Callable[[], Log],
    ) -> None:
        super().__init__(app, index, limits, reader, observer, wanted)
        self._app = app
        self._index = index
        self._storage = storage
        self._log = log
        self._is_open = False
        #: What the database says: its head, and the notes of what was left out.
        self._saved: tuple[Head, bytes] = Head(), b""
        self._asking = 0
        self._writing = anyio.CapacityLimiter(1)
        self._questions = anyio.CapacityLimiter(limits.stored_questions_max)

    def _new_read(self, app: App, index: int, limits: Limits, observer: Observer) -> StoredState:
        return StoredState(app, app.views[index], parked_max=limits.view_parked_max, observer=observer)

    def _new_watches(self, limits: Limits) -> StoredWatches:
        return StoredWatches(self, limits)

    @property
    def answers(self) -> bool:
        """Whether its database is open, and it has not faulted."""
        return self._is_open

    def start(self, head: Head) -> None:
        """The log is at ``head``: begin to open the database, and to read what it lacks."""
        self._published = head
        if self._life.on(ViewEvent.STARTED):
            self._life.on(ViewEvent.FELL_BEHIND)

    async def close(self) -> None:
        """End its watches, and close the database."""
        await super().close()
        self._is_open = False
        await to_the_end(self._in_thread(self._storage.close))

    # Asking.

    async def ask(self, answer: Callable[[Any, Any], Any], query: Any) -> tuple[Any, int]:
        """What the database answers, and a position at which that is true. The caller has waited by `reach`.

        Raises:
            ViewBehind: ``view_waiters_max`` questions are under way.
            ViewUnavailable: the database can't be asked now.
            AnswerFailed: it took longer than ``stored_answer_seconds_max``.
            Exception: what answering raised.
        """
        if self._asking >= self._limits.view_waiters_max:
            raise ViewBehind(self.name, self.position, self._asking, self._limits.view_waiters_max)
        seen, seconds = self.position, self._limits.stored_answer_seconds_max
        asked = self._storage.question(answer, query)
        self._asking += 1
        try:
            with anyio.move_on_after(seconds):
                answered, position = await in_thread(asked.run, limiter=self._questions, leave=True)
                return answered, max(position, seen)
        except StorageAway as error:
            raise ViewUnavailable(self.name, str(error)) from error
        except StorageUnknown as error:  # its file was removed
            self._is_open = False
            self.fault(error)
            raise ViewFaulted(self.name, *self.read.fault or (0, error)) from error
        finally:
            self._asking -= 1
            asked.interrupt()
        raise AnswerFailed(self.name, type(query).__name__, f"it took longer than {seconds:g} s")

    async def answer_to(self, question: Question) -> tuple[Any, int]:
        """The same for a watch."""
        return await self.ask(question.answer, question.query)

    # Applying.

    async def _begin(self) -> None:
        while not self._stopping:
            try:
                await self._open()
            except StorageAway as error:
                self._observer.view_catch_up_failed(view=self.name, position=self.position, error=error)
                with anyio.move_on_after(self._limits.catch_up_retry_seconds):
                    await self._signalled()
            except Exception as error:  # noqa: BLE001 - raised for every caller
                self.fault(error)
                return
            else:
                self._is_open = True
                self._moved()
                return

    async def _open(self) -> None:
        """Be where the database is.

        Raises:
            StorageAway: not now.
            StorageUnknown: it has followed another history.
            Exception: it can't be used.
        """
        head, notes = await self._in_thread(self._storage.open)
        if head.number:
            there = await commit_at(self._log(), head.number)
            if there is None or there.digest != head.digest:
                raise StorageUnknown(
                    f"its database is at commit {head.number:,}, and the log has another one or none there, as after a "
                    "restored backup: let it be made anew"
                )
        self._saved = head, notes
        self.read.rewind(head, notes)

    async def _apply_queued(self, slicer: Slicer) -> None:
        page = [self._queue.take()]
        events = len(page[0].events)
        while self._queue and len(page) < _PAGE_COMMITS and events < _PAGE_EVENTS:
            page.append(self._queue.take())
            events += len(page[-1].events)
        try:
            await self._apply_page(page, slicer)
        except (StorageAway, StorageMoved):
            self.resync(self._published)  # reading the log, it is tried again

    async def _apply_all(self, commits: Iterable[DecodedCommit], slicer: Slicer) -> None:
        left = iter(commits)
        for first in left:
            if self.read.fault is not None:
                return
            events, page = len(first.events), [first]
            for decoded in islice(left, _PAGE_COMMITS - 1):
                page.append(decoded)
                events += len(decoded.events)
                if slicer.is_over:
                    await slicer.rest()
                if events >= _PAGE_EVENTS:
                    break
            with collecting_young_only():  # what a page gathers dies with it: a third of the time went to looking at it
                await self._apply_page(page, slicer)

    async def _apply_page(self, page: Sequence[DecodedCommit], slicer: Slicer) -> None:
        """Apply whole commits. Those that the database has already are passed over.

        Raises:
            StorageAway: nothing was written of what is left.
            StorageMoved: the database is at a commit that these do not follow.
        """
        left = list(page)
        while left and self.read.fault is None:
            while self._holds.forbid(left[0].head.position):
                await self._holds.changed()
            async with self.still:
                if self._holds.forbid(left[0].head.position):
                    continue
                most = 1 if self.watches.has_every else len(left)
                allowed = next((i for i, each in enumerate(left) if self._holds.forbid(each.head.position)), len(left))
                taken, left = left[: min(most, allowed)], left[min(most, allowed) :]
                taken = [each for each in taken if each.head.number > self.read.head.number]
                if not taken:
                    continue
                if taken[0].head.number != self.read.head.number + 1:
                    raise StorageMoved(f"it is at commit {self.read.head.number:,}")
                if not await self._is_ours(taken, slicer):
                    left = [*taken, *left]
                    continue
                if self._has_faulted():
                    return
                self._moved()
                if not self.read.types.isdisjoint(chain.from_iterable(each.types for each in taken)):
                    self.watches.changed()
                    if self.watches.has_every:
                        await self.watches.answer_every(slicer)
            if slicer.is_over:
                await slicer.rest()

    def _has_faulted(self) -> bool:
        if self.read.fault is None:
            return False
        self._is_open = False
        self._stopped_at(*self.read.fault)
        return True

    async def _is_ours(self, commits: Sequence[DecodedCommit], slicer: Slicer) -> bool:
        """Write commits. Returns False if another process has written meanwhile: the view is where that is, then."""
        before = self.read.head
        try:
            await self._write(commits, slicer)
            return True
        except StorageMoved:
            try:
                await self._open()
            except StorageAway:
                raise
            except Exception as error:  # noqa: BLE001 - raised for every caller
                self._is_open = False
                self.fault(error)
                return False
            self._moved()
            self.watches.changed()
            return False
        except StorageUnknown as error:  # its file was removed
            self.read.rewind(*self._saved)
            self._is_open = False
            self.fault(error, self.read.head.position + 1)
            return False
        except BaseException:
            self.read.rewind(before if before.number >= self._saved[0].number else self._saved[0], self._saved[1])
            raise

    async def _write(self, commits: Sequence[DecodedCommit], slicer: Slicer) -> None:
        """Write commits in one transaction; or, where something is wrong in it, in several."""
        read, before, (saved, notes) = self.read, self.read.head, self._saved
        for decoded in commits:
            for _ in read.steps(decoded):
                if slicer.is_over:
                    await slicer.rest()
        statements = read.taken()
        if read.fault is None:
            after, left_out = read.head, read.notes()
            if not statements and left_out == notes:
                return  # nothing in them for this view: the database need not know
            if await self._is_written(statements, saved, after, left_out):
                self._saved = after, left_out
                return
        read.rewind(before, notes)
        if len(commits) == 1:
            await self._write_one_by_one(commits[0])
            return
        for decoded in commits:
            await self._write([decoded], slicer)
            if read.fault is not None:
                return

    async def _is_written(self, statements: list[Any], saved: Head, after: Head, notes: bytes) -> bool:
        """Write a page. Returns False if one of its statements fails: which one is found where they stand alone."""
        try:
            await self._in_thread(self._storage.write, statements, saved, after, notes)
        except (StorageAway, StorageMoved, StorageUnknown):
            raise
        except Exception:  # noqa: BLE001 - it is raised again for its event
            return False
        return True

    async def _write_one_by_one(self, decoded: DecodedCommit) -> None:
        """Write a commit, one event after another; what fails is left out, or faults the view."""
        read, storage, raised, before = self.read, self._storage, None, self.read.head
        position = decoded.start + 1
        await self._in_thread(storage.begin, self._saved[0])
        try:
            events = read.one_by_one(decoded)
            while True:
                try:
                    statements = next(events) if raised is None else events.throw(raised)
                except StopIteration:
                    break
                position = read.applied_position
                raised = await self._tried(statements)
            if read.fault is None:
                after, notes = read.head, read.notes()
                await self._in_thread(storage.commit, self._saved[0], after, notes)
                self._saved = after, notes
        except (StorageAway, StorageMoved):
            raise
        except TransactionEnded as error:  # nothing can go on in it, so that neither parking nor skipping is left
            read.rewind(before, self._saved[1])
            read.fault = position, error
        except Exception as error:  # noqa: BLE001 - a constraint that is looked at with the commit: it is no event's alone
            read.rewind(before, self._saved[1])
            read.fault = decoded.start + 1, error
        finally:
            await to_the_end(self._in_thread(storage.rollback))

    async def _tried(self, statements: list[Any]) -> Exception | None:
        try:
            await self._in_thread(self._storage.try_these, statements)
        except (StorageAway, StorageMoved, TransactionEnded):
            raise
        except Exception as error:  # noqa: BLE001 - the view's policy is asked
            return error
        return None

    # Beside a live view.

    @property
    def storage(self) -> ViewStorage:
        """Where its state is."""
        return self._storage

    def beside(self) -> StoredActor:
        """One whose database is new, for the same view: what brings it on is `bring`, and no caller asks it.

        Raises:
            StorageAway: not now.
        """
        storage, log, app, index = self._storage.beside(), self._log, self._app, self._index
        return StoredActor(app, index, self._limits, self._reader, Observer(), None, storage, log)

    async def bring(self, until: int, slicer: Slicer, on_page: Callable[[], None] = lambda: None) -> None:
        """Bring the database from the log to the commit of that number; if it is there or beyond, open it.

        Raises:
            ViewUnavailable: the database can't be written now.
            Exception: the log can't be read, or the database can't be used.
        """
        try:
            if not self._is_open:
                await self._open()
                self._is_open = True
                self._moved()
            reader = self._reader(self.read.head)
            while self.read.head.number < until and self.read.fault is None:
                page = await reader.page()
                if page is None:
                    return
                await self._apply_all([each for each in page if each.head.number <= until], slicer)
                on_page()
        except (StorageAway, StorageMoved) as error:
            raise ViewUnavailable(self.name, str(error)) from error

    async def told(self, answer: Callable[[Any, Any], Any], query: Any) -> Any:
        """What the database answers to a question, now.

        Raises:
            Exception: what answering raised.
        """
        return (await in_thread(self._storage.question(answer, query).run, limiter=self._questions, leave=True))[0]

    async def differing(self, other: StoredActor, most: int) -> tuple[int, list[tuple[Any, Any, Any]]]:
        """What another one has otherwise; see `ViewStorage.differing`.

        Raises:
            ViewUnavailable: one of them can't be read now.
        """
        try:
            return await in_thread(self._storage.differing, other.storage, most)
        except StorageAway as error:
            raise ViewUnavailable(self.name, str(error)) from error

    async def take(self, made: StoredActor) -> ViewStorage:
        """Go on with the database of one that was made beside it, at the same commit; returns the one before. The
        caller holds `still`.

        Raises:
            ViewUnavailable: not now: the live one stays.
        """
        before, is_faulted = self._storage, self.status is ViewStatus.FAULTED
        head, notes = made.read.head, made.read.notes()
        try:
            await to_the_end(self._in_thread(made.storage.take_place, before, head, notes))
        except StorageAway as error:
            raise ViewUnavailable(self.name, str(error)) from error
        self._storage, self._saved, self._is_open = made.storage, (head, notes), True
        self.read.rewind(head, notes)
        if is_faulted and self._life.on(ViewEvent.MENDED):
            self._signal()
        self._moved()
        self.watches.changed()
        return before

    async def replay_parked(self, keep: object, *, without: int | None = None) -> int:
        """Try again what is parked, between two commits; what comes of it is one transaction.

        Args:
            keep: of no use here.
            without: the position of an event that is left out for good.

        Returns:
            How many were left out for good.

        Raises:
            EngineClosed: the view takes nothing any more.
            ViewUnavailable: the database can't be written now.
        """
        async with self.still:
            if self._stopping:
                raise EngineClosed("closing")
            if not self.read.is_sound or not self._is_open:
                return 0
            left_out = self.read.noted(self.read.notes())
            skipped = 0 if without is None else left_out.skip(without)
            try:
                applied, notes = await self._in_thread(self._try_again, left_out)
            except (StorageAway, StorageMoved, TransactionEnded) as error:
                raise ViewUnavailable(self.name, str(error)) from error
            self._saved = self.read.head, notes
            self.read.rewind(self.read.head, notes)
            self.watches.changed()
            self._observer.parked_replayed(view=self.name, events=applied, parked=self.read.left_out.count)
        return skipped

    def _try_again(self, left_out: Any) -> tuple[int, bytes]:
        storage = self._storage
        storage.begin(self._saved[0])
        try:
            applied = self.read.try_parked(left_out, storage.try_these)
            notes = left_out.notes()
            storage.commit(self._saved[0], self.read.head, notes)
        finally:
            storage.rollback()
        return applied, notes

    async def _in_thread(self, function: Callable[[*_Arguments], T], *arguments: *_Arguments) -> T:
        return await in_thread(function, *arguments, limiter=self._writing)
