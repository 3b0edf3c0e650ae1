"""Views of changed code, made beside the running writer of a log: their states with their snapshots, so that the next
start takes them up at once; and what they answer, beside what a running server answers.

Here: both, from outside. Not here: an engine that makes its own view anew (`recovery.mending`).

Invariants: the log is only read; what is stored is durable in it, and stands beside the snapshots of other code.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec

from millstream.engine.application.app import App
from millstream.engine.application.interrupts import INTERRUPTS
from millstream.engine.application.messages import Query
from millstream.engine.application.methods import answer_type
from millstream.engine.application.sides import keeps_elsewhere
from millstream.engine.application.validation import encode, reader
from millstream.engine.errors import (
    AnswerFailed,
    InvalidMessage,
    LogRefused,
    MillstreamError,
    UnknownMessage,
    ViewFaulted,
)
from millstream.engine.errors.said import said_by
from millstream.engine.gateway import Gateway
from millstream.engine.limits import Limits
from millstream.engine.loop.clock import elapsed
from millstream.engine.loop.collector import collecting_young_only
from millstream.engine.loop.slices import Slicer
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.observers import Observer, Observers
from millstream.engine.read.bringing import bring, new_state
from millstream.engine.read.state import ReadState
from millstream.engine.read.stored_actor import StoredActor
from millstream.engine.recovery.catalog import Catalog, attached_catalog
from millstream.engine.recovery.taking import require_reachable
from millstream.engine.stores.address import log_at
from millstream.engine.stores.capabilities import snapshots_of
from millstream.engine.stores.errors import SnapshotsLocked
from millstream.engine.stores.finding import commit_of
from millstream.engine.stores.owner import require_owner
from millstream.engine.stores.port import Log
from millstream.engine.stores.snapshot_port import SnapshotStore
from millstream.engine.upkeep.stored_views import actor_beside, bring_on, make_anew

__all__ = ["ComparedAnswer", "MadeView", "compare_answers", "make_views"]

#: In a process that does nothing else, work still rests now and then, so that it can be ended.
_SLICE_MS = 20.0
_ITS_OWN = "give the log that the server writes"
#: How long to wait for another process that takes snapshots, and how often to look.
_TURN_SECONDS_MAX, _LOOK_SECONDS = 60.0, 0.05


class MadeView(msgspec.Struct, frozen=True):
    """What making a view's state has come to.

    It is that of ``position``, was made from the event after ``began_after`` on, and has ``left_out`` so many events.
    ``stored`` says whether it is in a snapshot now; a log line says why not. A view in SQL is in its database, whose
    size is given as 0.
    """

    view: str
    position: int
    began_after: int
    left_out: int
    size_bytes: int
    seconds: float
    stored: bool


class ComparedAnswer(msgspec.Struct, frozen=True):
    """What a server and the code here answer to a query, both at ``position``; or a text that says what went wrong."""

    query: Query[Any]
    position: int
    server: Any
    here: Any

    @property
    def differs(self) -> bool:
        """Whether the two are not equal. A NaN is the same as a NaN here."""
        return bool(self.server != self.here) and repr(self.server) != repr(self.here)  # NaN is the same as NaN


async def make_views(
    log: str | Path | Log,
    app: App,
    views: Iterable[str] = (),
    *,
    anew: bool = False,
    limits: Limits | None = None,
    on_progress: Callable[[str, int, int], None] = lambda view, position, head: None,
    observers: Iterable[Observer] = (),
) -> list[MadeView]:
    """Make the states of an application's views from a log, beside its writer or without one, and store snapshots.

    For code that is to be deployed: the writer, of the code before, goes on, and keeps its own snapshots. The next
    start of this code begins with what was made. Interrupted or killed at any moment, it leaves the snapshots before
    it. Needs the memory for the states of the views.

    Args:
        log: what `Engine` takes, in a store that other processes can read.
        app: the application as it is to be.
        views: their class names; by default those that have no snapshot that fits this code.
        anew: from the first event on, also where there is a snapshot that fits, which is dropped. Where the code was
            changed and ``code_version`` was not, millstream can't tell the two apart: raise it instead.
        limits: the engine's.
        on_progress: is called now and then with a view's name, a position, and that of the log's head.
        observers: are called with what is wrong with storing snapshots, beside the log lines.

    Raises:
        UnknownMessage: the application has no such view.
        LogRefused: the log is not there, is another application's, or no other process can read it.
        ViewFaulted: today's code can't apply an event. Nothing is stored.
        SnapshotsLocked: another process takes snapshots, and did so for a minute. A `LogLocked`.
        LogCorrupt, EventsUnreadable: as opening an engine does.
        Exception: a store failed.
    """
    limits, observer, views = limits or Limits(), Observers(observers), tuple(views)
    in_memory, elsewhere = _indexes(app, views)
    async with _attached(log, app) as found:
        made = [new_state(app, index, limits) for index in in_memory]
        if not anew:
            async with attached_catalog(found.snapshots, found, Observer()) as catalog:
                await catalog.restore(made, Slicer(_SLICE_MS), alone=True)
        if not views:
            made = [read for read in made if not read.head.number]
        began = [read.head.position for read in made]
        head = await found.head()
        seconds = []
        with collecting_young_only():
            for read in made:
                started = elapsed()

                def on_page(read: ReadState = read) -> None:
                    on_progress(read.view, read.head.position, head.position)

                await bring(read, app, found, limits, head.number, slicer=Slicer(_SLICE_MS), on_page=on_page)
                if read.fault is not None:
                    raise ViewFaulted(read.view, *read.fault) from read.fault[1]
                seconds.append(elapsed() - started)
        sizes = await _stored(found, made, limits, observer, anew=anew) if made else []
        in_sql = [
            await _made_elsewhere(found, app, index, limits, anew=anew, on_progress=on_progress) for index in elsewhere
        ]
    in_snapshots = map(_made_view, made, began, seconds, sizes)
    return [*in_snapshots, *(each for each in in_sql if views or each.position > each.began_after)]


def _made_view(read: ReadState, began_after: int, seconds: float, size_bytes: int | None) -> MadeView:
    left_out = read.left_out.count + read.left_out.skipped
    position, is_stored = read.head.position, size_bytes is not None
    return MadeView(read.view, position, began_after, left_out, size_bytes or 0, seconds, is_stored)


async def _made_elsewhere(
    log: Log, app: App, index: int, limits: Limits, *, anew: bool, on_progress: Callable[[str, int, int], None]
) -> MadeView:
    """The same of a view in SQL: its database is brought on, or made anew beside the current one."""
    started, head = elapsed(), await log.head()
    async with actor_beside(log, app, index, limits) as actor:

        def on_page(actor: StoredActor = actor) -> None:
            on_progress(actor.name, actor.head.position, head.position)

        began_after = 0
        if anew:
            actor = await make_anew(actor, head.number, on_page)
        else:
            await bring_on(actor, 0, on_page)
            began_after = actor.head.position
            await bring_on(actor, head.number, on_page)
        left_out = actor.read.left_out.count + actor.read.left_out.skipped
        return MadeView(actor.name, actor.head.position, began_after, left_out, 0, elapsed() - started, stored=True)


async def compare_answers(
    log: str | Path | Log,
    app: App,
    queries: Sequence[Query[Any]],
    server: Gateway,
    *,
    limits: Limits | None = None,
) -> list[ComparedAnswer]:
    """Put queries to a running application and to the code here, each to both at the same position.

    The states here are made from snapshots that fit this code, and from the log; nothing is stored, but the database of
    a view in SQL, which is this code's own, is brought on. What a view has left out is left out of its answers, on
    either side.

    Args:
        log: that of the running application, in a store that other processes can read.
        app: the application as it is to be.
        queries: what to ask.
        server: the running application, such as a `Client`.
        limits: the engine's.

    Raises:
        UnknownMessage: a query is none of ``app``'s.
        LogRefused: the log is not there, is another application's or not the server's, or no other process can read it.
        LogCorrupt, EventsUnreadable: as opening an engine does.
        ConnectionLost, NotAuthenticated, NotPermitted, DeadlineExceeded: the server does not answer.
        Exception: a store failed.
    """
    limits = limits or Limits()
    known = tuple(entry.tag for entry in app.queries.values())
    for query in queries:
        if type(query) not in app.queries:
            raise UnknownMessage("query", type(query).__name__, app.name, known)
    indexes = {app.queries[type(query)].view for query in queries}
    compared = []
    async with _attached(log, app) as found, AsyncExitStack() as stack:
        states: dict[int, ReadState | StoredActor] = {}
        for index in sorted(indexes):
            if keeps_elsewhere(app.views[index]):
                states[index] = await stack.enter_async_context(actor_beside(found, app, index, limits))
            else:
                states[index] = new_state(app, index, limits)
        in_memory = [read for read in states.values() if isinstance(read, ReadState)]
        async with attached_catalog(found.snapshots, found, Observer()) as catalog:
            await catalog.restore(in_memory, Slicer(_SLICE_MS), alone=True)
        for read in states.values():
            await _bring(read, app, found, limits, (await found.head()).number)
        for query in queries:
            entry = app.queries[type(query)]
            read = states[entry.view]
            answer, position = await _server_answers(server, query, found.name, read.head.position)
            head = await found.head()
            if position > head.position:
                problem = f"the server answers as of position {position:,}, and it ends at {head.position:,}"
                raise LogRefused(found.name, problem, _ITS_OWN)
            number = await commit_of(found, head.number, position)
            await _bring(read, app, found, limits, number)
            here = await _here_answers(read, entry.method.function, query)
            compared.append(ComparedAnswer(query, position, answer, here))
    return compared


async def _bring(read: ReadState | StoredActor, app: App, log: Log, limits: Limits, until: int) -> None:
    if isinstance(read, StoredActor):
        await read.bring(until, Slicer(_SLICE_MS))
    else:
        await bring(read, app, log, limits, until, slicer=Slicer(_SLICE_MS))


async def _server_answers(server: Gateway, query: Query[Any], log: str, after: int) -> tuple[Any, int]:
    """What a server answers at a position that is not before that, and which that is; or why it does not.

    Raises:
        LogRefused: the server's log does not come so far.
    """
    try:
        answered = await server.answer(query, incomplete=True)
    except (UnknownMessage, InvalidMessage, AnswerFailed, ViewFaulted) as error:
        return str(error), after
    if answered.position < after:
        try:
            answered = await server.answer(query, after=after, incomplete=True)
        except InvalidMessage as error:
            raise LogRefused(log, f"it has position {after:,}, and the server's has not", _ITS_OWN) from error
    return answered.answer, answered.position


async def _here_answers(side: ReadState | StoredActor, answer: Callable[[Any, Any], Any], query: Query[Any]) -> Any:
    """What a state answers, as it is once it was written as JSON; or why it does not."""
    read = side.read if isinstance(side, StoredActor) else side
    if read.fault is not None:
        return str(ViewFaulted(read.view, *read.fault))
    try:
        told = await side.told(answer, query) if isinstance(side, StoredActor) else answer(read.state, query)
        return reader(answer_type(type(query)))(encode(told))
    except INTERRUPTS:
        raise
    except MillstreamError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - it is what differs, or does not
        return str(AnswerFailed(read.view, type(query).__name__, said_by(error)))


def _indexes(app: App, views: Sequence[str]) -> tuple[list[int], list[int]]:
    """The views that are meant: those in memory, and those in SQL."""
    names = tuple(view.__name__ for view in app.views)
    for name in views:
        if name not in names:
            raise UnknownMessage("view", name, app.name, names)
    meant = [index for index, view in enumerate(app.views) if not views or view.__name__ in views]
    in_sql = [index for index in meant if keeps_elsewhere(app.views[index])]
    return [index for index in meant if index not in in_sql], in_sql


@asynccontextmanager
async def _attached(address: str | Path | Log, app: App) -> AsyncIterator[Log]:
    log = log_at(address)
    require_reachable(log)
    owner = await log.attach()
    try:
        require_owner(log.name, owner, app.name)
        yield log
    finally:
        await to_the_end(log.close())


async def _stored(
    log: Log, made: Sequence[ReadState], limits: Limits, observer: Observer, *, anew: bool
) -> list[int | None]:
    """The size of each one's snapshot; None if it could not be stored."""
    sizes: list[int | None] = []
    store = snapshots_of(log)
    async with _turn(store):
        await store.open(observer)
        try:
            catalog = Catalog(store, log, observer, kept_max=limits.snapshots_kept)
            for read in made:
                before = catalog.stored_bytes
                is_stored = await catalog.keep(read, Slicer(_SLICE_MS), alone=anew)
                sizes.append(catalog.stored_bytes - before if is_stored else None)
        finally:
            await to_the_end(store.close())
    return sizes


@asynccontextmanager
async def _turn(store: SnapshotStore) -> AsyncIterator[None]:
    """A block in which no other process takes snapshots; one that does now is waited for."""
    started = elapsed()
    async with AsyncExitStack() as stack:
        while True:
            try:
                await stack.enter_async_context(store.taking())
                break
            except SnapshotsLocked:
                if elapsed() - started > _TURN_SECONDS_MAX:
                    raise
                await anyio.sleep(_LOOK_SECONDS)
        yield
