"""The write side's parts: each write model, and the write index.

Here: a model as something that follows the log. Not here: deciding (`state`), and the index itself (`index`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import ClassVar

from millstream.engine.application.about import About
from millstream.engine.application.app import App
from millstream.engine.application.applying import apply_all
from millstream.engine.application.interrupts import INTERRUPTS
from millstream.engine.application.messages import Event
from millstream.engine.application.methods import Method
from millstream.engine.application.sides import WriteSide
from millstream.engine.commits.applied import Applied
from millstream.engine.commits.columns import AGENDA
from millstream.engine.commits.commit import Head
from millstream.engine.commits.decoded import DecodedCommit
from millstream.engine.commits.marks import model_part
from millstream.engine.errors import ApplyFailed
from millstream.engine.errors.said import said_by
from millstream.engine.limits import Limits
from millstream.engine.snapshots.part import Part
from millstream.engine.snapshots.shape import fingerprint_of
from millstream.engine.stores.capabilities import Needing
from millstream.engine.stores.port import Log
from millstream.engine.write.agenda import Agenda
from millstream.engine.write.index import WriteIndex
from millstream.engine.write.models import new_state

__all__ = ["ModelPart", "WriteParts", "apply_failed"]


class ModelPart:
    """One write model.

    Args:
        app: the application.
        model: the model's class.
    """

    has_past: ClassVar = False
    fault = None
    is_sound = True

    def __init__(self, app: App, model: type[WriteSide]) -> None:
        self.name = model_part(model.__name__)
        self._app = app
        self._model = model
        self.reset()

    def reset(self) -> None:
        """Be new again."""
        self.model_state = new_state(self._model)
        #: What is put aside and taken up again.
        self.state = self.model_state.stored
        self.head = Head()
        self._appliers = {
            event: self.model_state.applier(event, method, self._app.events[event].key_of, self._tell)
            for event, method in self._model.__appliers__.items()
        }
        self._applied: Applied | None = None

    @property
    def fingerprint(self) -> str:
        """The shape of its class."""
        return fingerprint_of(self._model)

    def steps(self, decoded: DecodedCommit) -> Iterable[None]:
        """Apply the commit that follows, in one step.

        Raises:
            ApplyFailed: the model raised, and its state is unusable.
        """
        if decoded.head.number <= self.head.number:
            return ()
        if not self._appliers.keys().isdisjoint(decoded.types):
            events = decoded.events
            self._applied = applied = Applied(self._app, decoded)
            try:
                apply_all(self._appliers, applied.left, decoded.types)
            except INTERRUPTS:
                raise
            except BaseException as error:
                event = applied.event
                methods = (self._model.__appliers__[type(event)],)
                raise apply_failed(methods, events, event, decoded.start, error) from error
        self.head = decoded.head
        return ()

    def _tell(self) -> About:
        assert self._applied is not None, "an event is applied"
        return self._applied.about

    def snapshot(self) -> Iterator[bytes] | None:
        """The model's own pieces."""
        return self.state.snapshot()

    def notes(self) -> bytes:
        """None."""
        return b""

    def restore(self, piece: bytes) -> None:
        """Take up the next of the model's own pieces."""
        self.state.restore(piece)

    def restored(self, head: Head, _: bytes) -> None:
        """All pieces were taken up."""
        self.head = head


class WriteParts:
    """All parts of the write side, as new: the models, in the application's order, the index, and the agenda.

    Args:
        app: whose models they are.
        limits: ``receipts_max`` and ``receipts_bytes_max`` are the index's.
        log: what it holds may need an agenda, though nothing of the application adds to it any more.
    """

    def __init__(self, app: App, limits: Limits, log: Log | None = None) -> None:
        self.models = [ModelPart(app, model) for model in app.models]
        self._keeps_agenda = app.keeps_agenda or AGENDA in _needs(log)
        self.agenda = Agenda()
        receipts_bytes_max = limits.receipts_bytes_max
        self.index = WriteIndex(limits.receipts_max, self.agenda.begin, receipts_bytes_max=receipts_bytes_max)

    @property
    def all(self) -> list[Part]:
        """One list."""
        # Where nothing is owed or due, or ever was, it costs nothing.
        return [*self.models, self.index, *([self.agenda] if self._keeps_agenda else [])]


def _needs(log: object) -> Collection[str]:
    return log.needs if isinstance(log, Needing) else ()


def apply_failed(
    methods: Iterable[Method], events: Sequence[Event], event: Event, position: int, error: BaseException
) -> ApplyFailed:
    """What is raised when one of the events that follow ``position`` could not be applied.

    Args:
        methods: those that apply it.
        events: in order.
        event: the one among them.
        position: that of the last event before them.
        error: what was raised.
    """
    places = ", ".join(method.place for method in methods)
    index = next(index for index, each in enumerate(events) if each is event)
    failed = ApplyFailed(places, type(event).__name__, position + index + 1, said_by(error))
    failed.__cause__ = error
    return failed
