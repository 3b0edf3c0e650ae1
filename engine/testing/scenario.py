"""A scenario: given events, when a command, then events. No loop, no log, no time that passes by itself.

Here: what a test of an application's rules says, and what it gets when they are others. Not here: the engine with
its loop, and a store that fails (`simulation`).

What is decided is decided by the kernel that an engine decides with. Reactions, timers, effects and limits are as
there, handlers are checked for purity, and each commit is written and read back. So a rule that holds here holds there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from millstream.engine.application.app import App
from millstream.engine.application.copies import own
from millstream.engine.application.messages import Command, Event, Metadata, Query, Receipt
from millstream.engine.application.options import Terms
from millstream.engine.application.sides import RetiredSide
from millstream.engine.application.validation import (
    checked_command_id,
    checked_metadata,
    checked_version,
    payload_digest,
)
from millstream.engine.errors import MillstreamError, NotOnAgenda, Rejected, UnknownMessage
from millstream.engine.limits import Limits
from millstream.engine.observers import Fault
from millstream.engine.testing.errors import SimulationError
from millstream.engine.testing.fakes import Fakes
from millstream.engine.testing.told import of_the_application, require_equal, said_of, why_parked
from millstream.engine.testing.written import Written
from millstream.engine.write.cascade import decide_owed, fire
from millstream.engine.write.entries import Name, Settlement, Timer, id_of, name_of
from millstream.engine.write.kernel import decide
from millstream.engine.write.rows import Rows
from millstream.engine.write.settling import settle, take_performed
from millstream.engine.write.state import WriteState

__all__ = ["Scenario"]

Answer = TypeVar("Answer")

_BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
#: Timers that are sent in one `advance`: more set each other without an end.
_FIRED_MAX = 100_000
#: Effects that are performed in one `perform`: more lead to each other without an end.
_PERFORMED_MAX = 10_000


class Scenario:
    """One application, from its first event on: ``given``, ``when``, ``then``.

        with Scenario(theatre) as scenario:
            scenario.given(Opened("hamlet", 3))
            scenario.when(Hold("hamlet", "o1", 2))
            scenario.then(Held("hamlet", "o1", (1, 2)))
            scenario.advance(minutes=10)
            scenario.then(Released("hamlet", "o1"))

    As a context manager it ends with `check` and `close`. What went wrong, and no ``then_…`` expects, fails at the next
    step.

    Args:
        app: the application. Its views take part, so that they can be asked.
        now: the time of day at the beginning, as an aware datetime.
        limits: the engine's.
        effects: fakes, instances of the application's classes of effects: `perform` performs what is owed with them.
            All live on one loop, from the first effect to `close`. As in an engine those that are async context
            managers are entered before that effect, in the order given, and left at the end.

    Raises:
        DefinitionError: a state can't be looked at for purity; ``effects`` are not one instance of a class of its.
    """

    def __init__(
        self,
        app: App,
        *,
        now: datetime = _BEGINNING,
        limits: Limits | None = None,
        effects: Iterable[object] = (),
    ) -> None:
        self.app = app
        #: The time of day. `advance` moves it.
        self.now = now
        self._limits = limits or Limits()
        self._fakes = Fakes(app, effects, self._limits)
        self._written = Written(app, self._limits)
        #: What has happened since the last step.
        self._events: list[Event] = []
        self._outcome: Receipt[Any] | Rejected | None = None
        #: Refusals that no code of the application gets: of timers, and of what came of effects. Not expected yet.
        self._unheard: list[tuple[str, Rejected]] = []
        #: Faults of reactions, timers and effects, by the entry that is parked: not expected yet.
        self._parked: dict[str, BaseException | str] = {}
        #: All timers that were ever set.
        self._named: set[Name] = set()
        #: By id, all that is parked.
        self._known: set[str] = set()

    def __enter__(self) -> Self:
        self._fakes.hold()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        if error is None:
            try:
                self.check()
            finally:
                self.close()
            return
        try:
            self.close()
        except Exception as left:  # noqa: BLE001 - the test has failed by then, and says why
            error.add_note(f"and when its fakes were left: {left!r}")

    # Steps.

    def given(self, *messages: Event | RetiredSide | Command[Any]) -> None:
        """Say what has happened before: events, without what their reactions and effects did then, and without timers,
        which only commands set; or commands, which are decided.

        An event may be a retired one of ``App(retired=…)``: it is written as it is, and applied as what it means today.
        A retired command is not given: only a timer that older code has set can hold one.

        Raises:
            AssertionError: a command is refused, or something that follows from it fails.
            UnknownMessage, InvalidMessage: it is none of the application, or not what its class declares.
            EventsUnreadable: the ``upcast`` of a retired one failed.
            ApplyFailed: a model could not apply it. Nothing of it is left.
        """
        __tracebackhide__ = True
        self._begin()
        for message in messages:
            if isinstance(message, Command):
                self._send(message, None)
            else:
                self._written.give(message, self.now)
            self._begin()

    def when(
        self,
        command: Command[Any],
        *,
        metadata: Metadata | None = None,
        command_id: str | None = None,
        expected_version: int | None = None,
    ) -> None:
        """Send a command, and let what follows from it follow. The arguments are those of `Engine.execute`.

        A refusal by its handler is no error here: `then_refused` expects it.

        Raises:
            AssertionError: something of the step before went wrong, and was not expected; or a timer was called off
                that was never set.
            MillstreamError: whatever `Engine.execute` raises but `Rejected`. The scenario goes on without the command.
        """
        __tracebackhide__ = True
        self._begin()
        command = self.app.own_command(command)
        terms = None
        if command_id is not None or expected_version is not None or metadata is not None:
            terms = Terms(
                None if command_id is None else checked_command_id(command_id),
                "" if command_id is None else payload_digest(command),
                None if expected_version is None else checked_version(expected_version),
                None if metadata is None else checked_metadata(metadata),
            )
        self._send(command, terms)

    def advance(self, by: timedelta | None = None, /, **by_parts: float) -> None:
        """Let time pass: all timers that are due until then are sent, each at its time.

        Args:
            by: how long; or
            by_parts: the same as for a `timedelta`: ``minutes=10``.

        Raises:
            ValueError: time does not go back.
            AssertionError: something of the step before went wrong, and was not expected; or timers set each other
                without an end.
        """
        __tracebackhide__ = True
        self._begin()
        began = self.now
        until = began + (timedelta(**by_parts) if by is None else by)
        if until < self.now:
            raise ValueError(f"time does not go back: {until - self.now}")
        for _ in range(_FIRED_MAX):
            timer = min(self._state.agenda.timers.values(), key=lambda each: each.due, default=None)
            if timer is None or datetime.fromisoformat(timer.due) > until:
                break
            self.now = max(self.now, datetime.fromisoformat(timer.due))
            rows = self._rows()
            fire(timer, self._state, rows, self._limits)
            self._write_down(rows)
        else:
            raise AssertionError(f"{_FIRED_MAX:,} timers were sent, and there are more: they set each other")
        self._fakes.pass_time((until - began).total_seconds())
        self.now = until

    def perform(self, *methods: str, crash: bool = False) -> None:
        """Let fakes do what is owed to the outside world, and what comes to be owed by that, until nothing is left.

        It goes method by method, each in the order of the events. No time passes: a fake may sleep or time out, and
        attempts that fail are made again at once. For what never answers, don't call this. As in an engine, what
        came of an effect and can't be decided or applied is parked, and nothing is performed again: `then_parked`.

        Args:
            methods: only effects of these, as the log calls them: ``Payments.charge``. All that have a fake, if none.
            crash: the program ends after each was performed and before the log knows what came of it: all is owed
                still, and what its fake raised has no taker. Performed again, it has the same `Attempt.id`.

        Raises:
            AssertionError: something of the step before went wrong, and was not expected; a fake raised it; or effects
                lead to each other without an end.
            UnknownMessage: there is no such method.
            InvalidMessage: there is no fake for it.
            SimulationError: a loop runs in this thread; or a fake is to be entered, and the scenario is no ``with``.
            Stuck, NotSimulated: a fake goes round in circles, or wants a thread or a socket.
            BaseException: what a fake raised that is entered: in entering, or in a task that it keeps.
        """
        __tracebackhide__ = True
        self._begin()
        for number, (lane, effect) in enumerate(self._fakes.turns(lambda: self._state.agenda, methods)):
            if number >= _PERFORMED_MAX:
                raise AssertionError(f"{number:,} effects were performed, and there are more: they lead to each other")
            faults: list[Fault] = []
            performed = self._fakes.perform(lane, effect, faults.append)
            for fault in faults:
                if isinstance(fault.error, SimulationError | AssertionError) or _is_of_the_test(fault.error):
                    raise fault.error
            if crash:
                continue
            rows = self._rows()
            if performed.how == "parked":
                rows.faults += faults[-1:]
            take_performed(rows, performed, self._state, self._limits)
            self._write_down(rows)

    def retry(self, entry: str, *, again: bool = False) -> None:
        """Let what is parked be decided once more, as `Engine.agenda.retry` does: if it fails again, it is parked in
        this step. An effect is owed again, until `perform`.

        Args:
            entry: its id, as for `then_parked`.
            again: also where commands of a reaction had been decided: they stand, and are sent a second time.

        Raises:
            AssertionError: something of the step before went wrong, and was not expected.
            NotOnAgenda: there is no such entry.
            InvalidMessage: commands of it were decided, and ``again`` is not said; or it is not parked.
        """
        __tracebackhide__ = True
        self._settle(entry, "retried", again)

    def drop(self, entry: str) -> None:
        """Strike what is owed, waits for its time, or is parked, as `Engine.agenda.drop` does: it is never decided.

        Args:
            entry: its id, as for `then_parked`.

        Raises:
            AssertionError: something of the step before went wrong, and was not expected.
            NotOnAgenda: there is no such entry.
        """
        __tracebackhide__ = True
        self._settle(entry, "dropped")

    # What is expected of the last step.

    def then(self, *events: Event) -> None:
        """Expect exactly these events, in order, those of reactions among them; none: that nothing happened.

        Raises:
            AssertionError: others happened, or the command was refused; shows the difference.
        """
        __tracebackhide__ = True
        if isinstance(self._outcome, Rejected):
            raise AssertionError(f"the command was refused: {self._outcome}")
        failed = "".join(f"\n  {name} failed and is parked: {said_of(why)}" for name, why in self._parked.items())
        require_equal("what happened", list(events), self._events, failed)

    def then_refused(self, *codes: str) -> None:
        """Expect that the command of `when` was refused with that code; or exactly these refusals, in order, of what
        timers sent and effects led to in the last step.

        Raises:
            AssertionError: it was accepted, or others were refused, or with other codes.
        """
        __tracebackhide__ = True
        refused = [each for each in (self._outcome,) if isinstance(each, Rejected)]
        refused += [each for _, each in self._unheard]
        self._outcome, self._unheard = None, []
        if not refused:
            happened = "".join(f"\n  {event!r}" for event in self._events) or " nothing"
            raise AssertionError(f"nothing was refused; what happened:{happened}")
        if [each.code for each in refused] != list(codes):
            told = "".join(f"\n  {each}" for each in refused)
            raise AssertionError(f"what was refused is not {', '.join(map(repr, codes)) or 'nothing'}:{told}")

    def then_answer(self, answer: object) -> None:
        """Expect what the command answered.

        Raises:
            AssertionError: it answered something else, or was refused.
        """
        __tracebackhide__ = True
        if isinstance(self._outcome, Rejected) or self._outcome is None:
            raise AssertionError(f"the command answered nothing: {self._outcome or 'none was sent'}")
        if self._outcome.answer != answer:
            raise AssertionError(f"the command answered {self._outcome.answer!r}, and not {answer!r}")

    def then_timers(self, timers: Mapping[str, Command[Any]]) -> None:
        """Expect exactly these timers to wait: by name, the command of each. `timers` says when they are due.

        Raises:
            AssertionError: others wait.
        """
        __tracebackhide__ = True
        found = [(timer.title, self.app.command_today(timer.command.encode())) for timer in self.timers]
        require_equal("the timers", sorted(timers.items(), key=repr), sorted(found, key=repr))

    def then_effects(self, effects: Mapping[str, Sequence[Event]]) -> None:
        """Expect exactly these effects to be owed: by method, as the log calls it, the events to be performed.

        Raises:
            AssertionError: others are.
            UnknownMessage: there is no such method.
        """
        __tracebackhide__ = True
        for name in effects:
            if name not in self.app.effects_by_name:
                raise UnknownMessage("effect", name, self.app.name, tuple(self.app.effects_by_name))
        owed: dict[str, list[Event]] = {}
        for effect in self._state.agenda.effects.values():
            owed.setdefault(effect.by, []).extend(self.app.today(effect.event.encode()))
        expected = [(name, event) for name in sorted(effects) for event in effects[name]]
        found = [(name, event) for name in sorted(owed) for event in owed[name]]
        require_equal("what is owed to the outside world", expected, found)

    def then_parked(self, *entries: str) -> None:
        """Expect exactly these to have failed in the last step, by their ids: ``event:3/Selling.placed``,
        ``timer:hold/o7@s1``, ``effect:3/Payments.charge``, and ``outcome:3/Payments.charge`` for what came of that.

        Raises:
            AssertionError: others did.
        """
        __tracebackhide__ = True
        parked, self._parked = self._parked, {}
        beside = "".join(f"\n{name}: {said_of(why)}" for name, why in sorted(parked.items()) if name not in entries)
        require_equal("what is parked", sorted(entries), sorted(parked), beside)

    # Looking around.

    @property
    def outcome(self) -> Receipt[Any] | Rejected | None:
        """The last command's: its receipt, or its refusal; None if the last step sent none."""
        return self._outcome

    @property
    def happened(self) -> list[Event]:
        """The events of the last step, in order."""
        return list(self._events)

    @property
    def timers(self) -> list[Timer]:
        """Those that wait, the earliest first."""
        return sorted(self._state.agenda.timers.values(), key=lambda timer: timer.due)

    def ask(self, query: Query[Answer], *, incomplete: bool = False) -> Answer:
        """What a view answers: a copy; also without events that it has left out, if an ``incomplete`` one will do.

        Raises:
            UnknownMessage: no view answers it.
            NotKept: its view keeps its state in a database.
            ViewIncomplete: the view has left out events; the error holds its answer.
            BaseException: whatever the view raised, now or when it applied an event.
        """
        entry = self.app.queries.get(type(query))
        if entry is None:
            known = tuple(each.tag for each in self.app.queries.values())
            raise UnknownMessage("query", type(query).__name__, self.app.name, known)
        view = self._written.view_to_ask(entry.view)
        if view.fault is not None:
            raise view.fault[1]
        answer: Answer = own(entry.method.function(view.state, query))
        if view.is_incomplete and not incomplete:
            raise view.incomplete(query, answer)
        return answer

    def state(self, model: type[Any], key: str | None = None) -> Any:
        """What a model holds: its instance; of an aggregate that of a key, or None."""
        held = self._state.models[self.app.models.index(model)]
        return held if key is None else held.get(key)

    def check(self) -> None:
        """Expect that nothing is left unexpected, and that a replay makes the same of all that was written.

        Raises:
            AssertionError: something of the last step went wrong, and was not expected.
            BrokenPromise: the state of a model or a view is not what a replay makes.
        """
        __tracebackhide__ = True
        self._begin()
        self._written.require_replay()

    def close(self) -> None:
        """Leave the fakes that were entered, and cancel what they have left running; again: do nothing.

        Raises:
            SimulationError: a loop runs in this thread.
            Stuck: one can't be left.
            BaseException: what one of them raised.
        """
        self._fakes.close()

    # How it works.

    @property
    def _state(self) -> WriteState:
        return self._written.state

    def _begin(self) -> None:
        """A step begins: nothing of the last one may be left that was not expected."""
        __tracebackhide__ = True
        outcome, parked, unheard = self._outcome, self._parked, self._unheard
        self._outcome, self._parked, self._unheard, self._events = None, {}, [], []
        if isinstance(outcome, Rejected):
            raise AssertionError(f"a command was refused, and nothing expects that: {outcome}") from of_the_application(
                outcome
            )
        for name, refused in unheard:
            cause = of_the_application(refused)
            raise AssertionError(f"what {name} sent was refused, and nothing expects that: {refused}") from cause
        for name, why in parked.items():
            error = of_the_application(why) if isinstance(why, BaseException) else None
            raise AssertionError(f"{name} failed and is parked, and nothing expects that: {said_of(why)}") from error

    def _rows(self) -> Rows:
        return self._written.rows(self.now)

    def _send(self, command: Command[Any], terms: Terms | None) -> None:
        __tracebackhide__ = True
        rows = self._rows()
        decide([(None, command, terms)], self._state, rows, self._limits)
        (outcome,) = rows.outcomes
        self._write_down(rows)
        if isinstance(outcome, MillstreamError) and not isinstance(outcome, Rejected):
            raise outcome
        self._outcome = outcome

    def _settle(self, entry: str, how: str, again: bool = False) -> None:
        __tracebackhide__ = True
        self._begin()
        name = name_of(entry)
        if name is None:
            raise NotOnAgenda(entry, len(self._state.agenda))
        rows = self._rows()
        settle(rows, Settlement(name, how, again), self._state, self._limits)
        (outcome,) = rows.outcomes
        if isinstance(outcome, MillstreamError):
            raise outcome
        self._known.discard(id_of(name))  # if it is parked again, that is news
        self._write_down(rows)

    def _write_down(self, rows: Rows) -> None:
        """A commit is written and read back; what it owes is decided in the next one."""
        __tracebackhide__ = True
        for name in rows.not_timed:
            if name not in self._named:
                raise AssertionError(
                    f"Unschedule({name[1]!r}) of key {name[0]!r}: that timer was never set; events that are "
                    "given set none, so give the command that does"
                )
        self._named.update(timer.name for timer, _ in rows.timed)
        self._events += self._written.write(rows)
        self._unheard += rows.unheard
        self._note_parked([fault.error for fault in rows.faults])
        if self._state.is_due:
            owed = self._rows()
            decide_owed(self._state, owed, self._limits)
            self._write_down(owed)

    def _note_parked(self, faults: Sequence[BaseException]) -> None:
        parked = {entry.id: entry for entry in self._state.agenda.parked.values()}
        self._parked |= {name: why_parked(entry, faults) for name, entry in parked.items() if name not in self._known}
        self._known = set(parked)


def _is_of_the_test(error: BaseException) -> bool:
    """Whether this is how a test ends itself, such as `pytest.fail`: no error, and no cancellation."""
    return not isinstance(error, Exception | asyncio.CancelledError)
