"""Views whose state lies in a database, from outside: which databases there are, dropping what is old, and bringing on
the one of code that is to be deployed.

Here: all of it beside a writer, or without one. Not here: views in memory (`views`), and an engine that makes its own
view anew (`recovery.mending`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from millstream.engine.application.app import App
from millstream.engine.application.sides import keeps_elsewhere
from millstream.engine.commits.commit import Head
from millstream.engine.errors import UnknownMessage, ViewFaulted, ViewUnavailable
from millstream.engine.limits import Limits
from millstream.engine.loop.slices import Slicer
from millstream.engine.loop.threads import in_thread
from millstream.engine.loop.uncancelled import to_the_end
from millstream.engine.observers import Observer
from millstream.engine.read.actors import storage_of
from millstream.engine.read.storage import StorageAway, StorageUnknown, StoredAs
from millstream.engine.read.stored_actor import StoredActor
from millstream.engine.stores.owner import require_owner
from millstream.engine.stores.port import Log
from millstream.engine.stores.reader import Reader
from millstream.engine.upkeep.attached import attached

__all__ = ["actor_beside", "bring_on", "drop_stored_view", "make_anew", "stored_views"]

#: In a process that does nothing else, work still rests now and then, so that it can be ended.
_SLICE_MS = 20.0


async def stored_views(log: str | Path | Log, app: App) -> list[StoredAs]:
    """The databases of an application's views in SQL: those of this code, and those of other code beside them.

    Args:
        log: what `Engine` takes.
        app: the application.

    Raises:
        LogRefused: the log is not there, or is another application's.
        ViewUnavailable: a database can't be looked at now.
    """
    found: list[StoredAs] = []
    async with attached(log) as (opened, owner):
        require_owner(opened.name, owner, app.name)
        for view in filter(keeps_elsewhere, app.views):
            storage = storage_of(view, opened)
            try:
                found += await in_thread(storage.databases)
            except StorageAway as error:
                raise ViewUnavailable(view.__name__, str(error)) from error
            finally:
                await to_the_end(in_thread(storage.close))
    return found


async def drop_stored_view(log: str | Path | Log, app: App, name: str) -> None:
    """Remove a database of a view in SQL, by its name. That which is current is not removed; one of other code is: see
    that nothing runs that code any more.

    Args:
        log: what `Engine` takes.
        app: the application.
        name: as `stored_views` gives it.

    Raises:
        LogRefused: the log is not there, or is another application's.
        UnknownMessage: there is none of that name.
        ValueError: it is current.
        ViewUnavailable: it can't be removed now.
    """
    names: list[str] = []
    async with attached(log) as (opened, owner):
        require_owner(opened.name, owner, app.name)
        for view in filter(keeps_elsewhere, app.views):
            storage = storage_of(view, opened)
            try:
                there = [each.name for each in await in_thread(storage.databases)]
                names += there
                if name in there:
                    await in_thread(storage.drop, name)
                    return
            except StorageAway as error:
                raise ViewUnavailable(view.__name__, str(error)) from error
            finally:
                await to_the_end(in_thread(storage.close))
    raise UnknownMessage("database of a view", name, app.name, tuple(names))


@asynccontextmanager
async def actor_beside(log: Log, app: App, index: int, limits: Limits) -> AsyncIterator[StoredActor]:
    """A view's database, for a block in which nothing else of this process has it."""

    def reader(head: Head) -> Reader:
        return Reader(log, app, head, limits.read_bytes_max)

    storage = storage_of(app.views[index], log)
    actor = StoredActor(app, index, limits, reader, Observer(), None, storage, lambda: log)
    try:
        yield actor
    finally:
        await to_the_end(actor.close())


async def bring_on(actor: StoredActor, until: int, on_page: Callable[[], None]) -> None:
    """Bring a view's database to a commit of the log.

    Raises:
        ViewFaulted: today's code can't apply an event, or the database followed another history.
        ViewUnavailable: the database can't be used now.
        Exception: the log can't be read.
    """
    try:
        await actor.bring(until, Slicer(_SLICE_MS), on_page)
    except StorageUnknown as error:
        raise ViewFaulted(actor.name, actor.position, error) from error
    if actor.read.fault is not None:
        raise ViewFaulted(actor.name, *actor.read.fault) from actor.read.fault[1]


async def make_anew(actor: StoredActor, until: int, on_page: Callable[[StoredActor], None]) -> StoredActor:
    """Make a view's database anew beside the current one, and let it take its place; returns what has it now.

    Raises:
        ViewFaulted: today's code can't apply an event: the current one stays.
        ViewUnavailable: the database can't be used now: the current one stays.
        Exception: the log can't be read.
    """
    made, is_current = await in_thread(actor.beside), False
    try:
        await bring_on(made, until, lambda: on_page(made))
        await in_thread(made.storage.take_place, actor.storage, made.read.head, made.read.notes())
        is_current = True
    finally:
        await to_the_end(made.close())
        if not is_current:
            with suppress(Exception):  # it is listed, and can be dropped
                await to_the_end(in_thread(made.storage.drop))
    return made
