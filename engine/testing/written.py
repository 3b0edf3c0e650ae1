"""What has happened in a scenario: commits in memory, and the state and the views that follow from them.

Here: writing a commit and reading it back, events that are given, and a state that is made anew. Not here: what a
scenario does and expects (`scenario`), and deciding (`write`).

Invariant: the views have what was written and nothing else, and so has the state between two steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, cast

import msgspec

from millstream.engine.application.app import App, tag_of
from millstream.engine.application.messages import Event, Message
from millstream.engine.application.methods import key_field
from millstream.engine.application.sides import RetiredSide, keeps_elsewhere
from millstream.engine.application.validation import encode
from millstream.engine.commits.columns import Sheet
from millstream.engine.commits.commit import Commit, Head, seal, timestamp
from millstream.engine.errors import ApplyFailed, InvalidMessage, NotKept, UnknownMessage
from millstream.engine.limits import Limits
from millstream.engine.observers import Observer
from millstream.engine.read.state import ReadState
from millstream.engine.read.stored_state import StoredState
from millstream.engine.snapshots.part import Part
from millstream.engine.stores.memory import MemoryLog
from millstream.engine.stores.reader import Reader
from millstream.engine.testing.checks import require_alike
from millstream.engine.write.parts import WriteParts
from millstream.engine.write.rows import Rows
from millstream.engine.write.state import WriteState

__all__ = ["Written"]


class Written:
    """What has happened.

    Args:
        app: the application.
        limits: the engine's.

    Raises:
        DefinitionError: a state can't be looked at for purity.
    """

    def __init__(self, app: App, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._commits: list[Commit] = []
        self._reader = self._new_reader()
        self.views = self._new_views()
        #: What is decided on. A rebuild puts another one there.
        self.state = self._new_state(WriteParts(app, limits))

    def rows(self, now: datetime) -> Rows:
        """The next commit in the making."""
        return Rows(self._reader.head, now, now)

    def write(self, rows: Rows) -> Sequence[Event]:
        """Write a commit, if there is anything to write, and read it back; returns its events.

        A state that was damaged is made anew of what was written.
        """
        events: Sequence[Event] = ()
        if not rows.is_empty:
            commit = seal(self._reader.head, timestamp(rows.now), rows.body(self._app))
            rows.sealed(commit.digest)
            events = self._add(commit, [])
        if rows.is_damaged:
            self._rebuild()
        return events

    def give(self, event: Event | RetiredSide, now: datetime) -> None:
        """Write an event as some program has before, and apply what it means today.

        Raises:
            UnknownMessage, InvalidMessage: it is none of the application, or not what its class declares.
            EventsUnreadable: an ``upcast`` failed.
            ApplyFailed: a model could not apply it; nothing is written.
        """
        chunk, sheet, kind = self._stored(event), Sheet(), cast(type[Message], type(event))
        sheet.types.append("Given")
        name = key_field(kind)
        key = {} if name is None else {tag_of(kind): kind.__struct_encode_fields__[kind.__struct_fields__.index(name)]}
        commit = seal(self._reader.head, timestamp(now), sheet.body([chunk], key))
        self._add(commit, self.state.parts(self._reader.head))

    def require_replay(self) -> None:
        """See that a replay of all that was written comes to the same states.

        Raises:
            BrokenPromise: it does not.
        """
        parts: list[Part] = [*WriteParts(self._app, self._limits).all, *_in_memory(self._new_views())]
        self._replay(self._new_reader(), parts)
        require_alike([*self.state.parts(self._reader.head), *_in_memory(self.views)], parts)

    def _stored(self, event: Any) -> bytes:
        """An event as JSON, alone in a list."""
        app, kind = self._app, type(event)
        if kind not in app.events and kind not in app.retired:
            known = tuple(tag_of(each) for each in app.stored)
            raise UnknownMessage("event", kind.__name__, app.name, known)
        try:
            if kind in app.events:
                app.read_events(chunk := app.encode_events([event]))
                return chunk
            msgspec.json.decode(chunk := encode([event]), type=list[kind])  # type: ignore[valid-type]
        except (msgspec.ValidationError, TypeError) as error:
            raise InvalidMessage(kind.__name__, str(error)) from error
        return chunk

    def _add(self, commit: Commit, parts: Sequence[Part]) -> Sequence[Event]:
        """One more commit, which is new to these parts and the views."""
        (decoded,) = self._reader.decoded_commits([commit])
        try:
            for part in parts:
                for _ in part.steps(decoded):
                    pass
        except ApplyFailed:
            self._rebuild()
            raise
        self._commits.append(commit)
        for view in self.views:
            for _ in view.steps(decoded):
                pass
            if isinstance(view, StoredState):
                view.taken()
        return decoded.events

    def _rebuild(self) -> None:
        parts = WriteParts(self._app, self._limits)
        self._reader = self._new_reader()
        self._replay(self._reader, parts.all)
        self.state = self._new_state(parts)

    def _replay(self, reader: Reader, parts: Sequence[Part]) -> None:
        for decoded in reader.decoded_commits(self._commits):
            for part in parts:
                for _ in part.steps(decoded):
                    pass

    def view_to_ask(self, index: int) -> ReadState:
        """The state of a view that answers.

        Raises:
            NotKept: it lies in a database.
        """
        view = self.views[index]
        if isinstance(view, StoredState):
            raise NotKept(view.view, "simulation", "ask a real engine")
        return view

    def _new_reader(self) -> Reader:
        return Reader(MemoryLog(), self._app, Head(), 1)

    def _new_state(self, parts: WriteParts) -> WriteState:
        return WriteState(self._app, parts, self._limits, check_purity=True)

    def _new_views(self) -> list[ReadState]:
        most = self._limits.view_parked_max
        return [
            (StoredState if keeps_elsewhere(view) else ReadState)(self._app, view, parked_max=most, observer=Observer())
            for view in self._app.views
        ]


def _in_memory(views: Iterable[ReadState]) -> list[ReadState]:
    return [view for view in views if not isinstance(view, StoredState)]
