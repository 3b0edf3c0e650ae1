"""Reactions: what follows from an event, decided at once and written in the same commit.

A reaction is for what *follows*: an order was placed, so seats are held. A rule that must hold or refuse the cause
belongs into the cause's handler, because what a command has led to stands, whatever its reactions do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeAlias, cast, overload

from millstream.engine.application.messages import Command, Event
from millstream.engine.application.methods import mark
from millstream.engine.application.reactions import Asking
from millstream.engine.application.schedules import Schedule, Unschedule
from millstream.engine.errors import Rejected

if sys.version_info >= (3, 13):
    from typing import TypeVar
else:
    from typing_extensions import TypeVar

__all__ = ["Decision", "Reaction", "answer_of", "reacts"]

Answer = TypeVar("Answer", default=None)

#: What a handler gives back that sets timers, or whose command promises an answer: it yields events and timers, and
#: returns the answer.
Decision: TypeAlias = Generator[Event | Schedule | Unschedule, None, Answer]

#: What a method with ``@reacts`` gives back: it yields commands and timers, and gets for each the refusal, or None.
Reaction: TypeAlias = Generator[Command | Schedule | Unschedule, Rejected | None, None]


def answer_of(command: Command[Answer]) -> Generator[Command | Schedule | Unschedule, Rejected | None, Answer]:
    """Send a command from a reaction, for its answer: ``seats = yield from answer_of(Hold(…))``.

    It is decided as one that is yielded. The answer is the reaction's own copy; None, if the command promises none.

    Raises:
        Rejected: the command's handler said no. A reaction that lets it pass is parked.
    """
    return cast(Answer, (yield cast(Command, Asking(command))))


Reacts = TypeVar("Reacts", bound=Callable[..., Iterable[Command | Schedule | Unschedule]])


@overload
def reacts(method: Reacts, /) -> Reacts: ...
@overload
def reacts(*, name: str) -> Callable[[Reacts], Reacts]: ...
def reacts(method: Any = None, /, *, name: str | None = None) -> Any:
    """Mark a method as one that follows events of one type with commands.

    ``def placed(self, event: Placed) -> Reaction``. It runs right after the command that the event is of, on the state
    that this command and whatever was decided since have left, and never in a replay. Each command that it yields is
    decided when it is yielded, and lies in the same commit as its cause, with the actor, correlation, trace and extra
    of that. ``refused = yield Hold(…)`` gives the `Rejected` of its handler, or None; any other error
    of that command is raised there. A `Schedule` or `Unschedule` that it yields sets or calls off a timer of its
    event's key. It must be pure: no I/O, no clock, no randomness, and no change of state.

    The reactions to a command's events run one after another: event by event, and for each event in the order of the
    models in `App` and of the methods in a class; those to the events of yielded commands come after all that wait.

    What was decided stands, whatever happens next. A reaction that raises, a `Rejected` too, or that yields what is no
    command of the application, undoes nothing: it is parked, with its error, until an operator retries it or
    drops it; ``receipt.parked`` counts those of a command. So is one at which the commands that follow from one
    command reach ``cascade_commands_max`` or ``cascade_bytes_max``; those that had not begun are decided next, before
    any other command.

    Args:
        method: the method.
        name: what the log calls it. ``Class.method`` by default: where one of the two is renamed, keep the old name
            here, or say so in ``App(renamed=…)``.

    Raises (when the class is made):
        DefinitionError: it is no plain method, or has no usable annotation.
    """
    if method is None:
        return lambda function: mark(function, "reacts", name)
    return cast(Any, mark(method, "reacts"))
