"""Is a history linearizable? Nothing is known of who executed it: only what clients asked, what came back, and when.

A history is linearizable if each operation can be given one moment between its invocation and its return so that, in
the order of these moments, every result is what a sequential model gives (Herlihy, Wing: "Linearizability: a
correctness condition for concurrent objects", TOPLAS 12 (3), 1990). An operation without a result may have such a
moment anywhere after its invocation, or none.

The search is that of Wing and Gong ("Testing and verifying concurrent objects", Journal of Parallel and Distributed
Computing 17, 1993): whatever was invoked before the first return may be first; try one, go on from the state that it
leaves, come back if that leads nowhere. With Lowe's addition ("Testing for linearizability", Concurrency and
Computation 29 (4), 2017), each pair of a set of operations and a state is looked at once. Linearizability is local
(Herlihy, Wing, theorem 1): a history of many objects is linearizable if, and only if, that of each object is. So
objects are searched one by one, as in Horn and Kroening, "Faster linearizability checking via P-compositionality",
FORTE 2015, and in Porcupine (https://github.com/anishathalye/porcupine).

Two things more keep real histories cheap. An operation that only looks, and may be next, is taken at once and for good:
in any order that exists from here on it can be moved to the front, and nothing else notices. (Not so one that happens
to leave this state as it is: a write of what is there already may be needed later, after another one.) And the
operations without a result are kept apart from the others and tried last: of the others only a few around the present
moment are neither surely done nor surely not, so a set is a number, some bits around it, and a bit for each operation
without a result.

Here: pure functions and values. To decide is NP-complete in general (Gibbons, Korach: "Testing shared memories", 1997),
so a search has a limit of steps, and says `Undecided` when it gets there; never that all is well.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from math import inf
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from millstream.bench.proofs.histories.operations import Operation

__all__ = ["STEPS_MAX", "Linearizable", "Model", "Undecided", "Verdict", "Violation", "check", "check_each"]

#: Each is one look at whether one operation fits one state: one to three microseconds.
STEPS_MAX = 20_000_000

_SHOWN_MAX = 12

State = TypeVar("State", bound=Hashable)
Asked_contra = TypeVar("Asked_contra", contravariant=True)
Came_contra = TypeVar("Came_contra", contravariant=True)


class Model(Protocol[State, Asked_contra, Came_contra]):
    """What one object does when operations come one after another."""

    def first(self) -> State:
        """The state before any operation."""
        ...

    def apply(self, state: State, asked: Asked_contra, output: Came_contra | None) -> State | None:
        """The state after an operation, or None if no such result can come of it in this state.

        Args:
            state: what the operations before it have left; hashable, and never changed in place.
            asked: what was asked.
            output: what came back; None if that is not known, and then anything may have.
        """
        ...

    def only_looks(self, asked: Asked_contra, output: Came_contra | None) -> bool:
        """Whether an operation with this result leaves every state as it is. False is never wrong, only slower."""
        ...

    def too_late(self, state: State, asked: Asked_contra, output: Came_contra) -> bool:
        """Whether no operations can lead from this state to one in which this one can have had this result.

        False is never wrong. But where much was left open, states that can't come back are what keeps a search short:
        any of it might have happened at any time, and trying it at the wrong time must be noticed soon.
        """
        ...


class Linearizable(NamedTuple):
    """There is an order in which everything is right. Those of which no result came may be missing in it."""

    order: Sequence[Operation[Any, Any]]

    def __str__(self) -> str:
        return f"linearizable: {len(self.order):,} operations have an order in which every result is right"


class Violation(NamedTuple):
    """There is no such order.

    ``order`` is the longest that was found in which everything is right, and ``state`` what it leaves. Of what may come
    next, those in ``unfit`` do not fit; those in ``open`` have no result, and if they happen, that does not help.
    """

    order: Sequence[Operation[Any, Any]]
    state: Any
    unfit: Sequence[Operation[Any, Any]]
    open: Sequence[Operation[Any, Any]]
    #: How many operations have a result.
    known: int

    def __str__(self) -> str:
        right = sum(each.returned_at is not None for each in self.order)
        parts = [
            f"not linearizable: {right:,} of {self.known:,} operations with a result can be put in order, and no more.",
            *_listed("In this order everything is right:", self.order, last=True),
            f"That leaves {self.state}. These are next, and do not fit:",
            *_listed("", self.unfit),
            *(_listed("Without a result, so they may have happened, and that does not help:", self.open)),
        ]
        return "\n".join(part for part in parts if part)


class Undecided(NamedTuple):
    """The search was given up: the history may be right, or not."""

    steps_max: int

    def __str__(self) -> str:
        return f"undecided: no answer after {self.steps_max:,} steps"


Verdict: TypeAlias = Linearizable | Violation | Undecided


def check(model: Model[State, Any, Any], history: Iterable[Operation[Any, Any]], steps_max: int = STEPS_MAX) -> Verdict:
    """Search an order for the operations on one object.

    Of two operations, one must come before the other if it returned before the other was invoked; where both are at the
    same moment, it need not.

    Args:
        model: what the object does.
        history: the operations, in any order; their keys are not looked at.
        steps_max: how many times the model may be asked.

    Raises:
        ValueError: an operation returns before it is invoked, or has a result and no time at which it came.
    """
    return _Search(model, history, steps_max).run()


def check_each(
    model: Model[State, Any, Any], history: Iterable[Operation[Any, Any]], steps_max: int = STEPS_MAX
) -> dict[str, Verdict]:
    """Check the operations on many objects, each by itself: by their keys, in the order in which these first appear.

    Args:
        model: what each of the objects does.
        history: the operations, in any order.
        steps_max: how many times the model may be asked, for each object.

    Raises:
        ValueError: an operation returns before it is invoked, or has a result and no time at which it came.
    """
    objects: dict[str, list[Operation[Any, Any]]] = {}
    for operation in history:
        objects.setdefault(operation.key, []).append(operation)
    return {key: check(model, operations, steps_max) for key, operations in objects.items()}


class _Done(NamedTuple):
    """Which operations have had their moment.

    Of those with a result, in the order of their invocations: the first ``below``, and each one of the rest whose bit
    is set; the lowest bit, that of number ``below``, never is. Of those without: each whose bit is set.
    """

    below: int = 0
    above: int = 0
    open: int = 0

    def and_known(self, index: int) -> _Done:
        above = self.above | 1 << (index - self.below)
        passed = _ones(above)
        return _Done(self.below + passed, above >> passed, self.open)

    def and_open(self, index: int) -> _Done:
        return _Done(self.below, self.above, self.open | 1 << index)

    @property
    def known(self) -> int:
        """How many of those with a result."""
        return self.below + self.above.bit_count()


class _Step(NamedTuple, Generic[State]):
    """One operation more has had its moment."""

    operation: Operation[Any, Any]
    done: _Done
    state: State


class _GaveUp(Exception):
    """The limit of steps is reached."""


class _Search(Generic[State]):
    """The search on one object."""

    def __init__(self, model: Model[State, Any, Any], history: Iterable[Operation[Any, Any]], steps_max: int) -> None:
        operations = sorted(history, key=lambda each: each.invoked_at)
        for each in operations:
            if (each.output is None) != (each.returned_at is None):
                raise ValueError(f"an operation has a result or the time when it came, not both: {each!r}")
            if each.returned_at is not None and each.returned_at < each.invoked_at:
                raise ValueError(f"an operation returns before it is invoked: {each!r}")
        self._model = model
        self._known = [each for each in operations if each.returned_at is not None]
        self._returns = [each.returned_at for each in operations if each.returned_at is not None]
        self._looks = [model.only_looks(each.asked, each.output) for each in self._known]
        self._open = [
            each for each in operations if each.returned_at is None and not model.only_looks(each.asked, None)
        ]
        self._steps_max = steps_max
        self._steps = 0

    def run(self) -> Verdict:
        done, state = _Done(), self._model.first()
        path, longest = list[_Step[State]](), list[_Step[State]]()
        choices, seen = [self._choices(done, state)], {(done, state)}
        try:
            while done.below < len(self._known):
                step = next(choices[-1], None)
                if step is None:
                    if not longest or done.known > longest[-1].done.known:
                        longest = path.copy()
                    if not path:
                        return self._violation(longest)
                    choices.pop()
                    path.pop()
                    done = path[-1].done if path else _Done()
                elif (step.done, step.state) not in seen:
                    seen.add((step.done, step.state))
                    path.append(step)
                    done = step.done
                    choices.append(self._choices(done, step.state))
        except _GaveUp:
            return Undecided(self._steps_max)
        return Linearizable([step.operation for step in path])

    def _choices(self, done: _Done, state: State) -> Iterator[_Step[State]]:
        """What can be next; those that return first are tried first, those without a result last."""
        candidates, horizon = self._candidates(done)
        steps: list[_Step[State]] = []
        for index in candidates:
            operation = self._known[index]
            after = self._apply(state, operation)
            if after is None:
                if self._model.too_late(state, operation.asked, operation.output):
                    return
                continue
            steps.append(_Step(operation, done.and_known(index), after))
            if self._looks[index]:
                yield steps[-1]
                return
        yield from steps
        for index, operation in self._still_open(done, horizon):
            after = self._apply(state, operation)
            if after is not None and after != state:  # one without effect here need not have happened here
                yield _Step(operation, done.and_open(index), after)

    def _candidates(self, done: _Done) -> tuple[list[int], float]:
        """Which operations with a result may be next, by their returns; and when the first of them returns.

        An operation that is invoked after another one has returned must wait for that one. So none may be next that is
        invoked after the first return of all that are left, and that is the return of one that was invoked before.
        """
        index, horizon, found = done.below, inf, list[int]()
        while index < len(self._known) and self._known[index].invoked_at <= horizon:
            found.append(index)
            horizon = min(horizon, self._returns[index])
            index += 1
            index += _ones(done.above >> (index - done.below))
        found.sort(key=self._returns.__getitem__)
        return found, horizon

    def _still_open(self, done: _Done, horizon: float) -> Iterator[tuple[int, Operation[Any, Any]]]:
        for index, operation in enumerate(self._open):
            if operation.invoked_at > horizon:
                return
            if not done.open >> index & 1:
                yield index, operation

    def _apply(self, state: State, operation: Operation[Any, Any]) -> State | None:
        self._steps += 1
        if self._steps > self._steps_max:
            raise _GaveUp
        return self._model.apply(state, operation.asked, operation.output)

    def _fits(self, state: State, operation: Operation[Any, Any]) -> bool:
        return self._model.apply(state, operation.asked, operation.output) is not None

    def _violation(self, longest: list[_Step[State]]) -> Violation:
        while longest and longest[-1].operation.returned_at is None:
            longest.pop()  # it was tried last, and did not help
        done, state = (longest[-1].done, longest[-1].state) if longest else (_Done(), self._model.first())
        candidates, horizon = self._candidates(done)
        return Violation(
            [step.operation for step in longest],
            state,
            [each for each in map(self._known.__getitem__, candidates) if not self._fits(state, each)],
            [operation for _, operation in self._still_open(done, horizon)],
            len(self._known),
        )


def _ones(bits: int) -> int:
    """How many of the lowest bits are set, up to the first that is not."""
    return (~bits & (bits + 1)).bit_length() - 1


def _listed(heading: str, operations: Sequence[Operation[Any, Any]], *, last: bool = False) -> list[str]:
    """The operations as lines under a heading; of many the first ones, or the last ones."""
    if not operations:
        return []
    shown = operations[-_SHOWN_MAX:] if last else operations[:_SHOWN_MAX]
    lines = [f"  {each.line()}" for each in shown]
    if len(shown) < len(operations):
        lines.insert(0 if last else len(lines), f"  … {len(operations) - len(shown):,} more")
    return [heading, *lines]
