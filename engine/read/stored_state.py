"""A view whose state lies in a database: its events become statements, which are executed elsewhere.

Here: from events to statements, and what is left out. Not here: executing them (`storage`), and when (`stored_actor`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any, ClassVar

from millstream.engine.application.interrupts import INTERRUPTS
from millstream.engine.application.methods import Method
from millstream.engine.commits.applied import Applied
from millstream.engine.commits.commit import Head
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.read.parked import LeftOut, Parked
from millstream.engine.read.state import ReadState

__all__ = ["StoredState"]


class StoredState(ReadState):
    """What such a view knows in memory: its head, what it has left out, and statements that wait to be executed."""

    has_past: ClassVar = False

    def reset(self) -> None:
        """Be new again."""
        self._statements: list[Any] = []
        super().reset()

    @property
    def applied_position(self) -> int:
        """The position of the event whose statements were given last."""
        assert self._applied is not None, "an event is applied"
        return self._applied.position

    def taken(self) -> list[Any]:
        """The statements since the last call, in order."""
        taken = self._statements[:]
        self._statements.clear()
        return taken

    def rewind(self, head: Head, notes: bytes) -> None:
        """Be as it was at a commit: what was gathered since was not written."""
        self._statements.clear()
        self.fault = None
        self.is_whole = True
        self.restored(head, notes)

    def one_by_one(self, decoded: DecodedCommit) -> Generator[list[Any], None, None]:
        """The statements of one event of a commit after another. Throw in what executing them raised."""
        self._applied = applied = Applied(self._app, decoded)
        for event in applied.left:
            apply = self.appliers.get(type(event))
            if apply is None:
                continue
            key = self._key_of(event)
            if key is not None and key in self.left_out.parked:
                self._park(applied, "")
            else:
                try:
                    apply(event)
                    yield self.taken()
                except (GeneratorExit, *INTERRUPTS):
                    raise
                except BaseException as error:  # noqa: BLE001 - kept, reported, and raised for every caller
                    self._poisoned(applied, error)
            if self.fault is not None:
                return
        self.head = decoded.head

    def try_parked(self, left_out: LeftOut, execute: Callable[[list[Any]], None]) -> int:
        """Try again what a copy of `left_out` has parked; returns how many events were applied.

        Args:
            left_out: the copy; it is changed.
            execute: executes the statements of one event, or raises and has executed none.
        """

        def again(parked: Parked) -> None:
            self._apply_one(parked)
            execute(self.taken())

        return left_out.try_again(again, self._code_version)

    def noted(self, notes: bytes) -> LeftOut:
        """What notes say that was left out.

        Raises:
            msgspec.DecodeError: they hold an event that can't be read any more.
        """
        return LeftOut.noted(notes, self.view, self._app.read_event, self._key_of)

    def _applier(self, method: Method) -> Callable[[Any], None]:
        bound: Callable[..., Iterable[Any]] = method.function.__get__(self.state)
        wants_about, statements = method.wants_more, self._statements
        more = statements.append

        def apply(event: Any) -> None:
            before = len(statements)
            try:
                for each in bound(event, self._about()) if wants_about else bound(event):
                    # A copy: what it goes on with may be the same dict.
                    more((each[0], {**each[1]}) if isinstance(each, tuple) else each)
            except BaseException:
                del statements[before:]
                raise

        return apply
