"""What a server serves: an `Engine`, or a `Replica`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from millstream.engine.application.app import App
from millstream.engine.application.messages import Query
from millstream.engine.errors import NotYetVisible
from millstream.engine.gateway import Gateway
from millstream.engine.limits import Limits
from millstream.engine.observers import Observer
from millstream.engine.read.row_watches import RowWatch
from millstream.engine.read.watches import Watch
from millstream.engine.stats import ViewStats
from millstream.engine.stores.port import Log
from millstream.engine.write.admission import Admission

__all__ = ["Backend", "BackendStats", "not_yet"]


class BackendStats(Protocol):
    """What the figures of either have in common. They are a Struct."""

    @property
    def views(self) -> Mapping[str, ViewStats]:
        """By name."""
        ...


class Backend(Gateway, Protocol):
    """An open engine or replica."""

    @property
    def app(self) -> App:
        """What it runs."""
        ...

    @property
    def limits(self) -> Limits:
        """Its bounds."""
        ...

    @property
    def log(self) -> Log:
        """Where `follow` reads."""
        ...

    @property
    def observers(self) -> Observer:
        """The observer of what happens in it, and in its server."""
        ...

    @property
    def status(self) -> str:
        """``open``, or what it is instead."""
        ...

    @property
    def role(self) -> Literal["writer", "replica"]:
        """Whether it decides commands, or passes them on."""
        ...

    @property
    def admission(self) -> Admission | None:
        """The way in for commands, where it decides them itself."""
        ...

    @property
    def not_ready(self) -> list[str]:
        """What keeps it from deciding commands, in words; nothing if it does, or does not have to."""
        ...

    @property
    def position(self) -> int:
        """The last event that it knows to be durable."""
        ...

    def require_position(self, after: int) -> None:
        """Refuse a position that the log has not come to, where that is known."""
        ...

    def require_loop(self) -> None:
        """Refuse to be used on another event loop than it was opened on."""
        ...

    def stats(self) -> BackendStats:
        """Figures of this moment."""
        ...

    def answer_now(self, query: Query[Any], after: int, incomplete: bool) -> tuple[Any, int] | None:
        """An answer and its position, if nothing has to be waited for."""
        ...

    async def open_watch(
        self, query: Query[Any], *, after: int = 0, every: bool = False, incomplete: bool = False
    ) -> Watch:
        """A watch whose answers come as JSON."""
        ...

    async def open_row_watch(
        self, query: Query[Any], *, key: str | None = None, after: int = 0, incomplete: bool = False
    ) -> RowWatch:
        """A watch of rows whose changes come as JSON."""
        ...


def not_yet(backend: Backend, query: Query[Any], after: int, seconds: float) -> NotYetVisible:
    """What is said to who has waited for so long for a position to be answered at."""
    view = backend.app.views[backend.app.queries[type(query)].view].__name__
    return NotYetVisible(view, backend.stats().views[view].position, after, seconds)
