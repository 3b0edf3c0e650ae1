"""The write side's whole state: how a command is decided on it, and how events change it.

Here: the models and the index, and the tables to dispatch with. No loop, no I/O. Not here: batches (`batch`).

Invariant: a state changes by events alone, each checked before.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, cast

from msgspec.structs import replace

from millstream.engine.application.about import About, own_about
from millstream.engine.application.app import App, CommandEntry
from millstream.engine.application.interrupts import INTERRUPTS
from millstream.engine.application.messages import Command, Context, Event, Preview
from millstream.engine.application.promises import Given, Promise
from millstream.engine.application.purity import fingerprint
from millstream.engine.application.reactions import ReactionEntry
from millstream.engine.application.schedules import Schedule, Unschedule
from millstream.engine.application.sides import is_keyed
from millstream.engine.application.validation import encode, problem_with
from millstream.engine.commits.columns import text_bytes
from millstream.engine.commits.commit import Head
from millstream.engine.errors import (
    AnswerTooLarge,
    AnswerUnreadable,
    ApplyFailed,
    CommandIdReused,
    CommitTooLarge,
    HandlerFailed,
    ImpureHandler,
    InvalidMessage,
    LimitReached,
    MillstreamError,
    Rejected,
    UnknownMessage,
    VersionConflict,
    WrongShard,
)
from millstream.engine.errors.said import said_by
from millstream.engine.limits import Limits
from millstream.engine.snapshots.part import Part
from millstream.engine.write.endless import bounded, may_go_on
from millstream.engine.write.entries import Entry
from millstream.engine.write.parts import WriteParts, apply_failed
from millstream.engine.write.refusals import decided_at
from millstream.engine.write.room import GIVEN_BYTES_MAX, PLACE_BYTES_MAX, Sizes, following, timers_bytes
from millstream.engine.write.timing import Checked, apart, checked, own_timing

__all__ = ["WriteState"]


_AS_THEY_ARE = (
    Rejected,
    VersionConflict,
    CommandIdReused,
    WrongShard,
    CommitTooLarge,
    AnswerTooLarge,
    AnswerUnreadable,
    ImpureHandler,
    ApplyFailed,
    LimitReached,
)


class WriteState:
    """The write side's whole state: the models and the index; and how to decide on it and change it.

    Args:
        app: the application.
        parts: the models and the index, all at the same commit.
        limits: ``commit_bytes_max``, where a handler that goes on and on is stopped, ``answer_bytes_max`` and
            ``timers_max`` are honoured.
        check_purity: look at the state before and after each handler.
    """

    __slots__ = (
        "_check_purity",
        "_limits",
        "_models",
        "_parts",
        "agenda",
        "answered",
        "app",
        "asked",
        "effects",
        "exact_bytes_max",
        "handlers",
        "index",
        "performed",
        "sizes",
        "told",
        "yields",
    )

    def __init__(
        self,
        app: App,
        parts: WriteParts,
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        *,
        check_purity: bool = False,
    ) -> None:
        self.app = app
        self._models = [part.model_state for part in parts.models]
        self.index = parts.index
        self.agenda = parts.agenda
        #: What the last handler whose command promises an answer has returned.
        self.answered = Given(None, None)
        #: The events that a model applies with an `About`.
        self.asked = frozenset(
            event for event, entry in app.events.items() if any(method.wants_more for _, method in entry.appliers)
        )
        #: The `About` of the next one.
        self.told: About | None = None
        self._check_purity = check_purity
        self._parts = parts
        self._limits = limits
        bind = _purity_checked if check_purity else _bound

        def decider(entry: CommandEntry) -> Callable[..., Iterable[Event]]:
            handler = bind(self, entry)
            if entry.promise is not None:
                handler = _answering(self, handler, entry.promise, entry.tag, limits.answer_bytes_max)
            return _ending(handler, entry, limits.commit_bytes_max)

        #: By type of command: what decides it, whether with a context, its tag, its key, whether an aggregate decides,
        #: and what it promises.
        self.handlers = {
            command: (
                decider(each),
                each.method.wants_more,
                each.tag,
                each.key_of,
                is_keyed(app.models[each.model]),
                each.promise,
            )
            for command, each in app.commands.items()
        }
        states = self._models
        #: By type of event: what applies it, what its key is, the check that it is as reading would give it, and what
        #: reacts to it.
        self.effects = {
            event: (
                _all([states[i].applier(event, method, entry.key_of, self._tell) for i, method in entry.appliers]),
                entry.key_of,
                _never if entry.exact is None else entry.exact.check,
                app.reactions.get(event, ()),
            )
            for event, entry in app.events.items()
        }
        #: By type of event the effects that are owed for it.
        self.performed = {event: tuple(each.name for each in entries) for event, entries in app.effects.items()}
        #: The same as `effects`, with all that follows an event, or wants its `About`; and what handlers yield
        #: that is no event: its check says so.
        self.yields: dict[type[Any], tuple[Any, Any, Any, tuple[Any, ...]]] = {
            event: (*found[:3], (*found[3], *app.effects.get(event, ()), *([About] if event in self.asked else [])))
            for event, found in self.effects.items()
        }
        self.yields |= {Schedule: _TIMING, Unschedule: _TIMING}
        #: How many bytes of JSON an event has at most that passes its check.
        self.exact_bytes_max = max((each.exact.bytes_max for each in app.events.values() if each.exact), default=1)
        #: What its commits have beside events.
        self.sizes = Sizes.of(app)

    @classmethod
    def new(cls, app: App, receipts_max: int, *, check_purity: bool = False) -> WriteState:
        """The state before the first event."""
        return cls(app, WriteParts(app, Limits(receipts_max=receipts_max)), check_purity=check_purity)

    def _tell(self) -> About:
        """What is known about the event that is applied just now, for a method that asks."""
        assert self.told is not None, "an event that a model asks about is applied with its About"
        return own_about(self.told)

    @property
    def models(self) -> list[Any]:
        """What each model holds: its instance, or its instances by key."""
        return [model.held for model in self._models]

    def handler_of(self, entry: CommandEntry) -> Callable[..., Iterable[Event]]:
        """The function that decides a command of one type."""
        return self._models[entry.model].handler(entry)

    def deciding(self, entry: CommandEntry, command: Command) -> Any:
        """The instance that decides a command."""
        return self._models[entry.model].deciding(entry, command)

    def reacting(self, model: int, key: str | None) -> Any:
        """The instance of a model that reacts to an event of that key."""
        return self._models[model].reacting(key)

    def look(self) -> bytes:
        """What differs when the models differ, where purity is checked."""
        return fingerprint(self.models) if self._check_purity else b""

    @property
    def is_due(self) -> bool:
        """Whether something is owed that the application still has a reaction for."""
        return bool(self.agenda.owed) and bool(self.due())

    def due(self) -> list[tuple[Entry, ReactionEntry]]:
        """What is owed, in order, as far as the application still has such a reaction."""
        known = self.app.reactions_by_name
        return [(each, known[each.by]) for each in self.agenda.owed.values() if each.by in known]

    def version_of(self, key: str | None) -> int | None:
        """How many events a key has; None for none."""
        return None if key is None else self.index.versions.get(key, 0)

    def decide(self, command: Command, context: Context) -> Preview:
        """The events that ``command`` would yield on this state; the state stays as it is.

        Raises:
            Rejected: the handler said no.
            HandlerFailed: the handler failed, or yielded something that is not a valid event of this application.
            CommitTooLarge, AnswerTooLarge: it yielded, or answered, more than it may.
        """
        handler, wants_context, tag, key_of, keyed, promise = self.handlers[type(command)]
        yielded: list[Event] = []
        try:
            key = key_of(command)
            context = replace(context, version=self.version_of(key))
            yielded += handler(command, context) if wants_context else handler(command)
            own, timings = apart(yielded)
            found = checked(timings, self.app, self.agenda, context.now, self._limits, tag)
            data = self.app.encode_events(list(own))
            events = self.app.read_events(data)
            answer = self.answered.data if promise else None
            needed = self.bytes_needed(events, len(data), found, key, self._limits, answer) + self.sizes.once
            if needed > self._limits.commit_bytes_max:
                raise CommitTooLarge(tag, needed, self._limits.commit_bytes_max)
            if keyed:
                self.require_key(events, key)
            reactions = [each.name for event in events for each in self.effects[type(event)][3]]
            effects = [name for event in events for name in self.performed.get(type(event), ())]
            return Preview(events, reactions, [own_timing(each, self.app) for each in found], effects)
        except INTERRUPTS:
            raise
        except BaseException as error:  # noqa: BLE001 - sorted into a typed refusal
            refusal = decided_at(self.refusal(command, yielded, error), None)  # what it tells need not be durable
            raise refusal from refusal.__cause__

    def bytes_needed(
        self,
        events: Sequence[Event],
        size: int,
        timings: Sequence[Checked],
        key: str | None,
        limits: Limits,
        answer: bytes | None,
    ) -> int:
        """How many bytes of a commit a caller's command takes at most, with what may follow from it.

        Args:
            events: that it yielded.
            size: of these as JSON, at most.
            timings: that it yielded.
            key: the command's.
            limits: ``cascade_bytes_max`` is kept free where there are reactions.
            answer: as JSON, if its handler gave one.
        """
        owed = self.sizes.owed_by(events)
        needed = self.sizes.command + GIVEN_BYTES_MAX + size + len(events) * PLACE_BYTES_MAX
        if not events or self.effects[type(events[0])][1](events[0]) != key:  # else the event says it
            needed += text_bytes(key)
        if timings:
            needed += timers_bytes(timings, key)
        if answer is not None:
            needed += len(answer) + 1
        return needed + owed + following(limits) if owed else needed

    def require_key(self, events: Iterable[Event], key: str | None) -> None:
        """See that what an aggregate has yielded belongs to the key of its command.

        Raises:
            ValueError: an event does not; names both.
        """
        for event in events:
            if (theirs := self.effects[type(event)][1](event)) != key:
                raise ValueError(
                    f"it yielded {type(event).__name__} of key {theirs!r} for a command of key {key!r}: an aggregate "
                    "decides for its own key; a rule over several keys belongs into a WriteModel"
                )

    def apply_failed(self, events: Sequence[Event], event: Event, position: int, error: BaseException) -> ApplyFailed:
        """What is raised when one of the events that follow ``position`` could not be applied."""
        methods = [method for _, method in self.app.events[type(event)].appliers]
        return apply_failed(methods, events, event, position, error)

    def parts(self, head: Head) -> list[Part]:
        """The models and the index; the caller knows that they are at ``head``."""
        for part in self._parts.all:
            part.head = head
        return self._parts.all

    def refusal(self, command: Command, yielded: Iterable[Any], error: BaseException) -> MillstreamError:
        """What the caller gets when deciding failed with ``error`` after the handler had yielded so much."""
        if isinstance(error, _AS_THEY_ARE):
            return error
        cause, text = error, said_by(error)
        for event in yielded:
            if isinstance(event, Schedule | Unschedule):
                continue
            problem = problem_with(event, self.app.read_event)
            if problem is not None:
                cause = InvalidMessage(type(event).__name__, problem)
                if type(event) not in self.effects:
                    known = tuple(entry.tag for entry in self.app.events.values())
                    cause = UnknownMessage("event", type(event).__name__, self.app.name, known)
                text = f"it yielded a wrong event: {cause}"
                break
        failed = HandlerFailed(self.app.commands[type(command)].method.place, type(command).__name__, text)
        failed.__cause__ = cause
        return failed


def _all(appliers: list[Callable[[Any], None]]) -> Callable[[Any], None]:
    """One function that applies an event to every model that wants it: none, where only views do."""
    if len(appliers) == 1:
        return appliers[0]

    def apply(event: Any) -> None:
        for each in appliers:
            each(event)

    return apply


def _never(_: Any) -> bool:
    """The check of a class that has none: nothing passes."""
    return False


def _nothing(_: Any) -> None:
    """What is done with what is no event."""


_TIMING: tuple[Callable[[Any], None], Callable[[Any], str | None], Callable[[Any], Any], tuple[()]] = (
    _nothing,
    _nothing,
    _never,
    (),
)


def _ending(
    handler: Callable[..., Iterable[Event]], entry: CommandEntry, commit_bytes_max: int
) -> Callable[..., Iterable[Event]]:
    """The handler, with a count where it could go on for ever."""
    if not may_go_on(entry.method.function):
        return handler
    return bounded(handler, entry.tag, encode, commit_bytes_max)


def _answering(
    state: WriteState,
    handler: Callable[..., Iterable[Event]],
    promise: Promise,
    tag: str,
    answer_bytes_max: int,
) -> Callable[..., Iterable[Event]]:
    """The handler; when it has ended, what it returned was checked, and is ``state.answered``."""

    def answering(*arguments: Any) -> Iterator[Event]:
        answer = yield from cast("Generator[Event, None, Any]", handler(*arguments))  # else it gives None
        state.answered = promise.given(tag, answer, answer_bytes_max)

    return answering


def _bound(state: WriteState, entry: CommandEntry) -> Callable[..., Iterable[Event]]:
    return state.handler_of(entry)


def _purity_checked(state: WriteState, entry: CommandEntry) -> Callable[..., Iterable[Event]]:
    """The handler, with a look at the state before and after it."""
    decide = entry.method.function

    def checked(command: Any, *context: Any) -> Generator[Event, None, Any]:
        instance = state.deciding(entry, command)
        looked_at = [instance, *state.models]  # it is none of theirs where its key has none yet
        before = fingerprint(looked_at)
        try:
            return (yield from decide(instance, command, *context))
        finally:
            if fingerprint(looked_at) != before:
                raise ImpureHandler(entry.method.place, entry.tag)

    return checked
