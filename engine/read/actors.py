"""An actor for each view of an application: in memory, or with a database of its own."""

from __future__ import annotations

from collections.abc import Callable

from millstream.engine.application.app import App
from millstream.engine.application.sides import ReadSide, keeps_elsewhere
from millstream.engine.commits.commit import Head
from millstream.engine.errors import DefinitionError
from millstream.engine.limits import Limits
from millstream.engine.observers import Observer
from millstream.engine.read.actor import ViewActor
from millstream.engine.read.storage import ViewStorage
from millstream.engine.read.stored_actor import StoredActor
from millstream.engine.stores.capabilities import Reachable
from millstream.engine.stores.port import Log
from millstream.engine.stores.reader import Reader

__all__ = ["actors_of", "storage_of"]


def actors_of(
    app: App,
    limits: Limits,
    reader: Callable[[Head], Reader],
    observer: Observer,
    wanted: Callable[[int], None],
    log: Log,
) -> list[ViewActor]:
    """The actors of an application's views, in its order; see `ViewActor` and `StoredActor`.

    Raises:
        DefinitionError: a view's class names a database that is none.
    """
    return [
        StoredActor(app, index, limits, reader, observer, wanted, storage_of(view, log), lambda: log)
        if keeps_elsewhere(view)
        else ViewActor(app, index, limits, reader, observer, wanted)
        for index, view in enumerate(app.views)
    ]


def storage_of(view: type[ReadSide], log: Log) -> ViewStorage:
    """Where a view keeps its state.

    Raises:
        DefinitionError: it names no database, and its log is no file.
    """
    file = None
    if isinstance(log, Reachable):
        scheme, _, file = log.address.partition(":")
        if scheme != "sqlite" and getattr(view, "database", None) is None:
            problem = "its database is a file beside the log, and this log is none: name one in its class, `database`"
            raise DefinitionError(problem, view.__name__)
    storage: ViewStorage = getattr(view, "__storage__")(file)  # noqa: B009
    return storage
