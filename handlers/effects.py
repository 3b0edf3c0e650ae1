"""Effects: what is done to the outside world because of an event, after the event is durable.

A handler decides, and does nothing. An effect does, and decides nothing: it gives back the command that is to be
decided because of how it went.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, TypeVar, cast, overload

from millstream.engine.application.effects import (
    TERMS,
    AfterParked,
    EffectMethod,
    Terms,
    declared_effects,
)
from millstream.engine.application.messages import Command
from millstream.engine.application.methods import mark

__all__ = ["Effects", "gave_up", "performs"]

Performs = TypeVar("Performs", bound=Callable[..., Coroutine[Any, Any, Command[Any] | None]])
GivesUp = TypeVar("GivesUp", bound=Callable[..., Command[Any] | None])


class Effects:
    """The base of classes that act on the outside world: ``App(…, effects=[Payments])`` declares them.

    An engine makes an instance of each without arguments, or is given it: ``Engine(app, effects=[Payments(client)])``.
    One that is an async context manager is entered when the engine opens, and left when it closes.

    Raises (when the class is made):
        DefinitionError: a method with ``@performs`` is no coroutine function, has no usable annotations, or terms that
            are none; one with ``@gave_up`` has nothing to give up, or there are two for one event.
    """

    __effects__: ClassVar[tuple[EffectMethod, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__effects__ = declared_effects(cls)


@overload
def performs(method: Performs, /) -> Performs: ...
@overload
def performs(
    *,
    attempts_max: int = ...,
    timeout_seconds: float = ...,
    concurrency_max: int = ...,
    per_second: float | None = ...,
    backoff_seconds: float = ...,
    backoff_seconds_max: float = ...,
    after_parked: AfterParked = ...,
    name: str | None = ...,
) -> Callable[[Performs], Performs]: ...
def performs(method: Any = None, /, *, name: str | None = None, **terms: Any) -> Any:
    """Mark a method as one that performs events of one type in the outside world.

    ``async def charge(self, event: PaymentRequested, attempt: Attempt) -> Confirm | None``. The effect is owed from the
    commit of its event on: a crash forgets none. It is performed at least once, and may be performed again after a
    crash: give ``attempt.id`` to the outside world, so that it can tell. It runs when the commit is durable, and never
    in a replay, a replica, a preview or a simulation. What it returns is decided like a caller's command, with the
    actor, correlation, trace and extra of the command that led to the event; one commit strikes the effect and
    holds what came of it. It is never called again for what the application's own code did with its answer: a command
    that is refused is recorded, one whose handler fails is parked, and can be decided again.

    The effects of one method for events of one key are performed in the order of the events, each after what came of
    the one before is durable; of different keys, and of events without one, at the same time.

    Args:
        method: the method.
        attempts_max: how often it is called, since the engine was opened, until it is given up, or parked where no
            method with `gave_up` is there. More than 1 needs ``millstream[effects]``. Between attempts it waits, longer
            each time, and differently for each effect.
        timeout_seconds: an attempt that takes longer is cancelled, and has failed.
        concurrency_max: how many are performed at the same time; what waits for its next attempt counts.
        per_second: how many attempts may begin in a second.
        backoff_seconds: about how long it waits before the second attempt, and twice as long before each that follows.
        backoff_seconds_max: the longest that it waits.
        after_parked: what becomes of the later ones of a key while one of it is parked: they ``"wait"`` for it, or
            ``"pass"``.
        name: what the log calls it. ``Class.method`` by default: where one of the two is renamed, keep the old name
            here, or say so in ``App(renamed=…)``.

    Raises (when the class is made):
        DefinitionError: it is no coroutine function, has no usable annotations, or a term that is none.
        TypeError: there is no such term.
    """
    if method is None:
        unknown = terms.keys() - set(Terms._fields)
        if unknown:
            raise TypeError(f"@performs has no {', '.join(sorted(unknown))}")

        def marked(function: Any) -> Any:
            mark(function, "performs", name)
            setattr(function, TERMS, Terms(**terms))
            return function

        return marked
    return cast(Any, mark(method, "performs"))


def gave_up(method: GivesUp) -> GivesUp:
    """Mark a method as the one that says what follows when all attempts at an event of one type have failed.

    ``def charge_failed(self, event: PaymentRequested, attempt: Attempt, problem: str) -> CancelOrder | None``, a plain
    function of a class with `performs` for the same event. ``attempt`` is the last one, ``problem`` what it failed
    with. What it returns is decided, and the effect is struck; one that raises parks the effect.

    Raises (when the class is made):
        DefinitionError: it is no plain function, has no usable annotations, or nothing is there to be given up.
    """
    return cast(GivesUp, mark(method, "gave_up"))
